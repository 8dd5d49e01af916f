package webhooks

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"publish-reconciler/streams"
)

// fuzzRead has a parser read anything: what it makes of it is a message that the service understands, with an identity
// that a header can carry, and the same each time.
func fuzzRead(f *testing.F, platform string, seeds ...string) {
	f.Helper()
	for _, seed := range seeds {
		f.Add("application/json", []byte(seed))
	}
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		batch, err := Read(platform, contentType, body)
		if err != nil || !batch.Own {
			if len(batch.Events) > 0 {
				t.Errorf("%d messages with error %v", len(batch.Events), err)
			}
			return
		}
		if !utf8.Valid(body) {
			t.Error("what is not UTF-8 was taken")
		}
		again, err := Read(platform, contentType, body)
		if err != nil || len(again.Events) != len(batch.Events) {
			t.Fatalf("the second time %d messages, %v", len(again.Events), err)
		}
		ids := map[string]bool{}
		for i, event := range batch.Events {
			printable(t, event.ID)
			if ids[event.ID] || again.Events[i].ID != event.ID {
				t.Errorf("%s is there twice, or %s the second time", event.ID, again.Events[i].ID)
			}
			ids[event.ID] = true
			webhook, err := streams.DecodeWebhook(streams.WebhookSubject(platform), event.Body)
			if err != nil {
				t.Fatalf("%v in %s", err, event.Body)
			}
			if status, ok := webhook.Fields["status"].(string); !ok || status == "" {
				t.Errorf("status is %v", webhook.Fields["status"])
			}
			var message struct{ Raw raw }
			if err := json.Unmarshal(event.Body, &message); err != nil || !strings.Contains(string(body), message.Raw.Body) {
				t.Errorf("%v: it keeps %q", err, message.Raw.Body)
			}
		}
	})
}

func FuzzTikTok(f *testing.F) {
	fuzzRead(f, TikTok, tiktokComplete, tiktokFailed, tiktokRemoved, tiktok("publicly_available", `"1"`, `,"post_id":7e3`))
}

func FuzzInstagram(f *testing.F) {
	fuzzRead(f, Instagram, instagramComments, instagramInsights, `{"entry":[{"field":"live_comments","value":{"media":{"id":1}}},{}]}`)
}

func FuzzYouTube(f *testing.F) {
	fuzzRead(f, YouTube, youtubeVideo, youtubeDeleted, strings.Replace(youtubeVideo, "</feed>", youtubeEntry+"</feed>", 1))
}

// No header and no body is signed by a secret that made no signature.
func FuzzVerify(f *testing.F) {
	for _, seed := range []string{"", "sha256=00", "sha1=", "t=1,s=00", signTikTok("another", "1", ""), "t=,t=,s=,s="} {
		f.Add(seed, []byte("{}"))
	}
	f.Fuzz(func(t *testing.T, value string, body []byte) {
		for _, platform := range []string{TikTok, Instagram, YouTube, "mastodon"} {
			for _, name := range Headers(platform) {
				header := http.Header{http.CanonicalHeaderKey(name): {value}}
				if Verify(platform, header, body, [][]byte{[]byte(secret)}, noon) == nil {
					t.Errorf("%s: %q is valid on %s", name, value, platform)
				}
			}
		}
	})
}

func FuzzVerifySubscription(f *testing.F) {
	f.Add("hub.mode=subscribe&hub.challenge=1&hub.verify_token=meatyhamhock&hub.topic=https://www.youtube.com/feeds/videos.xml")
	f.Fuzz(func(t *testing.T, text string) {
		query, err := url.ParseQuery(text)
		if err != nil {
			return
		}
		for _, platform := range []string{Instagram, YouTube} {
			s, err := VerifySubscription(platform, query, [][]byte{[]byte("meatyhamhock")})
			if (err == nil) != (s.Mode != "") || len(s.Challenge) > maxChallenge || s.Lease < 0 {
				t.Errorf("%+v, %v", s, err)
			}
			if err == nil && !strings.Contains(text, "meaty") && !strings.Contains(text, "%") {
				t.Error("it has no token")
			}
		}
	})
}
