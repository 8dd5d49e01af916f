package reconciler

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

var errBroken = errors.New("connection refused")

// kindsOf are the kinds of outcomes.
func kindsOf(outcomes []Outcome) []OutcomeKind {
	kinds := make([]OutcomeKind, len(outcomes))
	for i, outcome := range outcomes {
		kinds[i] = outcome.Kind
	}
	return kinds
}

// hear has webhooks reconciled in one batch, and fails t unless all are done.
func hear(t *testing.T, r *Reconciler, webhooks ...Webhook) {
	t.Helper()
	outcomes, err := r.Webhooks(t.Context(), webhooks)
	wantOutcomes(t, outcomes, err, Done)
}

// check has logs checked in one batch, and fails t unless all are done.
func check(t *testing.T, r *Reconciler, checks ...Check) {
	t.Helper()
	outcomes, err := r.Checks(t.Context(), checks)
	wantOutcomes(t, outcomes, err, Done)
}

func wantOutcomes(t *testing.T, outcomes []Outcome, err error, want OutcomeKind) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	for i, outcome := range outcomes {
		if outcome.Kind != want {
			t.Fatalf("outcome %d is %+v, want kind %d", i, outcome, want)
		}
	}
}

// wantStatuses compares the statuses of all logs in the order of their ids.
func wantStatuses(t *testing.T, m *memory, want ...Status) {
	t.Helper()
	if diff := cmp.Diff(want, m.statuses()); diff != "" {
		t.Errorf("statuses (-want +got):\n%s", diff)
	}
}

// wantHistory compares a log's ledger: type, severity and the metadata that the contract names.
func wantHistory(t *testing.T, row *row, want ...Event) {
	t.Helper()
	if len(row.ledger) != len(want) {
		t.Fatalf("%d events, want %d: %+v", len(row.ledger), len(want), row.ledger)
	}
	for i, got := range row.ledger {
		if got.Type != want[i].Type || got.Severity != want[i].Severity || got.LogID != row.ID {
			t.Errorf("event %d is %s %s of %s, want %s %s of %s", i, got.Severity, got.Type, got.LogID, want[i].Severity, want[i].Type, row.ID)
		}
		for name, value := range want[i].Metadata {
			if diff := cmp.Diff(value, got.Metadata[name]); diff != "" {
				t.Errorf("%s of event %d, %s (-want +got):\n%s", name, i, got.Type, diff)
			}
		}
	}
}

func TestAWebhookSettlesItsLog(t *testing.T) {
	t.Parallel()
	r, m := setup(t, patient, open(1, instagram, time.Minute))
	m.row(1).Error = "an earlier try's"
	m.now = noon.In(time.FixedZone("", 2*60*60)) // the session's zone
	hear(t, r, webhook(t, instagram, instagramExample))

	row := m.row(1)
	if row.Status != StatusSuccess || row.Error != "" || !row.Published.Equal(noon) || !row.UpdatedAt.Equal(noon) {
		t.Errorf("row is %+v", row)
	}
	if row.ExternalURL != "https://instagram.com/p/ABC/" {
		t.Errorf("external_url is %q", row.ExternalURL)
	}
	want := map[string]any{
		"media_url": "https://instagram.com/p/ABC/", "timestamp": "2024-01-15T10:30:00Z",
		"webhook_received": true, "webhook_platform": "instagram", "webhook_status": "published",
		"webhook_timestamp": "2024-01-15T12:00:00.123456Z",
		"reconciled":        true, "reconciled_at": "2024-01-15T12:00:00.123456Z",
		"reconciliation_reason": "webhook_confirmed", "reconciliation_trigger": "webhook",
	}
	if diff := cmp.Diff(want, row.Metadata); diff != "" {
		t.Errorf("extra_metadata (-want +got):\n%s", diff)
	}
	wantHistory(t, row,
		Event{Type: EventWebhookReceived, Severity: SeverityInfo, Metadata: map[string]any{
			"platform": "instagram", "external_post_id": "ig_123", "webhook_status": "published",
		}},
		Event{Type: EventReconciled, Severity: SeverityInfo, Metadata: map[string]any{
			"platform": "instagram", "action": "marked_success", "reason": "webhook_confirmed",
			"external_post_id": "ig_123", "trigger": "webhook",
		}})
}

