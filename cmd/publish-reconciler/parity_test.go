package main

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// What the original system's tests asked of it, asked of this one from the outside.

// originalPlatforms are the original's three, with a message as each of them sends it.
var originalPlatforms = map[string]struct {
	post, body string
	url        string         // where the log must lead to
	recorded   map[string]any // what its metadata must hold of the platform's own
}{
	"instagram": {
		"ig_123", `{"external_post_id":"ig_123","media_url":"https://instagram.com/p/ABC/","status":"published","timestamp":"2024-01-15T10:30:00Z"}`,
		"https://instagram.com/p/ABC/",
		map[string]any{"media_url": "https://instagram.com/p/ABC/", "timestamp": "2024-01-15T10:30:00Z"},
	},
	"tiktok": {
		"tiktok_video_67890", `{"external_post_id":"tiktok_video_67890","task_id":"task_abc123","complete":true,"video_url":"https://www.tiktok.com/@user/video/123"}`,
		"https://www.tiktok.com/@user/video/123",
		map[string]any{"task_id": "task_abc123", "complete": true, "video_url": "https://www.tiktok.com/@user/video/123"},
	},
	"youtube": {
		"youtube_video_XYZ789", `{"external_post_id":"youtube_video_XYZ789","videoId":"dQw4w9WgXcQ","publishAt":"2024-01-15T10:30:00Z","status":"published"}`,
		"https://www.youtube.com/watch?v=dQw4w9WgXcQ",
		map[string]any{"videoId": "dQw4w9WgXcQ", "publishAt": "2024-01-15T10:30:00Z"},
	},
}

// webhookDoors are the two ways in for a webhook.
func webhookDoors(s served, w *world) map[string]func(platform, body string) {
	return map[string]func(platform, body string){
		"HTTP": func(platform, body string) {
			if got := s.ask("POST", "/publishing/webhooks/"+platform, body); got.status != http.StatusAccepted {
				w.Errorf("%s %s: %+v", platform, body, got)
			}
		},
		"NATS": func(platform, body string) { w.send("publish.webhook."+platform, body) },
	}
}

func TestParityWebhookOfEachPlatform(t *testing.T) {
	t.Parallel()
	for _, door := range []string{"HTTP", "NATS"} {
		w := newWorld(t)
		s := w.serve()
		for platform, tt := range originalPlatforms {
			id := w.publishOn(platform, tt.post)
			webhookDoors(s, w)[door](platform, tt.body)
			log := s.becomes(id, "success")
			if log["reason"] != "webhook_confirmed" || log["external_url"] != tt.url || log["published_at"] == nil || log["error_message"] != nil {
				t.Errorf("%s: %v", door, log)
			}
			metadata := log["extra_metadata"].(map[string]any)
			want := map[string]any{
				"webhook_received": true, "webhook_platform": platform, "webhook_status": "published", "reconciled": true,
				"reconciliation_reason": "webhook_confirmed", "reconciliation_trigger": "webhook",
			}
			for _, fields := range []map[string]any{want, tt.recorded} {
				for key, value := range fields {
					if metadata[key] != value {
						t.Errorf("%s: %s: %s is %v, want %v", door, platform, key, metadata[key], value)
					}
				}
			}
		}
	}
}

func TestParityWebhookWithoutID(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve()
	const body = `{"media_url":"https://instagram.com/p/ABC/","status":"published"}`
	id := w.publishOn("instagram", "ig_123")
	got := s.ask("POST", "/publishing/webhooks/instagram", body)
	if got.status != http.StatusBadRequest {
		t.Errorf("%+v", got)
	}
	contains(t, got.error(), "external_post_id is missing")

	w.send("publish.webhook.instagram", body)
	eventually(t, "a dead letter", func() bool { return w.stored("PUBLISH_DEAD") == 1 })
	letter, err := w.stream("PUBLISH_DEAD").GetLastMsgForSubject(t.Context(), "publish.dead.webhook")
	if err != nil || string(letter.Data) != body || letter.Header.Get("Publish-Dead-Reason") != "missing_external_post_id" {
		t.Errorf("%+v, %v", letter, err)
	}
	if log := s.becomes(id, "processing"); len(log["history"].([]any)) != 0 {
		t.Errorf("%v", log)
	}
}

