package repo_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"publish-reconciler/reconciler"
)

// diary is a scheduler that only writes down.
type diary struct {
	mu     sync.Mutex
	checks []reconciler.Recheck
}

func (d *diary) ScheduleChecks(_ context.Context, checks []reconciler.Recheck) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.checks = append(d.checks, checks...)
	return nil
}

// service is a reconciler over the world's store.
type service struct {
	*world
	*reconciler.Reconciler
	diary *diary
}

func newService(tb testing.TB) *service {
	tb.Helper()
	s := &service{world: newWorld(tb), diary: &diary{}}
	s.Reconciler = s.with(reconciler.Policy{DefaultTimeout: reconciler.DefaultTimeout})
	return s
}

func (s *service) with(policy reconciler.Policy) *reconciler.Reconciler {
	return reconciler.New(s.store, s.diary, nil, nil, policy, slog.New(slog.DiscardHandler))
}

var receivedAt = time.Date(2024, 1, 15, 10, 30, 0, 0, time.UTC)

// hear gives the service a webhook as its message is written.
func (s *service) hear(platform, message string) {
	s.Helper()
	outcomes, err := s.Webhooks(s.Context(), []reconciler.Webhook{webhook(s, platform, message)})
	if err != nil || outcomes[0].Kind != reconciler.Done {
		s.Fatalf("webhook %s: %v, %v", message, outcomes, err)
	}
}

func webhook(tb testing.TB, platform, message string) reconciler.Webhook {
	tb.Helper()
	decoder := json.NewDecoder(strings.NewReader(message))
	decoder.UseNumber()
	var fields map[string]any
	if err := decoder.Decode(&fields); err != nil {
		tb.Fatal(err)
	}
	return reconciler.Webhook{
		Post:       reconciler.Post{Platform: platform, ExternalPostID: fields["external_post_id"].(string)},
		Fields:     reconciler.Storable(fields),
		ReceivedAt: receivedAt,
	}
}

func (s *service) check(id uuid.UUID) {
	s.Helper()
	outcomes, err := s.Checks(s.Context(), []reconciler.Check{{LogID: id}})
	if err != nil || outcomes[0].Kind != reconciler.Done {
		s.Fatalf("check %s: %v, %v", id, outcomes, err)
	}
}

func (s *service) sweep() reconciler.SweepResult {
	s.Helper()
	result, err := s.Sweep(s.Context(), reconciler.SweepRequest{Trigger: reconciler.TriggerSweep})
	if err != nil {
		s.Fatal(err)
	}
	return result
}

// metadata returns a row's metadata without reconciled_at, once that is seen to be the time of the write.
func (s *service) metadata(r row) map[string]any {
	s.Helper()
	metadata := maps.Clone(r.Metadata)
	if text, there := metadata["reconciled_at"].(string); there {
		at, err := time.Parse(time.RFC3339, text)
		if err != nil || time.Since(at) > time.Minute || !strings.HasSuffix(text, "Z") {
			s.Errorf("reconciled_at is %q", text)
		}
		delete(metadata, "reconciled_at")
	}
	return metadata
}

// The examples of CONTRACT.md, section 4, and what the ledger holds beside them.
func (s *service) told(text, extra string) event {
	s.Helper()
	var e event
	if err := json.Unmarshal([]byte(text), &e); err != nil {
		s.Fatal(err)
	}
	maps.Copy(e.Metadata, object(s, extra))
	return e
}

