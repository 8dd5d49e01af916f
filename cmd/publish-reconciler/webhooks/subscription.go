package webhooks

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// Why a subscription is not verified.
var (
	// ErrToken is a verify token that is none of ours.
	ErrToken = errors.New("the verify token is not valid")
	// ErrTopic is a subscription to something else.
	ErrTopic = errors.New("hub.topic must be the feed of a YouTube channel, https://www.youtube.com/feeds/videos.xml?channel_id=…")
)

// Subscription is a GET by which a platform makes sure that we want its webhooks.
type Subscription struct {
	// Mode is subscribe or unsubscribe, or denied: the hub will send nothing, and wants no answer in particular.
	Mode string
	// Challenge is what has to be answered, as text; empty where Mode is denied.
	Challenge string
	// Topic is what is subscribed to; empty for Meta, which has none.
	Topic string
	// Lease is how long the hub will send, unless it is asked anew; zero where it does not say.
	Lease time.Duration
	// Reason is the hub's, of a denial.
	Reason string
}

// ParamToken is the verify token in YouTube's callback address itself, which WebSub's hubs leave as it is. It comes with
// every webhook, too.
const ParamToken = "token"

// maxChallenge bounds what is sent back.
const maxChallenge = 1024

// maxLease is ten years; a longer one is none.
const maxLease = 10 * 366 * 24 * 60 * 60

// VerifySubscription reads such a GET. The verify token is what Meta was told and sends as hub.verify_token ("Verification
// Requests" in https://developers.facebook.com/docs/graph-api/webhooks/getting-started); Google's hub sends it too where
// it was given, and else it stands in the callback's address as token, the unguessable address that WebSub, 8.2,
// recommends. WebSub, 5.3, is how a hub verifies, and 5.2 how it denies. The error is [ErrToken], [ErrTopic], or says
// which parameter is wrong.
func VerifySubscription(platform string, query url.Values, tokens [][]byte) (Subscription, error) {
	token := query.Get("hub.verify_token")
	if token == "" && platform == YouTube {
		token = query.Get(ParamToken)
	}
	if !isOneOf(token, tokens) {
		return Subscription{}, ErrToken
	}
	s := Subscription{Mode: query.Get("hub.mode"), Challenge: query.Get("hub.challenge")}
	modes := []string{"subscribe"}
	if platform == YouTube {
		modes = append(modes, "unsubscribe", "denied")
		if s.Topic = query.Get("hub.topic"); !isYouTubeFeed(s.Topic) {
			return Subscription{}, ErrTopic
		}
	}
	if !slices.Contains(modes, s.Mode) {
		return Subscription{}, fmt.Errorf("hub.mode is %s: it must be one of %v", quote(s.Mode), modes)
	}
	if s.Mode == "denied" {
		s.Challenge, s.Reason = "", query.Get("hub.reason")
		return s, nil
	}
	if s.Challenge == "" || len(s.Challenge) > maxChallenge {
		return Subscription{}, fmt.Errorf("hub.challenge is %d bytes long: it must be 1 to %d", len(s.Challenge), maxChallenge)
	}
	if seconds, err := strconv.Atoi(query.Get("hub.lease_seconds")); err == nil && seconds > 0 && seconds < maxLease && s.Mode == "subscribe" {
		s.Lease = time.Duration(seconds) * time.Second
	}
	return s, nil
}

// isOneOf compares hashes, so that time tells nothing of a token, nor of its length.
func isOneOf(token string, tokens [][]byte) bool {
	got, found := sha256.Sum256([]byte(token)), 0
	for _, one := range tokens {
		want := sha256.Sum256(one)
		found |= subtle.ConstantTimeCompare(got[:], want[:])
	}
	return found == 1
}

// isYouTubeFeed tells whether a topic is one that YouTube's guide names; its feeds name themselves by the older address.
func isYouTubeFeed(topic string) bool {
	u, err := url.Parse(topic)
	return err == nil && u.Scheme == "https" && u.Host == "www.youtube.com" &&
		(u.Path == "/feeds/videos.xml" || u.Path == "/xml/feeds/videos.xml")
}
