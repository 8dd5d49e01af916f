package main

import (
	"strings"
	"testing"
)

func TestSubscriptions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve("--webhook-verify-tokens=instagram=meatyhamhock,the%20old%20one;youtube=unguessable", "--api-token=hush")
	const feed = "hub.topic=https://www.youtube.com/xml/feeds/videos.xml%3Fchannel_id%3DUC1"
	for address, want := range map[string]struct {
		status int
		text   string
	}{
		"instagram?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=meatyhamhock": {200, "1158201444"},
		"instagram?hub.mode=subscribe&hub.challenge=1&hub.verify_token=the+old+one":           {200, "1"},
		"Instagram?hub.mode=subscribe&hub.challenge=<script>&hub.verify_token=meatyhamhock":   {200, "<script>"},
		"instagram?hub.mode=subscribe&hub.challenge=1&hub.verify_token=hush":                  {403, `{"error":"the verify token is not valid"}`},
		"instagram":                      {403, `{"error":"the verify token is not valid"}`},
		"instagram?hub.verify_token=%zz": {400, `invalid URL escape`},
		"tiktok?hub.verify_token=":       {404, `{"error":"no verify token is set for \"tiktok\""}`},
		"youtube?token=unguessable&hub.mode=subscribe&hub.challenge=c&hub.lease_seconds=432000&" + feed: {200, "c"},
		"youtube?token=unguessable&hub.mode=unsubscribe&hub.challenge=c&" + feed:                        {200, "c"},
		"youtube?token=unguessable&hub.mode=denied&hub.reason=gone&" + feed:                             {200, ""},
		"youtube?token=unguessable&hub.mode=subscribe&hub.challenge=c&hub.topic=https://evil.example":   {404, "hub.topic must be the feed of a YouTube channel"},
		"youtube?token=guessed&hub.mode=subscribe&hub.challenge=c&" + feed:                              {403, `{"error":"the verify token is not valid"}`},
		"youtube?token=unguessable&hub.mode=subscribe&" + feed:                                          {400, `hub.challenge is 0 bytes long: it must be 1 to 1024`},
	} {
		got := s.get("GET", "/publishing/webhooks/"+address, "")
		kind := "text/plain; charset=utf-8"
		if want.status != 200 {
			kind = "application/json"
		}
		if got.status != want.status || got.header.Get("Content-Type") != kind || want.status == 200 && (got.text != want.text || got.header.Get("X-Content-Type-Options") != "nosniff") {
			t.Errorf("%s: %+v", address, got)
		}
		contains(t, got.text, want.text)
	}
	log := s.stderr.String()
	for _, want := range []string{"webhooks verified", "renew_before", "webhooks denied by their hub", "channel_id=UC1"} {
		contains(t, log, want)
	}
	for _, secret := range []string{"meatyhamhock", "the old one", "unguessable"} {
		if strings.Contains(log, secret) {
			t.Errorf("the log tells of %q", secret)
		}
	}
}