func TestAPublishersAddressIsKept(t *testing.T) {
	t.Parallel()
	log := open(1, instagram, 0)
	log.ExternalURL = "https://instagram.com/reel/1/"
	r, m := setup(t, patient, log)
	hear(t, r, webhook(t, instagram, instagramExample))
	if got := m.row(1).ExternalURL; got != log.ExternalURL {
		t.Errorf("external_url is %q, want %q", got, log.ExternalURL)
	}
	if got := m.outbox[0].URL; got != log.ExternalURL {
		t.Errorf("the outbox tells of %q, want %q", got, log.ExternalURL)
	}
}

func TestARefusalFailsTheLogWithThePlatformsWords(t *testing.T) {
	t.Parallel()
	r, m := setup(t, patient, open(1, tiktok, 0))
	hear(t, r, webhook(t, tiktok, `{"status":"failed","fail_reason":"Copyright","video_url":"https://v/"}`))
	row := m.row(1)
	if row.Status != StatusFailed || row.Error != "Copyright" || !row.Published.IsZero() || row.ExternalURL != "" {
		t.Errorf("row is %+v", row)
	}
	wantHistory(t, row,
		Event{Type: EventWebhookReceived, Severity: SeverityInfo},
		Event{Type: EventReconciled, Severity: SeverityWarn, Metadata: map[string]any{
			"platform": "tiktok", "action": "marked_failed", "reason": "webhook_rejected", "trigger": "webhook",
		}})
}

func TestWebhooksOfOneBatchWriteTheirLogOnce(t *testing.T) {
	t.Parallel()
	r, m := setup(t, patient, open(1, tiktok, 0))
	hear(t, r,
		webhook(t, tiktok, `{"status":"in_review","progress":50}`),
		webhook(t, tiktok, `{"status":"in_review","progress":50}`),
		webhook(t, tiktok, `{"status":"published"}`),
		webhook(t, tiktok, `{"status":"failed"}`),
	)
	row := m.row(1)
	if row.writes != 1 || m.transactions != 1 {
		t.Errorf("%d writes in %d transactions, want one", row.writes, m.transactions)
	}
	if row.Status != StatusSuccess || row.Metadata["progress"] == nil {
		t.Errorf("status is %q with %v", row.Status, row.Metadata)
	}
	wantHistory(t, row,
		Event{Type: EventWebhookReceived, Severity: SeverityInfo, Metadata: map[string]any{"webhook_status": "in_review"}},
		Event{Type: EventSkipped, Severity: SeverityWarn, Metadata: map[string]any{
			"platform": "tiktok", "reason": "webhook_unclear", "webhook_status": "in_review", "trigger": "webhook",
		}},
		Event{Type: EventWebhookReceived, Severity: SeverityInfo, Metadata: map[string]any{"webhook_status": "published"}},
		Event{Type: EventReconciled, Severity: SeverityInfo})
}

func TestAllLogsOfAPostAreSettled(t *testing.T) {
	t.Parallel()
	pending := open(3, tiktok, 0)
	pending.Status = StatusPending
	r, m := setup(t, patient, open(1, tiktok, 0), open(2, tiktok, 0), pending, open(4, instagram, 0))
	hear(t, r, webhook(t, tiktok, tiktokExample))
	wantStatuses(t, m, StatusSuccess, StatusSuccess, StatusPending, StatusProcessing)
	if m.row(3).Metadata["webhook_received"] != true {
		t.Error("the pending log has no evidence")
	}
}

