package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"publish-reconciler/cmd/publish-reconciler/metrics"
	"publish-reconciler/cmd/publish-reconciler/webhooks"
)

// Where platforms come to.
const (
	routeWebhook      = "POST /publishing/webhooks/{platform}"
	routeSubscription = "GET /publishing/webhooks/{platform}"
)

// webhookQuery is what may stand in the address of a platform's webhooks.
var webhookQuery = map[string][]string{webhooks.YouTube: {webhooks.ParamToken}}

// serveWebhook answers once JetStream has stored all that a webhook says: with 202, and with 200 where it is in the
// platform's own form. TikTok takes no other for an acknowledgement, Meta asks for it, and WebSub takes any 2xx.
func (o *operator) serveWebhook(w http.ResponseWriter, r *http.Request) {
	platform := strings.ToLower(r.PathValue(paramPlatform))
	handed, err := o.takeWebhook(w, r, platform)
	o.metrics.Request(platform, handed.outcome)
	switch {
	case err != nil:
		writeError(w, err)
	case handed.outcome != metrics.DoorStored && handed.outcome != metrics.DoorDuplicate:
		writeJSON(w, http.StatusOK, map[string]string{"status": "ignored"})
	case handed.own:
		writeJSON(w, http.StatusOK, handed.answer)
	default:
		writeJSON(w, http.StatusAccepted, handed.answer)
	}
}

// handedIn is what became of a request.
type handedIn struct {
	outcome metrics.DoorOutcome
	own     bool // it is in the platform's own form
	answer  storedAnswer
}

// takeWebhook lets in what is signed where the platform has a secret, and else what brings the API token, and stores it.
// Nothing is parsed before that. Where there is an error, the outcome is why.
func (o *operator) takeWebhook(w http.ResponseWriter, r *http.Request, platform string) (handedIn, error) {
	secrets := o.cfg.webhookSecrets[platform]
	if outcome, err := o.admit(w, r, platform, len(secrets) > 0); err != nil {
		return handedIn{outcome: outcome}, err
	}
	body, err := readBody(r)
	if err == nil {
		err = params{}.addQuery(r.URL.RawQuery, webhookQuery[platform])
	}
	if err != nil {
		return handedIn{outcome: metrics.DoorInvalid}, badRequest(err)
	}
	if len(secrets) > 0 {
		if outcome, err := o.verify(r, platform, body, secrets); outcome != "" {
			return handedIn{outcome: outcome}, err
		}
	}
	contentType := r.Header.Get("Content-Type")
	batch, err := webhooks.Read(platform, contentType, body)
	if err != nil {
		return handedIn{outcome: metrics.DoorInvalid}, badRequest(err)
	}
	if batch.Own && len(batch.Events) == 0 {
		return handedIn{outcome: metrics.DoorIgnored}, nil
	}
	all := batch.Events
	if !batch.Own { // it is a message as it is
		all = []webhooks.Event{{Body: body, ID: r.Header.Get(nats.MsgIdHdr)}}
	}
	msgs, err := webhookMessages(platform, contentType, all)
	if err != nil {
		return handedIn{outcome: metrics.DoorInvalid}, err
	}
	answer, err := o.storeWebhooks(r.Context(), msgs)
	if err != nil {
		return handedIn{outcome: metrics.DoorUnavailable}, err
	}
	o.metrics.Received(platform, len(msgs))
	outcome := metrics.DoorStored
	if answer.Duplicate {
		outcome = metrics.DoorDuplicate
	}
	if batch.Own {
		answer.Messages, answer.Ignored = len(msgs), batch.Ignored
	}
	return handedIn{outcome, batch.Own, answer}, nil
}