const (
	received = `{"event_type":"publish_webhook_received","severity":"info","metadata":{"platform":"instagram","external_post_id":"ig_123","webhook_status":"published"}}`
	success  = `{"event_type":"publish_reconciled","severity":"info","metadata":{"platform":"instagram","action":"marked_success","reason":"webhook_confirmed","external_post_id":"ig_123","trigger":"webhook"}}`
	failed   = `{"event_type":"publish_reconciled","severity":"warn","metadata":{"platform":"tiktok","action":"marked_failed","reason":"webhook_timeout","timeout_minutes":10,"trigger":"check"}}`
	retried  = `{"event_type":"publish_reconciled","severity":"warn","metadata":{"platform":"tiktok","action":"marked_retry","reason":"retry_before_fail","retry_count":1,"trigger":"check"}}`
	skipped  = `{"event_type":"publish_reconcile_skipped","severity":"warn","metadata":{"platform":"tiktok","reason":"webhook_unclear","webhook_status":"in_review","trigger":"sweep"}}`

	confirmation = `{"external_post_id":"ig_123","media_url":"https://instagram.com/p/ABC/","status":"published","timestamp":"2024-01-15T10:30:00Z"}`
	heard        = `{"media_url":"https://instagram.com/p/ABC/","timestamp":"2024-01-15T10:30:00Z","webhook_received":true,
	                 "webhook_platform":"instagram","webhook_status":"published","webhook_timestamp":"2024-01-15T10:30:00Z"}`
)

func (s *service) heardAnd(reason, trigger string) map[string]any {
	metadata := object(s, heard)
	maps.Copy(metadata, map[string]any{"reconciled": true, "reconciliation_reason": reason, "reconciliation_trigger": trigger})
	return metadata
}

func TestAWebhookConfirms(t *testing.T) {
	t.Parallel()
	s := newService(t)
	id := s.publish("instagram", "ig_123", "processing", 0)
	sibling := s.publish("instagram", "ig_123", "retry", 0)
	s.hear("instagram", confirmation)
	for _, id := range []uuid.UUID{id, sibling} {
		r := s.row(id)
		equal(t, "metadata", s.metadata(r), s.heardAnd("webhook_confirmed", "webhook"))
		r.Metadata = nil
		equal(t, "row", r, row{Status: "success", URL: "https://instagram.com/p/ABC/", Published: true})
		equal(t, "history", s.history(id), []event{s.told(received, `{}`), s.told(success, `{"webhook_status":"published","webhook_timestamp":"2024-01-15T10:30:00Z","timeout_minutes":10}`)})
	}
	version := s.version(id)
	s.hear("instagram", confirmation)
	s.check(id)
	s.sweep()
	equal(t, "version after duplicates", s.version(id), version)
	equal(t, "events after duplicates", one[int](s.world, `SELECT count(*) FROM ledger_events`), 4)
}

func TestAWebhookOvertakesItsLog(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		look    func(*service, uuid.UUID)
		trigger string
	}{
		"check": {(*service).check, "check"},
		"sweep": {func(s *service, id uuid.UUID) {
			equal(s, "listed", s.sweep().SuccessLogIDs, []uuid.UUID{id})
		}, "sweep"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newService(t)
			s.hear("instagram", confirmation)
			s.hear("instagram", confirmation)
			s.sweep()
			equal(t, "parked", one[int](s.world, `SELECT count(*) FROM parked_webhooks`), 1)
			id := s.publish("instagram", "ig_123", "processing", 0)
			tt.look(s, id)
			r := s.row(id)
			equal(t, "status", r.Status, "success")
			equal(t, "metadata", s.metadata(r), s.heardAnd("webhook_confirmed", tt.trigger))
			equal(t, "parked", one[int](s.world, `SELECT count(*) FROM parked_webhooks`), 0)
			extra := `{"webhook_status":"published","webhook_timestamp":"2024-01-15T10:30:00Z","timeout_minutes":10,"trigger":"` + tt.trigger + `"}`
			equal(t, "history", s.history(id), []event{s.told(received, `{}`), s.told(success, extra)})
		})
	}
}

