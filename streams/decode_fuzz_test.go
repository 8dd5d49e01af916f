package streams_test

import (
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"publish-reconciler/streams"
)

func FuzzDecodeWebhook(f *testing.F) {
	for _, body := range []string{
		instagramBody, tiktokBody, youtubeBody, "", "null", `{"external_post_id":1.5e3}`, `{"external_post_id":1e-999}`,
		`{"external_post_id":"\ud800"}`, `{"external_post_id":"\u0000"}`, "{\"external_post_id\":\"\xff\"}", `{} {}`, strings.Repeat(`{"a":`, 50),
	} {
		f.Add("instagram", []byte(body))
	}
	f.Add("ȺȺ", []byte(instagramBody))
	f.Add("a.b", []byte(instagramBody))
	f.Fuzz(func(t *testing.T, platform string, body []byte) {
		webhook, err := streams.DecodeWebhook(streams.WebhookSubject(platform), body)
		if err != nil {
			sound(t, err)
			return
		}
		if p := webhook.Platform; p == "" || len(p) > streams.MaxPlatformBytes || !utf8.ValidString(p) || strings.ContainsAny(p, ".*> \x00") {
			t.Errorf("platform %q", p)
		}
		if id := webhook.ExternalPostID; id == "" || len(id) > streams.MaxExternalPostIDBytes || !utf8.ValidString(id) || strings.Contains(id, "\x00") {
			t.Errorf("external post id %q", id)
		}
		if _, found := webhook.Fields["external_post_id"]; !found {
			t.Error("the fields have no external_post_id")
		}
		again, err := streams.DecodeWebhook(streams.WebhookSubject(webhook.Platform), body)
		if err != nil || again.Platform != webhook.Platform || again.ExternalPostID != webhook.ExternalPostID {
			t.Errorf("its own platform %q reads as %q: %v", webhook.Platform, again.Platform, err)
		}
	})
}

func FuzzDecodeCheck(f *testing.F) {
	const id = "6f1c2d3e-4b5a-4978-8f6e-5d4c3b2a1908"
	for _, body := range []string{"", "{}", `{"timeout_minutes":0}`, `{"timeout_minutes":0.5}`, `{"timeout_minutes":1e300}`, `{"timeout_minutes":null}`, `[]`} {
		f.Add(id, []byte(body))
	}
	f.Add("{"+id+"}", []byte(nil))
	f.Fuzz(func(t *testing.T, token string, body []byte) {
		check, err := streams.DecodeCheck("publish.check."+token, body)
		if err != nil {
			sound(t, err)
			return
		}
		if !strings.EqualFold(check.LogID.String(), token) {
			t.Errorf("%q is the log %s", token, check.LogID)
		}
		if check.Timeout != nil && (*check.Timeout < 0 || *check.Timeout > streams.MaxTimeoutMinutes*time.Minute) {
			t.Errorf("timeout %s", *check.Timeout)
		}
	})
}

func FuzzDecodeSweep(f *testing.F) {
	for _, body := range []string{"", "{}", `{"since_minutes":1}`, `{"since_minutes":1440}`, `{"since_minutes":1441}`, `{"since_minutes":"1"}`, `{"since":1}`} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		sweep, err := streams.DecodeSweep(body)
		if err != nil {
			sound(t, err)
			return
		}
		if sweep.Since != 0 && (sweep.Since < time.Minute || sweep.Since > 24*time.Hour) {
			t.Errorf("since %s", sweep.Since)
		}
	})
}

func FuzzDecodeProbe(f *testing.F) {
	for _, body := range []string{
		"", "{}", "null", `{"status":"published"}`, `{"external_post_id":"x","status":"failed"}`, `{"external_post_id":"y"}`,
		`{"external_post_id":1e400000}`, `{"external_post_id":null}`, "{\"external_post_id\":\"\\ud800\"}", `{} {}`,
	} {
		f.Add("x", []byte(body))
	}
	f.Add("1000", []byte(`{"external_post_id":1e3}`))
	f.Fuzz(func(t *testing.T, post string, body []byte) {
		fields, err := streams.DecodeProbe(streams.ProbeRequest{ExternalPostID: post, Platform: "p"}, body)
		if err != nil {
			sound(t, err)
			return
		}
		if fields == nil {
			t.Error("no object, and no error")
		}
		if named, isText := fields["external_post_id"].(string); isText && named != post {
			t.Errorf("the answer about %q is taken for one about %q", named, post)
		}
	})
}

// sound is what every refusal is: typed, with a reason and a text of bounded size.
func sound(t *testing.T, err error) {
	t.Helper()
	var undecodable *streams.DecodeError
	if !errors.As(err, &undecodable) || undecodable.Reason == "" || undecodable.Detail == "" || len(undecodable.Detail) > 1000 {
		t.Errorf("error is %#v", err)
	}
}
