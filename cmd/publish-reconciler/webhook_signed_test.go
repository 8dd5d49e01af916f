package main

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	igSecret, igOld = "instagram's new secret", "instagram's old secret"
	ttSecret        = "tiktok's client secret"
	ytSecret        = "youtube's hub.secret"
	mdSecret        = "mastodon's; shared, secret"
)

var secretSetting = "--webhook-secrets=Instagram=" + url.PathEscape(igSecret) + "," + url.PathEscape(igOld) + ";tiktok=" + url.PathEscape(ttSecret) +
	";youtube=" + url.PathEscape(ytSecret) + ";mastodon=" + url.PathEscape(mdSecret)

func mac(newHash func() hash.Hash, secret, text string) string {
	mac := hmac.New(newHash, []byte(secret))
	mac.Write([]byte(text))
	return hex.EncodeToString(mac.Sum(nil))
}

func tiktokSignature(secret, body string, at time.Time) []string {
	t := fmt.Sprint(at.Unix())
	return []string{"TikTok-Signature", "t=" + t + ",s=" + mac(sha256.New, secret, t+"."+body)}
}

func tiktokBody(event, publishID, more string) string {
	content := strings.ReplaceAll(`{"publish_id":"`+publishID+`","publish_type":"DIRECT_POST"`+more+`}`, `"`, `\"`)
	return `{"client_key":"k","event":"post.publish.` + event + `","create_time":1615338610,"user_openid":"o","content":"` + content + `"}`
}

func youtubeBody(video, updated string) string {
	return `<feed xmlns:yt="http://www.youtube.com/xml/schemas/2015" xmlns="http://www.w3.org/2005/Atom"><entry><id>yt:video:` + video + `</id><yt:videoId>` + video +
		`</yt:videoId><published>2015-03-06T21:40:57+00:00</published><updated>` + updated + `</updated></entry></feed>`
}

const instagramBody = `{"object":"instagram","entry":[` +
	`{"id":"17841474524784050","time":1755779280,"changes":[{"field":"comments","value":{"id":"1","media":{"id":"ig_1"}}},{"field":"mentions","value":{"media_id":"9"}}]},` +
	`{"id":"17841405309211844","time":1547687043,"changes":[{"field":"story_insights","value":{"media_id":"ig_2","reach":17}}]}]}`

// log inserts a log of a platform that is being published.
func (w *world) log(platform, post string) string {
	w.Helper()
	id := w.publish(post, "processing", `{}`, 0)
	w.exec(`UPDATE publish_logs SET platform = $2 WHERE id = $1`, id, platform)
	return id
}

// changed is all that a forged webhook must leave alone.
func (w *world) changed() string {
	w.Helper()
	return w.text(`SELECT coalesce((SELECT string_agg(l::text, ' ' ORDER BY id) FROM publish_logs l), '') || (SELECT count(*) FROM ledger_events) || (SELECT count(*) FROM parked_webhooks)`) +
		fmt.Sprint(w.stored("PUBLISH_WEBHOOKS"))
}

// signedWebhook is what a platform sends.
type signedWebhook struct {
	platform, body string
	headers        []string
	posts          map[string]string // external_post_id → status of its log afterwards
	url            string            // of the log
	status         int
	answer         map[string]any
	unsigned       int // the answer to a forged one
}