func TestALateWebhook(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		ignore   bool
		want     Status
		severity Severity // of what the ledger says about the webhook
	}{
		"accepted": {false, StatusSuccess, SeverityInfo},
		"ignored":  {true, StatusFailed, SeverityWarn},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, m := setup(t, Policy{DefaultTimeout: DefaultTimeout, IgnoreLate: test.ignore}, open(1, tiktok, time.Hour))
			check(t, r, Check{LogID: logID(1)})
			wantStatuses(t, m, StatusFailed)
			hear(t, r, webhook(t, tiktok, tiktokExample))
			wantStatuses(t, m, test.want)
			row := m.row(1)
			if (row.Error == "") != (test.want == StatusSuccess) {
				t.Errorf("%q has error %q", row.Status, row.Error)
			}
			if told := row.ledger[1]; told.Type != EventWebhookReceived || told.Severity != test.severity {
				t.Errorf("the ledger says %s %s of the webhook", told.Severity, told.Type)
			}
		})
	}
}

func TestAWebhookWithoutALogIsParked(t *testing.T) {
	t.Parallel()
	r, m := setup(t, patient)
	first := webhook(t, tiktok, `{"external_post_id":"tiktok_video_67890","complete":true,"views":7}`)
	again := webhook(t, tiktok, `{"views":7,"complete":true,"external_post_id":"tiktok_video_67890"}`)
	again.ReceivedAt = noon.Add(time.Minute)
	hear(t, r, first, again)
	hear(t, r, again)
	if len(m.parked) != 1 {
		t.Errorf("%d webhooks are parked, want the same content once", len(m.parked))
	}
	hear(t, r,
		webhook(t, tiktok, `{"external_post_id":"tiktok_video_67890","complete":false,"views":7}`),
		webhook(t, Post{"tiktok", "other"}, `{"external_post_id":"tiktok_video_67890","complete":true,"views":7}`),
		webhook(t, Post{"youtube", tiktok.ExternalPostID}, `{"external_post_id":"tiktok_video_67890","complete":true,"views":7}`))
	if len(m.parked) != 4 {
		t.Errorf("%d webhooks are parked, want 4 of different content or posts", len(m.parked))
	}
	for _, parked := range m.parked {
		if parked.ID == uuid.Nil || parked.Fields["views"] == nil || parked.ReceivedAt.IsZero() {
			t.Errorf("parked is %+v", parked)
		}
	}
}

func TestALargeWebhookIsParkedWithoutItsBallast(t *testing.T) {
	t.Parallel()
	r, m := setup(t, patient)
	hear(t, r, webhook(t, tiktok, `{"external_post_id":"x","status":"failed","error":{"code":1},"caption":"`+strings.Repeat("x", 70_000)+`","likes":[1]}`))
	m.rows[logID(1)] = &row{Log: open(1, tiktok, 0)}
	for _, parked := range m.parked {
		want := map[string]any{"external_post_id": "x", "status": "failed", "error": `{"code":1}`, "caption": strings.Repeat("x", 2048)}
		if diff := cmp.Diff(want, parked.Fields); diff != "" {
			t.Errorf("parked (-want +got):\n%s", diff)
		}
	}
	check(t, r, Check{LogID: logID(1)})
	if got := m.row(1).Error; got != `{"code":1}` {
		t.Errorf("error message is %q", got)
	}
}

func TestACheckFindsWhatIsParked(t *testing.T) {
	t.Parallel()
	r, m := setup(t, patient)
	hear(t, r, webhook(t, tiktok, tiktokExample), webhook(t, instagram, instagramExample))
	for n, post := range []Post{tiktok, tiktok, instagram} { // their publishers commit
		log := open(n+1, post, time.Hour)
		m.rows[log.ID] = &row{Log: log}
	}
	check(t, r, Check{LogID: logID(2)})
	wantStatuses(t, m, StatusSuccess, StatusSuccess, StatusProcessing)
	if len(m.parked) != 1 {
		t.Errorf("%d webhooks are still parked, want instagram's", len(m.parked))
	}
	if got := m.row(1).Metadata["reconciliation_trigger"]; got != "check" {
		t.Errorf("the other log's trigger is %v", got)
	}
	check(t, r, Check{LogID: logID(3)})
	wantStatuses(t, m, StatusSuccess, StatusSuccess, StatusSuccess)
	if len(m.parked) != 0 {
		t.Errorf("%d webhooks are still parked", len(m.parked))
	}
}

