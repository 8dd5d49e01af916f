package webhooks

import (
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestVerifySubscription(t *testing.T) {
	t.Parallel()
	// The request of "Sample Verification Request" in Meta's "Getting Started" with Webhooks
	// (https://developers.facebook.com/docs/graph-api/webhooks/getting-started).
	const meta = "hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=meatyhamhock"
	const feed = "https://www.youtube.com/xml/feeds/videos.xml?channel_id=UC1"
	websub := func(mode, more string) string {
		return "token=meatyhamhock&hub.mode=" + mode + "&hub.topic=" + url.QueryEscape(feed) + more
	}
	for name, test := range map[string]struct {
		platform, query string
		want            Subscription
		err             string
	}{
		"Meta":                  {Instagram, meta, Subscription{Mode: "subscribe", Challenge: "1158201444"}, ""},
		"any other":             {"mastodon", meta, Subscription{Mode: "subscribe", Challenge: "1158201444"}, ""},
		"Meta, wrong token":     {Instagram, meta + "s", Subscription{}, "the verify token is not valid"},
		"Meta, no token":        {Instagram, "hub.mode=subscribe&hub.challenge=1", Subscription{}, "the verify token is not valid"},
		"Meta, in the address":  {Instagram, "token=meatyhamhock&hub.mode=subscribe&hub.challenge=1", Subscription{}, "the verify token is not valid"},
		"Meta, mode":            {Instagram, strings.Replace(meta, "subscribe", "unsubscribe", 1), Subscription{}, `hub.mode is "unsubscribe": it must be one of [subscribe]`},
		"Meta, no challenge":    {Instagram, "hub.mode=subscribe&hub.verify_token=meatyhamhock", Subscription{}, `hub.challenge is 0 bytes long: it must be 1 to 1024`},
		"Meta, long challenge":  {Instagram, meta + "&hub.challenge=", Subscription{Mode: "subscribe", Challenge: "1158201444"}, ""}, // the first counts
		"YouTube":               {YouTube, websub("subscribe", "&hub.challenge=c&hub.lease_seconds=432000"), Subscription{Mode: "subscribe", Challenge: "c", Topic: feed, Lease: 5 * 24 * time.Hour}, ""},
		"YouTube, hub's token":  {YouTube, strings.Replace(websub("subscribe", "&hub.challenge=c"), "token", "hub.verify_token", 1), Subscription{Mode: "subscribe", Challenge: "c", Topic: feed}, ""},
		"YouTube, wrong token":  {YouTube, strings.Replace(websub("subscribe", "&hub.challenge=c"), "meaty", "veggie", 1), Subscription{}, "the verify token is not valid"},
		"YouTube, unsubscribe":  {YouTube, websub("unsubscribe", "&hub.challenge=c&hub.lease_seconds=1"), Subscription{Mode: "unsubscribe", Challenge: "c", Topic: feed}, ""},
		"YouTube, denied":       {YouTube, websub("denied", "&hub.reason=no+such+feed&hub.challenge=c"), Subscription{Mode: "denied", Topic: feed, Reason: "no such feed"}, ""},
		"YouTube, mode":         {YouTube, websub("publish", "&hub.challenge=c"), Subscription{}, `hub.mode is "publish": it must be one of [subscribe unsubscribe denied]`},
		"YouTube, odd lease":    {YouTube, websub("subscribe", "&hub.challenge=c&hub.lease_seconds=99999999999"), Subscription{Mode: "subscribe", Challenge: "c", Topic: feed}, ""},
		"YouTube, other topic":  {YouTube, strings.Replace(websub("subscribe", "&hub.challenge=c"), "www.youtube.com", "www.youtube.com.evil.example", 1), Subscription{}, "hub.topic must be the feed of a YouTube channel"},
		"YouTube, no challenge": {YouTube, websub("subscribe", ""), Subscription{}, `hub.challenge is 0 bytes long: it must be 1 to 1024`},
		"YouTube, long one":     {YouTube, websub("subscribe", "&hub.challenge="+strings.Repeat("c", 1025)), Subscription{}, `hub.challenge is 1025 bytes long: it must be 1 to 1024`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			query, err := url.ParseQuery(test.query)
			if err != nil {
				t.Fatal(err)
			}
			got, err := VerifySubscription(test.platform, query, [][]byte{[]byte("another one"), []byte("meatyhamhock")})
			same(t, "subscription", got, test.want)
			if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("error is %v, want %s", err, test.err)
			}
			if _, err := VerifySubscription(test.platform, query, nil); err == nil {
				t.Error("it is verified where there is no token")
			}
		})
	}
}