// admit looks at the headers alone: who can't be let in sends no body.
func (o *operator) admit(w http.ResponseWriter, r *http.Request, platform string, signs bool) (metrics.DoorOutcome, error) {
	if signs {
		if !webhooks.Signed(platform, r.Header) {
			names := strings.Join(webhooks.Headers(platform), " or ")
			return metrics.DoorUnsigned, statusError{http.StatusUnauthorized, fmt.Errorf("the webhook is not signed: %s is missing", names)}
		}
		return "", nil
	}
	if err := o.checkHost(r); err != nil {
		return metrics.DoorUnauthorized, err
	}
	if err := o.authorize(r.Header.Get(headerAuthorization)); err != nil {
		w.Header().Set("WWW-Authenticate", "Bearer")
		return metrics.DoorUnauthorized, err
	}
	return "", nil
}

// verify returns no outcome for what is signed as it must be. A forged webhook does nothing at all but be counted, and
// told once a minute. One that seems to come from YouTube's hub is acknowledged all the same, as WebSub, 7.1.2, has it:
// whoever tries signatures does not hear which one fits.
func (o *operator) verify(r *http.Request, platform string, body []byte, secrets [][]byte) (metrics.DoorOutcome, error) {
	err := webhooks.Verify(platform, r.Header, body, secrets, time.Now())
	if err == nil {
		return "", nil
	}
	if n := o.forged.add(platform, time.Now()); n > 0 {
		o.logger.WarnContext(r.Context(), "webhooks refused", "platform", platform, "count", n, "err", err)
	}
	outcome := metrics.DoorBadSignature
	if _, stale := errors.AsType[*webhooks.StaleError](err); stale {
		outcome = metrics.DoorStale
	} else if platform == webhooks.YouTube && r.Header.Get(webhooks.HeaderWebSub) != "" {
		return outcome, nil
	}
	return outcome, statusError{http.StatusUnauthorized, err}
}

// forgeries counts refused webhooks until they are told: whoever sends them must not fill the log. The zero value is
// ready for use.
type forgeries struct {
	mu   sync.Mutex
	told map[string]time.Time // by platform: only those with a secret
	n    map[string]int
}

// add returns how many are to be told of now; zero where some were a moment ago.
func (f *forgeries) add(platform string, now time.Time) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n == nil {
		f.told, f.n = make(map[string]time.Time), make(map[string]int)
	}
	f.n[platform]++
	if now.Sub(f.told[platform]) < time.Minute {
		return 0
	}
	n := f.n[platform]
	f.told[platform], f.n[platform] = now, 0
	return n
}

// serveSubscription answers a platform that makes sure that its webhooks are wanted. What it sent is sent back as text,
// which no browser takes for a page.
func (o *operator) serveSubscription(w http.ResponseWriter, r *http.Request) {
	platform := strings.ToLower(r.PathValue(paramPlatform))
	tokens := o.cfg.webhookTokens[platform]
	if len(tokens) == 0 {
		writeError(w, statusError{http.StatusNotFound, fmt.Errorf("no verify token is set for %s", quote(platform))})
		return
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	var s webhooks.Subscription
	if err == nil {
		s, err = webhooks.VerifySubscription(platform, query, tokens)
	}
	switch {
	case errors.Is(err, webhooks.ErrToken):
		writeError(w, statusError{http.StatusForbidden, err})
		return
	case errors.Is(err, webhooks.ErrTopic):
		writeError(w, statusError{http.StatusNotFound, err})
		return
	case err != nil:
		writeError(w, badRequest(err))
		return
	}
	o.tellSubscription(r, platform, s)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write([]byte(s.Challenge))
}

// tellSubscription logs what an operator has to do: a hub's lease ends, unless it is asked anew.
func (o *operator) tellSubscription(r *http.Request, platform string, s webhooks.Subscription) {
	attrs := []any{"platform", platform, "mode", s.Mode}
	if s.Topic != "" {
		attrs = append(attrs, "topic", s.Topic)
	}
	if s.Lease > 0 {
		attrs = append(attrs, "renew_before", time.Now().Add(s.Lease).UTC().Format(time.RFC3339))
	}
	if s.Mode == "denied" {
		o.logger.WarnContext(r.Context(), "webhooks denied by their hub", append(attrs, "reason", s.Reason)...)
		return
	}
	o.logger.InfoContext(r.Context(), "webhooks verified", attrs...)
}