func TestParkedWebhooksAreTakenInTheirOrder(t *testing.T) {
	t.Parallel()
	r, m := setup(t, patient)
	later := webhook(t, tiktok, `{"status":"published"}`)
	later.ReceivedAt = noon.Add(time.Second)
	hear(t, r, later, webhook(t, tiktok, `{"status":"in_review","task_id":"1"}`))
	m.rows[logID(1)] = &row{Log: open(1, tiktok, 0)}
	check(t, r, Check{LogID: logID(1)})
	wantStatuses(t, m, StatusSuccess)
	if m.row(1).Metadata["task_id"] != "1" || m.row(1).writes != 1 {
		t.Errorf("after %d writes: %v", m.row(1).writes, m.row(1).Metadata)
	}
	if len(m.scheduled) != 0 {
		t.Errorf("scheduled %+v for a closed log", m.scheduled)
	}
}

// It holds up nobody but itself.
func TestALogThatAnotherTransactionHolds(t *testing.T) {
	t.Parallel()
	r, m := setup(t, patient, open(1, tiktok, time.Hour), open(2, instagram, time.Hour))
	m.held[logID(1)] = true
	outcomes, err := r.Webhooks(t.Context(), []Webhook{webhook(t, tiktok, tiktokExample), webhook(t, instagram, instagramExample)})
	if err != nil || outcomes[0].Kind != Held || outcomes[1].Kind != Done {
		t.Errorf("webhooks: %v, error %v, want held and done", kindsOf(outcomes), err)
	}
	if len(m.parked) != 0 {
		t.Errorf("parked %+v, and there is a log", m.parked)
	}
	outcomes, err = r.Checks(t.Context(), []Check{{LogID: logID(2)}, {LogID: logID(1)}, {LogID: logID(3)}})
	if err != nil || !slices.Equal(kindsOf(outcomes), []OutcomeKind{Done, Held, NotFound}) {
		t.Errorf("checks: %v, error %v, want done, held, not found", kindsOf(outcomes), err)
	}
	wantStatuses(t, m, StatusProcessing, StatusSuccess)
}

func TestACheckOfNoLogIsNotFound(t *testing.T) {
	t.Parallel()
	r, m := setup(t, patient, open(1, tiktok, time.Hour))
	outcomes, err := r.Checks(t.Context(), []Check{{LogID: logID(7)}, {LogID: logID(1)}})
	if diff := cmp.Diff([]OutcomeKind{NotFound, Done}, kindsOf(outcomes)); diff != "" || err != nil {
		t.Errorf("error %v, outcomes (-want +got):\n%s", err, diff)
	}
	wantStatuses(t, m, StatusFailed)
}

func TestACheckIsScheduledAgain(t *testing.T) {
	t.Parallel()
	own := 2 * time.Minute
	retrying := Policy{DefaultTimeout: DefaultTimeout, Retries: map[string]int{"tiktok": 1}}
	tests := map[string]struct {
		policy Policy
		age    time.Duration
		own    *time.Duration
		want   []Recheck
	}{
		"for the deadline":             {patient, time.Minute, nil, []Recheck{{logID(1), nil, noon.Add(9 * time.Minute), noon}}},
		"for its own deadline":         {patient, time.Minute, &own, []Recheck{{logID(1), &own, noon.Add(time.Minute), noon}}},
		"for a retry's":                {retrying, time.Hour, nil, []Recheck{{logID(1), nil, noon.Add(10 * time.Minute), noon}}},
		"for a retry's, by its own":    {retrying, time.Hour, &own, []Recheck{{logID(1), &own, noon.Add(2 * time.Minute), noon}}},
		"not when the log has failed":  {patient, time.Hour, nil, nil},
		"not when its own is used up":  {patient, 2 * time.Minute, &own, nil},
		"a retry before its own is up": {retrying, time.Minute, &own, []Recheck{{logID(1), &own, noon.Add(time.Minute), noon}}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, m := setup(t, test.policy, open(1, tiktok, test.age))
			check(t, r, Check{LogID: logID(1), Timeout: test.own})
			if diff := cmp.Diff(test.want, m.scheduled); diff != "" {
				t.Errorf("scheduled (-want +got):\n%s", diff)
			}
		})
	}
}