func TestSilence(t *testing.T) {
	t.Parallel()
	s := newService(t)
	id := s.publish("tiktok", "t_1", "processing", 10*time.Minute)
	early := s.publish("tiktok", "t_2", "processing", 9*time.Minute)
	version := s.version(early)
	s.check(id)
	s.check(early)
	r := s.row(id)
	equal(t, "metadata", s.metadata(r), object(t, `{"reconciled":true,"reconciliation_reason":"webhook_timeout","reconciliation_trigger":"check"}`))
	r.Metadata = nil
	equal(t, "row", r, row{Status: "failed", Error: "No webhook received after 10 minutes"})
	equal(t, "history", s.history(id), []event{s.told(failed, `{"external_post_id":"t_1"}`)})
	equal(t, "version of the one before its deadline", s.version(early), version)
	if len(s.diary.checks) != 1 || s.diary.checks[0].LogID != early || s.diary.checks[0].At.Sub(s.diary.checks[0].Now).Round(time.Minute) != time.Minute {
		t.Errorf("scheduled %+v", s.diary.checks)
	}

	s.hear("tiktok", `{"external_post_id":"t_1","complete":true,"video_url":"https://tiktok.example/"}`)
	r = s.row(id)
	equal(t, "reason", r.Metadata["reconciliation_reason"], any("webhook_late"))
	r.Metadata = nil
	equal(t, "row after a late webhook", r, row{Status: "success", URL: "https://tiktok.example/", Published: true})
}

func TestAutomaticRetries(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.Reconciler = s.with(reconciler.Policy{DefaultTimeout: reconciler.DefaultTimeout, Retries: map[string]int{"tiktok": 1}})
	id := s.publish("tiktok", "t_1", "processing", time.Hour)
	s.check(id)
	r := s.row(id)
	r.Metadata = nil
	equal(t, "row", r, row{Status: "retry", Retries: 1, Retried: true})
	equal(t, "history", s.history(id), []event{s.told(retried, `{"external_post_id":"t_1","timeout_minutes":10}`)})
	s.exec(`UPDATE publish_logs SET updated_at = now() - interval '1 hour'`)
	s.check(id)
	equal(t, "status in the end", s.row(id).Status, "failed")
}

func TestAPlatformRefuses(t *testing.T) {
	t.Parallel()
	s := newService(t)
	id := s.publish("tiktok", "t_1", "processing", 0)
	s.hear("tiktok", `{"external_post_id":"t_1","status":"Rejected","fail_reason":"music rights"}`)
	r := s.row(id)
	equal(t, "reason", r.Metadata["reconciliation_reason"], any("webhook_rejected"))
	r.Metadata = nil
	equal(t, "row", r, row{Status: "failed", Error: "music rights"})
	s.hear("tiktok", `{"external_post_id":"t_1","status":"published"}`)
	equal(t, "status", s.row(id).Status, "failed")
	equal(t, "severity of a webhook too many", s.history(id)[2].Severity, "warn")
}

func TestUnclearIsToldOnce(t *testing.T) {
	t.Parallel()
	s := newService(t)
	id := s.publish("tiktok", "t_1", "processing", time.Hour)
	s.exec(`UPDATE publish_logs SET extra_metadata = '{"webhook_received": true, "webhook_status": "in_review"}'`)
	version := s.version(id)
	for range 3 {
		result := s.sweep()
		equal(t, "counted", []int{result.TotalChecked, result.Skipped}, []int{1, 1})
	}
	equal(t, "history", s.history(id), []event{s.told(skipped, `{"timeout_minutes":10}`)})
	equal(t, "version", s.version(id), version)
}

func TestAnUnclearProbeIsRemembered(t *testing.T) {
	t.Parallel()
	s := newService(t)
	id := s.publish("tiktok", "t_1", "processing", time.Hour)
	s.exec(`UPDATE publish_logs SET extra_metadata = '{"probe_timestamp": "2024-01-15T10:30:00Z", "probe_status": "encoding"}'`)
	equal(t, "skipped", s.sweep().Skipped, 1)
	equal(t, "history", s.history(id), []event{{"publish_reconcile_skipped", "warn", object(t,
		`{"platform":"tiktok","reason":"webhook_unclear","probe_status":"encoding","trigger":"sweep","timeout_minutes":10}`)}})
}

func TestPendingStays(t *testing.T) {
	t.Parallel()
	s := newService(t)
	id := s.publish("instagram", "ig_123", "pending", time.Hour)
	s.hear("instagram", confirmation)
	equal(t, "row", s.row(id), row{Status: "pending", Metadata: object(t, heard)})
	equal(t, "history", s.history(id), []event{s.told(received, `{}`)})
	s.exec(`UPDATE publish_logs SET status = 'processing'`)
	s.check(id)
	equal(t, "status once the publisher has started", s.row(id).Status, "success")
}