// The original said at once that it has no such log; here the webhook waits for it.
func TestParityWebhookForUnknownLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve()
	for door, handIn := range webhookDoors(s, w) {
		for how, find := range map[string]func(id string){
			"its next check": func(id string) { w.send("publish.check."+id, "") },
			"the next sweep": func(string) { w.send("publish.sweep", "") },
			"reconcile now":  func(string) { s.ask("POST", "/publishing/reconcile", "") },
		} {
			post := door + " " + how
			handIn("instagram", `{"external_post_id":"`+post+`","status":"published"}`)
			parked := func() string {
				return w.text(`SELECT count(*)::text FROM parked_webhooks WHERE platform = 'instagram' AND external_post_id = $1`, post)
			}
			eventually(t, "parked: "+post, func() bool { return parked() == "1" })
			id := w.publishOn("instagram", post)
			find(id)
			if log := s.becomes(id, "success"); log["reason"] != "webhook_confirmed" || log["parked_webhooks"] != 0.0 {
				t.Errorf("%s: %v", post, log)
			}
			if n := parked(); n != "0" {
				t.Errorf("%s: %s parked", post, n)
			}
		}
	}
	if n := w.stored("PUBLISH_DEAD"); n != 0 {
		t.Errorf("%d dead letters", n)
	}
}

func TestParityLedgerOfWebhook(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve()
	for door, handIn := range webhookDoors(s, w) {
		post := "ig_" + door
		id := w.publishOn("instagram", post)
		handIn("instagram", `{"external_post_id":"`+post+`","status":"published"}`)
		wantHistory(t, s.becomes(id, "success"),
			ledgerEvent{"publish_webhook_received", "info", map[string]any{"external_post_id": post, "webhook_status": "published"}},
			ledgerEvent{"publish_reconciled", "info", map[string]any{"action": "marked_success", "reason": "webhook_confirmed", "external_post_id": post, "trigger": "webhook"}})
	}
}

func TestParityReconcile(t *testing.T) {
	t.Parallel()
	const (
		success = "success"
		failed  = "failed"
		open    = "processing"
	)
	type log struct {
		status, metadata string
		age              time.Duration
		want             string
	}
	for name, tt := range map[string]struct {
		since int
		logs  []log
	}{
		"marks success":      {10, []log{{open, confirmed, 15 * time.Minute, success}}},
		"marks failed":       {10, []log{{open, `{}`, 15 * time.Minute, failed}}},
		"ignores final logs": {10, []log{{success, `{}`, time.Hour, success}, {failed, confirmed, time.Hour, failed}}},
		"respects the window": {30, []log{
			{open, `{}`, 31 * time.Minute, failed},
			{open, confirmed, 31 * time.Minute, success},
			{open, `{}`, 29 * time.Minute, open},
			{open, confirmed, 29 * time.Minute, open},
			{open, `{}`, 0, open},
		}},
		"handles retry": {10, []log{{"retry", confirmed, 20 * time.Minute, success}, {"retry", `{}`, 15 * time.Minute, failed}, {"retry", `{}`, 0, "retry"}}},
		"3 confirmed and 2 silent at once": {10, []log{
			{open, confirmed, 20 * time.Minute, success},
			{open, `{}`, 19 * time.Minute, failed},
			{open, confirmed, 18 * time.Minute, success},
			{open, `{}`, 17 * time.Minute, failed},
			{open, confirmed, 16 * time.Minute, success},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			s := w.serve()
			ids := make([]string, len(tt.logs))
			marked := map[string][]any{success: {}, failed: {}}
			for i, log := range tt.logs {
				ids[i] = w.publish(fmt.Sprint("post ", i), log.status, log.metadata, log.age)
				if log.status != log.want {
					marked[log.want] = append(marked[log.want], ids[i])
				}
			}
			got := s.ask("POST", fmt.Sprintf("/publishing/reconcile?since_minutes=%d", tt.since), "")
			want := map[string]any{
				"total_checked":  float64(len(marked[success]) + len(marked[failed])),
				"marked_success": float64(len(marked[success])), "marked_failed": float64(len(marked[failed])), "marked_retry": 0.0, "skipped": 0.0,
				"success_log_ids": marked[success], "failed_log_ids": marked[failed],
			}
			if diff := cmp.Diff(want, got.body); diff != "" || got.status != http.StatusOK {
				t.Errorf("%d: %s", got.status, diff)
			}
			for i, log := range tt.logs {
				row := s.ask("GET", "/publishing/logs/"+ids[i], "").body
				silence := fmt.Sprintf("No webhook received after %d minutes", tt.since)
				switch {
				case row["status"] != log.want || w.status(ids[i]) != log.want:
					t.Errorf("%+v: %v", log, row)
				case log.status == log.want: // left alone
					wantHistory(t, row)
				case log.want == failed && (row["reason"] != "webhook_timeout" || row["error_message"] != silence || row["published_at"] != nil),
					log.want == success && (row["reason"] != "webhook_confirmed" || row["error_message"] != nil || row["published_at"] == nil):
					t.Errorf("%+v: %v", log, row)
				}
			}
		})
	}
}