func signedWebhooks() map[string]signedWebhook {
	tiktok, youtube := tiktokBody("complete", "v_pub_url~v2.1", ""), youtubeBody("dQw4w9WgXcQ", "2015-03-09T19:05:24Z")
	failed := tiktokBody("failed", "v_pub_url~v2.2", `,"reason":"video_pull_failed"`)
	inbox := tiktokBody("inbox_delivered", "v_pub_url~v2.3", "")
	one := map[string]any{"status": "stored", "stream": "PUBLISH_WEBHOOKS", "sequence": 1.0, "duplicate": false, "messages": 1.0}
	return map[string]signedWebhook{
		"TikTok": {
			"tiktok", tiktok, tiktokSignature(ttSecret, tiktok, time.Now()),
			map[string]string{"v_pub_url~v2.1": "success"},
			"", 200, one, 401,
		},
		"TikTok, failed": {
			"tiktok", failed, tiktokSignature(ttSecret, failed, time.Now().Add(-4*time.Minute)),
			map[string]string{"v_pub_url~v2.2": "failed"},
			"", 200, one, 401,
		},
		"TikTok, in an inbox": {
			"tiktok", inbox, tiktokSignature(ttSecret, inbox, time.Now().Add(4*time.Minute)),
			map[string]string{"v_pub_url~v2.3": "processing"},
			"", 200, one, 401,
		},
		"Instagram": {
			"Instagram", instagramBody,
			[]string{"X-Hub-Signature-256", "sha256=" + mac(sha256.New, igSecret, instagramBody)},
			map[string]string{"ig_1": "success", "ig_2": "success"},
			"", 200,
			map[string]any{"status": "stored", "stream": "PUBLISH_WEBHOOKS", "sequence": 2.0, "duplicate": false, "messages": 2.0, "ignored": 1.0},
			401,
		},
		"YouTube": {
			"youtube", youtube,
			[]string{"X-Hub-Signature", "sha1=" + mac(sha1.New, ytSecret, youtube), "Content-Type", "application/atom+xml"},
			map[string]string{"dQw4w9WgXcQ": "success"},
			"https://www.youtube.com/watch?v=dQw4w9WgXcQ", 200, one, 200,
		},
		"anything else": {
			"mastodon", ig123,
			[]string{"X-Signature-256", "sha256=" + mac(sha256.New, mdSecret, ig123)},
			map[string]string{"ig_123": "success"},
			"", 202,
			map[string]any{"status": "stored", "stream": "PUBLISH_WEBHOOKS", "sequence": 1.0, "duplicate": false},
			401,
		},
		"contract's form, the old secret": {
			"instagram", ig123,
			[]string{"X-Signature-256", "sha256=" + mac(sha256.New, igOld, ig123), "Nats-Msg-Id", "1"},
			map[string]string{"ig_123": "success"},
			"", 202,
			map[string]any{"status": "stored", "stream": "PUBLISH_WEBHOOKS", "sequence": 1.0, "duplicate": false},
			401,
		},
	}
}

// Signed by the platform, its logs are closed, by whatever name it came; a replay is a duplicate, and changes nothing.
func TestSignedWebhooks(t *testing.T) {
	t.Parallel()
	for name := range signedWebhooks() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			s := w.serve(secretSetting)
			test := signedWebhooks()[name] // signed now
			logs := map[string]string{}
			for post := range test.posts {
				logs[post] = w.log(strings.ToLower(test.platform), post)
			}
			path := "/publishing/webhooks/" + test.platform
			got := s.ask("POST", path, test.body, test.headers...)
			if diff := cmp.Diff(test.answer, got.body); diff != "" || got.status != test.status {
				t.Fatalf("%d: %s", got.status, diff)
			}
			for post, want := range test.posts {
				eventually(t, post+" is "+want, func() bool {
					return w.text(`SELECT status || count(e.id) FROM publish_logs l LEFT JOIN ledger_events e ON e.entity_id = l.id::text WHERE l.id = $1 GROUP BY status`, logs[post]) == want+"2"
				})
				if address := w.text(`SELECT coalesce(external_url, '') FROM publish_logs WHERE id = $1`, logs[post]); address != test.url {
					t.Errorf("external_url is %q", address)
				}
				if kept := w.text(`SELECT (extra_metadata ? 'raw')::text FROM publish_logs WHERE id = $1`, logs[post]); kept != "false" {
					t.Error("the raw body is in the row")
				}
			}
			before := w.changed()
			got = s.ask("POST", path, test.body, test.headers...)
			if test.platform == "mastodon" { // it has no identity of its own
				eventually(t, "the replay is stored", func() bool { return w.stored("PUBLISH_WEBHOOKS") == 2 })
				s.settled(w)
				before = strings.TrimSuffix(before, "1") + "2"
			} else if got.body["duplicate"] != true || got.status != test.status {
				t.Errorf("the replay: %+v", got)
			}
			if after := w.changed(); after != before {
				t.Errorf("the replay changed\n%s\nto\n%s", before, after)
			}
		})
	}
}

