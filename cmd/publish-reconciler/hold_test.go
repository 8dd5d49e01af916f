package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"publish-reconciler/reconciler"
)

// An outage as an operator sees it: at the doors, in the log, and among the outcome events.
func TestOutageHold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var logs []string
	for n := range reconciler.HoldDueLogs {
		logs = append(logs, w.publish(fmt.Sprint("ig_", n), "processing", `{}`, 30*time.Minute))
	}
	s := w.serve("--outage-hold=on", "--outage-hold-max=45m", "--platform-timeouts=instagram=10m", "--sweep-interval=1h")
	s.swept()
	for range 2 {
		got := s.ask("POST", "/publishing/reconcile", "")
		if got.status != http.StatusOK || got.body["skipped"] != 20.0 || got.body["total_checked"] != 20.0 {
			t.Errorf("reconcile: %+v", got)
		}
	}
	if n := len(s.lines("platform confirms nothing, its logs are held")); n != 1 {
		t.Errorf("%d warnings", n)
	}
	js := w.nats.JetStream(t)
	eventually(t, "the event", func() bool {
		stream, err := js.Stream(t.Context(), "PUBLISH_EVENTS")
		return err == nil && stream.CachedInfo().State.Msgs == 1
	})
	stream, err := js.Stream(t.Context(), "PUBLISH_EVENTS")
	if err != nil {
		t.Fatal(err)
	}
	msg, err := stream.GetLastMsgForSubject(t.Context(), "publish.event.instagram.hold")
	if err != nil {
		t.Fatal(err)
	}
	var event map[string]any
	if err := json.Unmarshal(msg.Data, &event); err != nil || event["reason"] != "platform_hold" || event["due_logs"] != 20.0 {
		t.Errorf("event %s, %v", msg.Data, err)
	}

	status := s.ask("GET", "/publishing/status", "")
	if holds, _ := status.body["holds"].([]any); len(holds) != 1 || holds[0].(map[string]any)["platform"] != "instagram" {
		t.Errorf("status: %+v", status.body)
	}
	one := s.ask("GET", "/publishing/logs/"+logs[0], "")
	explanation, _ := one.body["explanation"].(map[string]any)
	if sentence, _ := explanation["sentence"].(string); !strings.Contains(sentence, "because instagram confirms nothing") || one.body["reason"] != "platform_hold" {
		t.Errorf("a held log: %+v", one.body)
	}
	if list := s.ask("GET", "/publishing/logs?reason=platform_hold&status=processing", ""); len(list.body["logs"].([]any)) != 20 {
		t.Errorf("held logs: %+v", list.body)
	}

	if got := s.ask("POST", "/publishing/webhooks/instagram", `{"external_post_id":"ig_0","status":"published"}`); got.status != http.StatusAccepted {
		t.Fatalf("webhook: %+v", got)
	}
	eventually(t, "the confirmation", func() bool { return w.status(logs[0]) == "success" })
	if got := s.ask("POST", "/publishing/reconcile", ""); got.body["marked_failed"] != 19.0 {
		t.Errorf("reconcile after a confirmation: %+v", got)
	}
	if status := s.ask("GET", "/publishing/status", ""); len(status.body["holds"].([]any)) != 0 {
		t.Errorf("status after a confirmation: %+v", status.body)
	}
}