func TestParityLedgerOfReconcile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve()
	won, lost := w.publish("ig_1", "processing", confirmed, 15*time.Minute), w.publish("ig_2", "processing", `{}`, 15*time.Minute)
	for range 2 { // the second finds nothing to do
		s.ask("POST", "/publishing/reconcile?since_minutes=10", "")
		wantHistory(t, s.becomes(won, "success"),
			ledgerEvent{"publish_reconciled", "info", map[string]any{"action": "marked_success", "reason": "webhook_confirmed", "external_post_id": "ig_1", "trigger": "api"}})
		wantHistory(t, s.becomes(lost, "failed"),
			ledgerEvent{"publish_reconciled", "warn", map[string]any{"action": "marked_failed", "reason": "webhook_timeout", "trigger": "api", "timeout_minutes": 10.0}})
	}
}

// ledgerEvent is one of a log's ledger, with what its metadata holds besides the log's platform.
type ledgerEvent struct {
	kind, severity string
	metadata       map[string]any
}

// wantHistory wants a log, as GET answers it, to have these events and no others.
func wantHistory(t *testing.T, log map[string]any, want ...ledgerEvent) {
	t.Helper()
	history := log["history"].([]any)
	if len(history) != len(want) {
		t.Errorf("%d events, want %d: %v", len(history), len(want), history)
		return
	}
	for i, want := range want {
		got := history[i].(map[string]any)
		metadata := got["metadata"].(map[string]any)
		if got["event_type"] != want.kind || got["severity"] != want.severity || metadata["platform"] != log["platform"] {
			t.Errorf("event %d is %v, want %v", i, got, want)
		}
		for key, value := range want.metadata {
			if metadata[key] != value {
				t.Errorf("event %d: %s is %v, want %v", i, key, metadata[key], value)
			}
		}
	}
}

// publishOn inserts a log with the least that a publisher gives.
func (w *world) publishOn(platform, post string) string {
	w.Helper()
	id := uuid.NewString()
	w.exec(`INSERT INTO publish_logs (id, platform, status, external_post_id) VALUES ($1, $2, 'processing', $3)`, id, platform, post)
	return id
}

// send publishes a message that JetStream stores.
func (w *world) send(subject, body string) {
	w.Helper()
	if _, err := w.nats.JetStream(w).Publish(w.Context(), subject, []byte(body)); err != nil {
		w.Fatalf("%s: %v", subject, err)
	}
}

// becomes is the log, as GET answers it, once it has this status.
func (s served) becomes(id, status string) (log map[string]any) {
	s.Helper()
	eventually(s, id+" is "+status, func() bool {
		log = s.ask("GET", "/publishing/logs/"+id, "").body
		return log["status"] == status
	})
	return log
}