// settled waits until all webhooks are read.
func (s served) settled(w *world) {
	s.Helper()
	eventually(s, "all are read", func() bool {
		info, err := w.nats.JetStream(s).Consumer(s.Context(), "PUBLISH_WEBHOOKS", "webhooks")
		return err == nil && info.CachedInfo().NumPending == 0 && info.CachedInfo().NumAckPending == 0
	})
}

// What is forged, unsigned, of another time, or brings no more than the token, changes nothing at all.
func TestForgedWebhooks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve(secretSetting, "--api-token=hush")
	all := signedWebhooks()
	for _, test := range all {
		for post := range test.posts {
			w.log(strings.ToLower(test.platform), post)
		}
	}
	before := w.changed()
	const bearer = "Bearer hush"
	for name, test := range all {
		path := "/publishing/webhooks/" + test.platform
		changedBody := strings.Replace(test.body, "1", "2", 1)
		if name == "contract's form, the old secret" || name == "anything else" {
			changedBody = strings.Replace(test.body, "ig_123", "ig_1", 1)
		}
		digit := "0"
		if strings.HasSuffix(test.headers[1], digit) {
			digit = "1"
		}
		for how, got := range map[string]answer{
			"another body":   s.ask("POST", path, changedBody, test.headers...),
			"another digit":  s.ask("POST", path, test.body, test.headers[0], test.headers[1][:len(test.headers[1])-1]+digit),
			"a space more":   s.ask("POST", path, test.body+" ", test.headers...),
			"with the token": s.ask("POST", path, test.body+" ", append([]string{"Authorization", bearer}, test.headers...)...),
		} {
			if got.status != test.unsigned || got.status == 401 && got.error() != "the signature is not valid" || got.status == 200 && got.body["status"] != "ignored" {
				t.Errorf("%s, %s: %+v", name, how, got)
			}
		}
		got := s.ask("POST", path, test.body, "Authorization", bearer)
		if got.status != 401 || !strings.HasPrefix(got.error(), "the webhook is not signed: "+map[string]string{"mastodon": "X-Signature-256"}[test.platform]) {
			t.Errorf("%s, unsigned: %+v", name, got)
		}
	}
	body := tiktokBody("complete", "v_pub_url~v2.1", "")
	got := s.ask("POST", "/publishing/webhooks/tiktok", body, tiktokSignature(ttSecret, body, time.Now().Add(-time.Hour))...)
	if got.status != 401 {
		t.Errorf("an hour old: %+v", got)
	}
	contains(t, got.error(), "in the past: at most 5m0s is allowed")
	// A platform without a secret wants the token, as ever.
	if got := s.ask("POST", "/publishing/webhooks/threads", ig123, "X-Signature-256", "sha256="+mac(sha256.New, mdSecret, ig123)); got.status != 401 || got.header.Get("WWW-Authenticate") != "Bearer" {
		t.Errorf("without a secret: %+v", got)
	}
	s.settled(w)
	if after := w.changed(); after != before {
		t.Errorf("they changed\n%s\nto\n%s", before, after)
	}
	s.measures(map[string]float64{
		`webhook_requests_total{outcome="bad_signature",platform="tiktok"}`:    12,
		`webhook_requests_total{outcome="bad_signature",platform="youtube"}`:   4,
		`webhook_requests_total{outcome="bad_signature",platform="instagram"}`: 8,
		`webhook_requests_total{outcome="unsigned",platform="tiktok"}`:         3,
		`webhook_requests_total{outcome="unsigned",platform="youtube"}`:        1,
		`webhook_requests_total{outcome="stale",platform="tiktok"}`:            1,
		`webhook_requests_total{outcome="stored",platform="tiktok"}`:           0,
		`webhook_requests_total{outcome="unauthorized",platform="other"}`:      1,
	})
	log := s.stderr.String()
	if n := strings.Count(log, "webhooks refused"); n != 4 {
		t.Errorf("the log tells of them %d times: once for each platform a minute", n)
	}
	for _, secret := range []string{igSecret, igOld, ttSecret, ytSecret, mdSecret, "dQw4w9WgXcQ", "v_pub_url"} {
		if strings.Contains(log, secret) {
			t.Errorf("the log tells of %q", secret)
		}
	}
}