func TestARetryIsCounted(t *testing.T) {
	t.Parallel()
	r, m := setup(t, Policy{DefaultTimeout: DefaultTimeout, Retries: map[string]int{"tiktok": 1}}, open(1, tiktok, time.Hour))
	check(t, r, Check{LogID: logID(1)})
	row := m.row(1)
	if row.Status != StatusRetry || row.RetryCount != 1 || !row.RetriedAt.Equal(noon) || row.Error != "" {
		t.Errorf("row is %+v", row)
	}
	m.now = noon.Add(10 * time.Minute)
	check(t, r, Check{LogID: logID(1)})
	wantStatuses(t, m, StatusFailed)
	wantHistory(t, row,
		Event{Type: EventReconciled, Severity: SeverityWarn, Metadata: map[string]any{
			"platform": "tiktok", "action": "marked_retry", "reason": "retry_before_fail", "retry_count": 1, "trigger": "check",
		}},
		Event{Type: EventReconciled, Severity: SeverityWarn, Metadata: map[string]any{
			"platform": "tiktok", "action": "marked_failed", "reason": "webhook_timeout", "timeout_minutes": 10.0, "trigger": "check",
		}})
}

func TestTwoChecksOfOneBatchRetryOnce(t *testing.T) {
	t.Parallel()
	r, m := setup(t, Policy{DefaultTimeout: DefaultTimeout, Retries: map[string]int{"tiktok": 2}}, open(1, tiktok, time.Hour))
	check(t, r, Check{LogID: logID(1)}, Check{LogID: logID(1)})
	if row := m.row(1); row.RetryCount != 1 || row.writes != 1 {
		t.Errorf("retry_count is %d after %d writes, want one retry", row.RetryCount, row.writes)
	}
}

func TestABrokenSchedulerBringsTheChecksBack(t *testing.T) {
	t.Parallel()
	r, m := setup(t, Policy{DefaultTimeout: DefaultTimeout, Retries: map[string]int{"tiktok": 1}}, open(1, tiktok, time.Hour))
	m.broken = errBroken
	outcomes, err := r.Checks(t.Context(), []Check{{LogID: logID(1)}})
	if !errors.Is(err, errBroken) || outcomes[0].Kind != Later {
		t.Errorf("outcome %+v with error %v, want Later with %v", outcomes[0], err, errBroken)
	}
	m.broken = nil
	check(t, r, Check{LogID: logID(1)}) // it comes again, and does not retry twice
	if row := m.row(1); row.RetryCount != 1 || row.count(EventReconciled) != 1 {
		t.Errorf("retry_count %d, ledger %+v", row.RetryCount, row.ledger)
	}
	if diff := cmp.Diff([]Recheck{{logID(1), nil, noon.Add(10 * time.Minute), noon}}, m.scheduled); diff != "" {
		t.Errorf("scheduled (-want +got):\n%s", diff)
	}
}

func TestTheLedgerTellsASkipOnce(t *testing.T) {
	t.Parallel()
	r, m := setup(t, patient, open(1, tiktok, time.Hour))
	hear(t, r, webhook(t, tiktok, `{"status":"in_review"}`))
	check(t, r, Check{LogID: logID(1)}, Check{LogID: logID(1)})
	check(t, r, Check{LogID: logID(1)})
	if got := m.row(1).count(EventSkipped); got != 1 {
		t.Errorf("%d skips are told, want 1", got)
	}
	other := webhook(t, tiktok, `{"status":"queued"}`)
	hear(t, r, other)
	if got := m.row(1).count(EventSkipped); got != 2 {
		t.Errorf("%d skips are told after another status, want 2", got)
	}
	if len(m.scheduled) != 0 {
		t.Errorf("scheduled %+v for unclear evidence", m.scheduled)
	}
}
