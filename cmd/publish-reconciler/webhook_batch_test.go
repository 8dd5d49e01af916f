package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"publish-reconciler/cmd/publish-reconciler/webhooks"
	"publish-reconciler/streams"
)

// A batch of which not all could be stored comes again whole, and its ids drop what was stored already.
func TestBatchThatIsNotStoredWhole(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve(secretSetting)
	logs := []string{w.log("instagram", "ig_1"), w.log("instagram", "ig_2")}
	limit := func(messages int64) {
		cfg := w.stream("PUBLISH_WEBHOOKS").CachedInfo().Config
		cfg.MaxMsgs = messages
		if _, err := w.nats.JetStream(t).UpdateStream(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	}
	send := func() answer {
		return s.ask("POST", "/publishing/webhooks/instagram", instagramBody, "X-Hub-Signature-256", "sha256="+mac(sha256.New, igSecret, instagramBody))
	}
	limit(1)
	if got := send(); got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") != "5" {
		t.Errorf("%+v", got)
	}
	if n := w.stored("PUBLISH_WEBHOOKS"); n != 1 {
		t.Fatalf("%d are stored", n)
	}
	limit(-1)
	if got := send(); got.status != http.StatusOK || got.body["duplicate"] != false || got.body["messages"] != 2.0 || got.body["sequence"] != 2.0 {
		t.Errorf("%+v", got)
	}
	if got := send(); got.status != http.StatusOK || got.body["duplicate"] != true {
		t.Errorf("%+v", got)
	}
	if n := w.stored("PUBLISH_WEBHOOKS"); n != 2 {
		t.Errorf("%d are stored", n)
	}
	for _, log := range logs {
		eventually(t, "both are a success", func() bool { return w.status(log) == "success" })
	}
	s.measures(map[string]float64{
		`webhook_requests_total{outcome="unavailable",platform="instagram"}`: 1,
		`webhook_requests_total{outcome="stored",platform="instagram"}`:      1,
		`webhook_requests_total{outcome="duplicate",platform="instagram"}`:   1,
		`webhooks_received_total{platform="instagram"}`:                      4,
	})
}

// Meta sends up to 1,000 updates at once.
func TestBatchOfAThousand(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve(secretSetting)
	changes := make([]string, 1000)
	for i := range changes {
		changes[i] = fmt.Sprintf(`{"field":"story_insights","value":{"media_id":"%d","reach":17}}`, i)
	}
	body := `{"object":"instagram","entry":[{"id":"1","time":1547687043,"changes":[` + strings.Join(changes, ",") + `]}]}`
	got := s.ask("POST", "/publishing/webhooks/instagram", body, "X-Hub-Signature-256", "sha256="+mac(sha256.New, igOld, body))
	if n := w.stored("PUBLISH_WEBHOOKS"); got.status != http.StatusOK || got.body["messages"] != 1000.0 || n != 1000 {
		t.Errorf("%d are stored: %+v", n, got)
	}
}

// An edit is a duplicate; past the duplicate window it is stored again, and adds nothing to what is recorded.
func TestYouTubeEdit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve(secretSetting, "--webhook-verify-tokens=youtube=meatyhamhock")
	log := w.log("youtube", "dQw4w9WgXcQ")
	w.exec(`UPDATE publish_logs SET status = 'pending' WHERE id = $1`, log)
	send := func(updated string) answer {
		body := youtubeBody("dQw4w9WgXcQ", updated)
		return s.ask("POST", "/publishing/webhooks/youtube?token=meatyhamhock", body, "X-Hub-Signature", "sha256="+mac(sha256.New, ytSecret, body))
	}
	if got := send("2015-03-06T21:40:57Z"); got.status != 200 || got.body["duplicate"] != false {
		t.Errorf("%+v", got)
	}
	if got := send("2015-04-06T21:40:57Z"); got.status != 200 || got.body["duplicate"] != true {
		t.Errorf("the edit: %+v", got)
	}
	msg, err := w.stream("PUBLISH_WEBHOOKS").GetMsg(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	var stored struct {
		Raw struct{ Body string }
	}
	if err := json.Unmarshal(msg.Data, &stored); err != nil || stored.Raw.Body != youtubeBody("dQw4w9WgXcQ", "2015-03-06T21:40:57Z") {
		t.Errorf("%v: stored is %s", err, msg.Data)
	}
	if got := msg.Header.Get("Nats-Msg-Id"); got != "youtube:published:dQw4w9WgXcQ:2015-03-06T21%3A40%3A57%2B00%3A00" {
		t.Errorf("its id is %s", got)
	}
	eventually(t, "it is recorded", func() bool {
		return w.text(`SELECT count(*)::text FROM ledger_events WHERE entity_id = $1`, log) == "1"
	})
	before := w.changed()
	edit, err := webhooks.Read("youtube", "", []byte(youtubeBody("dQw4w9WgXcQ", "2015-05-06T21:40:57Z")))
	if err != nil {
		t.Fatal(err)
	}
	if err := streams.PublishWebhook(t.Context(), w.nats.JetStream(t), "youtube", edit.Events[0].Body); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is stored", func() bool { return w.stored("PUBLISH_WEBHOOKS") == 2 })
	s.settled(w)
	if after := w.changed(); after != strings.TrimSuffix(before, "1")+"2" {
		t.Errorf("the edit changed\n%s\nto\n%s", before, after)
	}
}