// A platform reaches the service by its public name, and has no token.
func TestSignedWebhooksComeByAnyName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve(secretSetting, "--webhook-verify-tokens=instagram=meatyhamhock")
	const host = "hooks.example"
	signature := "sha256=" + mac(sha256.New, igSecret, instagramBody)
	if got := s.get("POST", "/publishing/webhooks/instagram", instagramBody, "Host", host, "X-Hub-Signature-256", signature); got.status != http.StatusOK {
		t.Errorf("signed: %+v", got)
	}
	if got := s.get("POST", "/publishing/webhooks/instagram", instagramBody, "Host", host, "X-Hub-Signature-256", signature[:70]+"0"); got.status != http.StatusUnauthorized {
		t.Errorf("forged: %+v", got)
	}
	if got := s.get("POST", "/publishing/webhooks/threads", ig123, "Host", host); got.status != http.StatusForbidden {
		t.Errorf("without a secret: %+v", got)
	}
	if got := s.get("GET", "/publishing/webhooks/instagram?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=meatyhamhock", "", "Host", host); got.status != http.StatusOK || got.text != "1158201444" {
		t.Errorf("a subscription: %+v", got)
	}
}

// What says nothing of a post is acknowledged, and not stored; what can't be read is refused.
func TestSignedWebhooksOfNoPost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve(secretSetting)
	for body, want := range map[string]string{
		`{"event":"authorization.removed","content":"{\"reason\": 1 }"}`: "",
		tiktokBody("complete", "", ""):                                   `content of "post.publish.complete" has no publish_id: it must be a string of 1 to 1024 bytes`,
		`{"event":"post.publish.complete","content":7}`:                  `content of "post.publish.complete" is not a string: it must be a JSON object as a string`,
		`{}`: `external_post_id is missing: it must be a string or a number`,
	} {
		got := s.ask("POST", "/publishing/webhooks/tiktok", body, tiktokSignature(ttSecret, body, time.Now())...)
		if want == "" && (got.status != 200 || got.body["status"] != "ignored") || want != "" && (got.status != 400 || got.error() != want) {
			t.Errorf("%s: %+v", body, got)
		}
	}
	if n := w.stored("PUBLISH_WEBHOOKS"); n != 0 {
		t.Errorf("%d are stored", n)
	}
	s.measures(map[string]float64{
		`webhook_requests_total{outcome="ignored",platform="tiktok"}`: 1,
		`webhook_requests_total{outcome="invalid",platform="tiktok"}`: 3,
	})
}

// One publish_id has several events: none is dropped, and the last is told.
func TestTikTokTakesAPostDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve(secretSetting)
	log := w.log("tiktok", "p")
	send := func(event, more string) answer {
		body := tiktokBody(event, "p", more)
		return s.ask("POST", "/publishing/webhooks/tiktok", body, tiktokSignature(ttSecret, body, time.Now())...)
	}
	events := func() string {
		return w.text(`SELECT string_agg(event_type, ' ' ORDER BY timestamp, id) FROM ledger_events WHERE entity_id = $1`, log)
	}
	send("inbox_delivered", "")
	send("complete", "")
	eventually(t, "it is a success", func() bool { return w.status(log) == "success" })
	before := events()
	send("publicly_available", `,"post_id":"1"`)
	send("publicly_available", `,"post_id":"2"`)
	for range 2 {
		send("no_longer_publicaly_available", `,"post_id":"1"`) //nolint:misspell // TikTok writes it so
		send("no_longer_publicaly_available", `,"post_id":"2"`) //nolint:misspell // TikTok writes it so
	}
	if n := w.stored("PUBLISH_WEBHOOKS"); n != 6 {
		t.Errorf("%d are stored", n)
	}
	eventually(t, "both are told", func() bool { return events() == before+" publish_removed publish_removed" })
	s.settled(w)
	if events() != before+" publish_removed publish_removed" || w.status(log) != "success" {
		t.Errorf("%q, the ledger tells %s", w.status(log), events())
	}
}
