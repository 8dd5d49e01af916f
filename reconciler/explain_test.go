package reconciler

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// clockAt is a moment of the day of the tests, in 15:04:05.
func clockAt(clock string) time.Time {
	t, err := time.Parse(time.DateTime, "2024-01-15 "+clock)
	if err != nil {
		panic(err)
	}
	return t
}

// told is a ledger event, at a moment of the day.
func told(clock string, eventType EventType, metadata string) HistoryEvent {
	return HistoryEvent{Timestamp: clockAt(clock), Type: eventType, Severity: SeverityWarn, Metadata: json.RawMessage(metadata)}
}

// viewed is a log of tiktok's that a publisher left in processing at 10:35:03, seen at 10:40.
func viewed(change func(*View)) View {
	created, updated := clockAt("10:35:00"), clockAt("10:35:03")
	v := View{
		Row: Row{
			ID: logID(1), Platform: "tiktok", Status: StatusProcessing, MaxRetries: 3, CreatedAt: &created, UpdatedAt: &updated,
			ExtraMetadata: json.RawMessage(`{}`),
		},
		Now: clockAt("10:40:00"),
	}
	change(&v)
	return v
}

// row sets what most situations set.
func (v *View) row(status Status, now, updated, metadata string) {
	at := clockAt(updated)
	v.Status, v.Now, v.UpdatedAt, v.ExtraMetadata = status, clockAt(now), &at, json.RawMessage(metadata)
}

const (
	timedOut    = `{"action":"marked_failed","reason":"webhook_timeout","timeout_minutes":10}`
	rowTimedOut = `{"reconciliation_reason":"webhook_timeout","reconciled_at":"2024-01-15T10:45:03.5Z"}`
)

func TestExplain(t *testing.T) {
	t.Parallel()
	longError := "x" + strings.Repeat("ä", 150)
	patient := Policy{DefaultTimeout: 10 * time.Minute}
	tests := map[string]struct {
		policy Policy
		change func(*View)
		want   string
		next   string // the end of want
		nextAt string
	}{
		"pending": {
			change: func(v *View) { v.Status = StatusPending },
			want:   "pending since 10:35:00 UTC because its publisher has not started; nothing happens until it does",
			next:   "nothing happens until it does",
		},
		"pending, requested at a time only": {
			change: func(v *View) {
				requested := clockAt("10:34:00")
				v.Status, v.CreatedAt, v.RequestedAt = StatusPending, nil, &requested
			},
			want: "pending since 10:34:00 UTC because its publisher has not started; nothing happens until it does",
			next: "nothing happens until it does",
		},
		"pending, of an unknown time": {
			change: func(v *View) { v.Status, v.CreatedAt = StatusPending, nil },
			want:   "pending because its publisher has not started; nothing happens until it does",
			next:   "nothing happens until it does",
		},
		"pending, with a webhook": {
			change: func(v *View) { v.row(StatusPending, "10:40:00", "10:36:00", `{"webhook_status":"published"}`) },
			want: `pending since 10:35:00 UTC because its publisher has not started; a webhook came already ("published") and counts from then on; ` +
				`nothing happens until it does`,
			next: "nothing happens until it does",
		},

		"processing": {
			change: func(*View) {},
			want:   "processing since its last update at 10:35:03 UTC; if no webhook comes by 10:45:03 UTC and tiktok has no answer then, it fails",
			next:   "if no webhook comes by 10:45:03 UTC and tiktok has no answer then, it fails",
			nextAt: "10:45:03",
		},
		"processing, the platform's own timeout": {
			policy: Policy{DefaultTimeout: time.Minute, Timeouts: map[string]time.Duration{"tiktok": 30 * time.Minute}},
			change: func(*View) {},
			want:   "processing since its last update at 10:35:03 UTC; if no webhook comes by 11:05:03 UTC and tiktok has no answer then, it fails",
			next:   "if no webhook comes by 11:05:03 UTC and tiktok has no answer then, it fails",
			nextAt: "11:05:03",
		},
		"processing, with retries": {
			policy: Policy{DefaultTimeout: 10 * time.Minute, Retries: map[string]int{"tiktok": 2}},
			change: func(*View) {},
			want: "processing since its last update at 10:35:03 UTC; " +
				"if no webhook comes by 10:45:03 UTC and tiktok has no answer then, it is retried (automatic retry 1 of 2)",
			next:   "if no webhook comes by 10:45:03 UTC and tiktok has no answer then, it is retried (automatic retry 1 of 2)",
			nextAt: "10:45:03",
		},
		"processing, its own retries used up": {
			policy: Policy{DefaultTimeout: 10 * time.Minute, Retries: map[string]int{"tiktok": 2}},
			change: func(v *View) { v.RetryCount, v.MaxRetries = 1, 1 },
			want:   "processing since its last update at 10:35:03 UTC; if no webhook comes by 10:45:03 UTC and tiktok has no answer then, it fails",
			next:   "if no webhook comes by 10:45:03 UTC and tiktok has no answer then, it fails",
			nextAt: "10:45:03",
		},
		"processing, over midnight": {
			change: func(v *View) {
				v.row(StatusProcessing, "00:05:00", "00:00:00", `{}`)
				updated := clockAt("00:00:00").Add(-time.Second)
				v.UpdatedAt = &updated
			},
			want: "processing since its last update at 2024-01-14 23:59:59 UTC; " +
				"if no webhook comes by 00:09:59 UTC and tiktok has no answer then, it fails",
			next:   "if no webhook comes by 00:09:59 UTC and tiktok has no answer then, it fails",
			nextAt: "00:09:59",
		},
		"processing, in another zone": {
			change: func(v *View) {
				updated := v.UpdatedAt.In(time.FixedZone("", 12*60*60))
				v.UpdatedAt = &updated
			},
			want:   "processing since its last update at 10:35:03 UTC; if no webhook comes by 10:45:03 UTC and tiktok has no answer then, it fails",
			next:   "if no webhook comes by 10:45:03 UTC and tiktok has no answer then, it fails",
			nextAt: "10:45:03",
		},
		"processing, until what JSON can't say": {
			change: func(v *View) {
				updated := time.Date(9999, 12, 31, 23, 59, 0, 0, time.UTC)
				v.UpdatedAt = &updated
			},
			want: "processing since its last update at 9999-12-31 23:59:00 UTC; " +
				"if no webhook comes by 10000-01-01 00:09:00 UTC and tiktok has no answer then, it fails",
			next: "if no webhook comes by 10000-01-01 00:09:00 UTC and tiktok has no answer then, it fails",
		},
		"processing, of no platform": {
			change: func(v *View) { v.Platform = "" },
			want:   "processing since its last update at 10:35:03 UTC; if no webhook comes by 10:45:03 UTC and the platform has no answer then, it fails",
			next:   "if no webhook comes by 10:45:03 UTC and the platform has no answer then, it fails",
			nextAt: "10:45:03",
		},
		"processing, of an odd platform": {
			change: func(v *View) { v.Platform = "tik\ntok" },
			want:   `processing since its last update at 10:35:03 UTC; if no webhook comes by 10:45:03 UTC and "tik\ntok" has no answer then, it fails`,
			next:   `if no webhook comes by 10:45:03 UTC and "tik\ntok" has no answer then, it fails`,
			nextAt: "10:45:03",
		},
		"processing, at its deadline": {
			change: func(v *View) { v.Now = clockAt("10:45:03") },
			want: "processing since its last update at 10:35:03 UTC; its deadline passed at 10:45:03 UTC; " +
				"the next sweep closes it: without an answer of tiktok it fails",
			next: "the next sweep closes it: without an answer of tiktok it fails",
		},
		"processing, past its deadline, with retries": {
			policy: Policy{DefaultTimeout: 10 * time.Minute, Retries: map[string]int{"tiktok": 1}},
			change: func(v *View) { v.Now = clockAt("10:45:04") },
			want: "processing since its last update at 10:35:03 UTC; its deadline passed at 10:45:03 UTC; " +
				"the next sweep looks at it: without an answer of tiktok it is retried (automatic retry 1 of 1)",
			next: "the next sweep looks at it: without an answer of tiktok it is retried (automatic retry 1 of 1)",
		},
		"processing, of an unknown time": {
			change: func(v *View) { v.UpdatedAt = nil },
			want:   "processing; it has no time of update and counts as due; the next sweep closes it: without an answer of tiktok it fails",
			next:   "the next sweep closes it: without an answer of tiktok it fails",
		},
		"processing, reopened": {
			change: func(v *View) {
				v.row(StatusProcessing, "10:50:00", "10:49:00", rowTimedOut)
				v.History = []HistoryEvent{
					told("10:45:03", EventReconciled, `{"action":"marked_failed","reason":"webhook_timeout","timeout_minutes":10,"probe":"no_answer"}`),
				}
			},
			want:   "processing since its last update at 10:49:00 UTC; if no webhook comes by 10:59:00 UTC and tiktok has no answer then, it fails",
			next:   "if no webhook comes by 10:59:00 UTC and tiktok has no answer then, it fails",
			nextAt: "10:59:00",
		},

		"a parked webhook": {
			change: func(v *View) { v.Parked = 1 },
			want:   "processing since its last update at 10:35:03 UTC; 1 parked webhook of its post waits, and the next check or sweep reads it",
			next:   "1 parked webhook of its post waits, and the next check or sweep reads it",
		},
		"parked webhooks of a failed log": {
			change: func(v *View) {
				v.row(StatusFailed, "10:50:00", "10:45:03", rowTimedOut)
				v.Parked, v.History = 2, []HistoryEvent{told("10:45:03", EventReconciled, timedOut)}
			},
			want: "failed at 10:45:03 UTC because no webhook came in 10 minutes; 2 parked webhooks of its post wait, and the next check or sweep reads them; " +
				"a late webhook would still correct it",
			next: "a late webhook would still correct it",
		},
		"another writer's confirmation": {
			change: func(v *View) { v.row(StatusProcessing, "10:40:00", "10:35:03", `{"webhook_status":"published"}`) },
			want: `processing since its last update at 10:35:03 UTC; its row holds the platform's word already ("published"); ` +
				`its check at 10:45:03 UTC makes it a success`,
			next:   "its check at 10:45:03 UTC makes it a success",
			nextAt: "10:45:03",
		},
		"another writer's refusal": {
			change: func(v *View) { v.row(StatusProcessing, "11:40:00", "10:35:03", `{"webhook_status":"failed"}`) },
			want:   `processing since its last update at 10:35:03 UTC; its row holds the platform's word already ("failed"); the next sweep fails it`,
			next:   "the next sweep fails it",
		},

		"an unclear webhook": {
			change: func(v *View) {
				v.row(StatusProcessing, "10:40:00", "10:38:00", `{"webhook_received":true,"webhook_status":"in_review","webhook_timestamp":"2024-01-15T10:38:00Z"}`)
				v.History = []HistoryEvent{
					told("10:38:00", EventWebhookReceived, `{"webhook_status":"in_review"}`),
					told("10:38:00", EventSkipped, `{"reason":"webhook_unclear","webhook_status":"in_review"}`),
				}
			},
			want: `processing since its last update at 10:38:00 UTC; the webhook at 10:38:00 UTC is unclear ("in_review"); ` +
				`it waits for a clear webhook, and from 10:48:00 UTC on tiktok is asked`,
			next:   "it waits for a clear webhook, and from 10:48:00 UTC on tiktok is asked",
			nextAt: "10:48:00",
		},
		"an unclear webhook past its deadline, and an unclear probe": {
			change: func(v *View) {
				v.row(StatusProcessing, "11:00:00", "10:38:00", `{"webhook_received":true,"webhook_status":null}`)
				v.History = []HistoryEvent{
					told("10:48:00", EventSkipped, `{"reason":"webhook_unclear","webhook_status":null,"probe":"no_answer"}`),
					told("10:49:00", EventSkipped, `{"reason":"webhook_unclear","webhook_status":null,"probe":"answered","probe_status":"queued"}`),
				}
			},
			want: `processing since its last update at 10:38:00 UTC; the webhook is unclear; tiktok was asked at 10:49:00 UTC and gave no clear answer ("queued"); ` +
				`1 probe unanswered; it stays open until a clear webhook, a clear answer of tiktok or an override comes`,
			next: "it stays open until a clear webhook, a clear answer of tiktok or an override comes",
		},
		"an unclear probe": {
			change: func(v *View) {
				v.row(StatusProcessing, "10:46:00", "10:45:03", `{"probe_status":"in_review","probe_timestamp":"2024-01-15T10:45:03Z"}`)
				v.History = []HistoryEvent{
					told("10:45:03", EventExtended, `{"reason":"probe_unclear","probe":"answered","probe_status":"in_review","deadline":"2024-01-15T11:05:03Z"}`),
				}
			},
			want: `processing since its last update at 10:45:03 UTC; tiktok was asked at 10:45:03 UTC and gave no clear answer ("in_review"); ` +
				`if no webhook comes by 11:05:03 UTC and tiktok has no answer then, it fails`,
			next:   "if no webhook comes by 11:05:03 UTC and tiktok has no answer then, it fails",
			nextAt: "11:05:03",
		},
		"an extended deadline that a later write moved": {
			change: func(v *View) {
				v.row(StatusProcessing, "10:51:00", "10:50:00", `{}`)
				v.History = []HistoryEvent{told("10:45:03", EventExtended, `{"probe":"answered","deadline":"2024-01-15T10:55:03Z"}`)}
			},
			want: `processing since its last update at 10:50:00 UTC; tiktok was asked at 10:45:03 UTC and gave no clear answer; ` +
				`if no webhook comes by 11:00:00 UTC and tiktok has no answer then, it fails`,
			next:   "if no webhook comes by 11:00:00 UTC and tiktok has no answer then, it fails",
			nextAt: "11:00:00",
		},

		"held": {
			change: func(v *View) {
				v.Now = clockAt("10:46:00")
				v.Hold = &Hold{Platform: "tiktok", Since: clockAt("10:30:00"), Until: clockAt("11:30:00")}
				v.History = []HistoryEvent{told("10:45:30", EventSkipped, `{"reason":"platform_hold","probe":"broken_answer"}`)}
			},
			want: "processing since its last update at 10:35:03 UTC; 1 probe unanswered; " +
				"held until 11:30:00 UTC at the latest, because tiktok has confirmed nothing since 10:30:00 UTC; " +
				"if no webhook comes by 11:30:00 UTC and tiktok has no answer then, it fails",
			next:   "if no webhook comes by 11:30:00 UTC and tiktok has no answer then, it fails",
			nextAt: "11:30:00",
		},
		"held, says the ledger": {
			change: func(v *View) {
				v.Now = clockAt("10:46:00")
				v.History = []HistoryEvent{told("10:45:30", EventSkipped, `{"reason":"platform_hold","hold_until":"2024-01-15T11:30:00Z"}`)}
			},
			want: "processing since its last update at 10:35:03 UTC; held until 11:30:00 UTC at the latest; " +
				"if no webhook comes by 11:30:00 UTC and tiktok has no answer then, it fails",
			next:   "if no webhook comes by 11:30:00 UTC and tiktok has no answer then, it fails",
			nextAt: "11:30:00",
		},
		"a hold that ended": {
			change: func(v *View) {
				v.Now = clockAt("11:30:00")
				v.History = []HistoryEvent{told("10:45:30", EventSkipped, `{"reason":"platform_hold","hold_until":"2024-01-15T11:30:00Z"}`)}
			},
			want: "processing since its last update at 10:35:03 UTC; its deadline passed at 10:45:03 UTC; " +
				"the next sweep closes it: without an answer of tiktok it fails",
			next: "the next sweep closes it: without an answer of tiktok it fails",
		},
		"a hold that ends before the deadline": {
			change: func(v *View) {
				v.Hold = &Hold{Platform: "tiktok", Since: clockAt("10:30:00"), Until: clockAt("10:42:00")}
			},
			want:   "processing since its last update at 10:35:03 UTC; if no webhook comes by 10:45:03 UTC and tiktok has no answer then, it fails",
			next:   "if no webhook comes by 10:45:03 UTC and tiktok has no answer then, it fails",
			nextAt: "10:45:03",
		},

		"retry": {
			policy: Policy{DefaultTimeout: 10 * time.Minute, Retries: map[string]int{"tiktok": 2}},
			change: func(v *View) {
				v.row(StatusRetry, "10:46:00", "10:45:03", `{"reconciliation_reason":"retry_before_fail"}`)
				v.RetryCount = 1
				v.History = []HistoryEvent{
					told("10:45:03", EventReconciled, `{"action":"marked_retry","reason":"retry_before_fail","timeout_minutes":10,"retry_count":1,"probe":"no_answer"}`),
				}
			},
			want: "in retry since 10:45:03 UTC because no webhook came in 10 minutes (automatic retry 1 of 2); 1 probe unanswered; " +
				"if no webhook comes by 10:55:03 UTC and tiktok has no answer then, it is retried (automatic retry 2 of 2)",
			next:   "if no webhook comes by 10:55:03 UTC and tiktok has no answer then, it is retried (automatic retry 2 of 2)",
			nextAt: "10:55:03",
		},
		"retry, an old receipt and a new setting": {
			change: func(v *View) {
				v.row(StatusRetry, "10:46:00", "10:45:03", `{}`)
				v.RetryCount = 1
				v.History = []HistoryEvent{told("10:45:03", EventReconciled, `{"action":"marked_retry"}`)}
			},
			want: "in retry since 10:45:03 UTC because no webhook came in time (automatic retry 1); " +
				"if no webhook comes by 10:55:03 UTC and tiktok has no answer then, it fails",
			next:   "if no webhook comes by 10:55:03 UTC and tiktok has no answer then, it fails",
			nextAt: "10:55:03",
		},
		"retry, a publisher's own": {
			change: func(v *View) { v.Status = StatusRetry },
			want:   "in retry since its last update at 10:35:03 UTC; if no webhook comes by 10:45:03 UTC and tiktok has no answer then, it fails",
			next:   "if no webhook comes by 10:45:03 UTC and tiktok has no answer then, it fails",
			nextAt: "10:45:03",
		},

		"success by webhook": {
			change: func(v *View) {
				v.row(StatusSuccess, "10:40:00", "10:38:00", `{"reconciliation_reason":"webhook_confirmed","webhook_status":"published"}`)
				v.History = []HistoryEvent{
					told("10:38:00", EventWebhookReceived, `{"webhook_status":"published"}`),
					told("10:38:00", EventReconciled, `{"action":"marked_success","reason":"webhook_confirmed","webhook_status":"published"}`),
				}
			},
			want: `success at 10:38:00 UTC because a webhook confirmed it ("published"); only an override would change it`,
			next: "only an override would change it",
		},
		"success by probe": {
			change: func(v *View) {
				v.row(StatusSuccess, "10:50:00", "10:45:03", `{"reconciliation_reason":"probe_confirmed"}`)
				v.History = []HistoryEvent{
					told("10:45:03", EventReconciled, `{"action":"marked_success","reason":"probe_confirmed","probe":"answered","probe_status":"live","webhook_status":"x"}`),
				}
			},
			want: `success at 10:45:03 UTC because tiktok confirmed it when asked ("live"); only an override would change it`,
			next: "only an override would change it",
		},
		"success by a late webhook": {
			change: func(v *View) {
				v.row(StatusSuccess, "11:00:00", "10:50:00", `{"reconciliation_reason":"webhook_late"}`)
				v.History = []HistoryEvent{
					told("10:45:03", EventReconciled, timedOut),
					told("10:50:00", EventWebhookReceived, `{"webhook_status":"published"}`),
					told("10:50:00", EventReconciled, `{"action":"marked_success","reason":"webhook_late","webhook_status":"published"}`),
				}
			},
			want: `success at 10:50:00 UTC because a late webhook confirmed it ("published"), after it had failed at 10:45:03 UTC; only an override would change it`,
			next: "only an override would change it",
		},
		"success by override": {
			change: func(v *View) {
				v.row(StatusSuccess, "11:00:00", "10:50:00", `{"reconciliation_reason":"overridden"}`)
				v.History = []HistoryEvent{
					told("10:45:03", EventReconciled, timedOut),
					told("10:50:00", EventOverridden, `{"from":"failed","to":"success","actor":"ana","note":"seen live","trigger":"override"}`),
				}
			},
			want: `success at 10:50:00 UTC because ana overrode it from failed ("seen live"); only an override would change it`,
			next: "only an override would change it",
		},
		"success, the ledger forgot": {
			change: func(v *View) {
				v.row(StatusSuccess, "11:00:00", "10:50:00",
					`{"reconciliation_reason":"webhook_confirmed","reconciled_at":"2024-01-15T10:38:00.25Z","webhook_status":"PUBLISHED"}`)
			},
			want: `success at 10:38:00 UTC because a webhook confirmed it ("PUBLISHED"); only an override would change it`,
			next: "only an override would change it",
		},
		"success by another writer": {
			change: func(v *View) {
				published := clockAt("10:39:00")
				v.row(StatusSuccess, "11:00:00", "10:50:00", `{}`)
				v.PublishedAt = &published
			},
			want: "success since 10:39:00 UTC because another writer made it so: the ledger has no such decision; only an override would change it",
			next: "only an override would change it",
		},
		"success by another writer after a failure": {
			change: func(v *View) {
				v.row(StatusSuccess, "11:00:00", "10:50:00", rowTimedOut)
				v.History = []HistoryEvent{told("10:45:03", EventReconciled, timedOut)}
			},
			want: "success since 10:50:00 UTC because another writer made it so: the ledger has no such decision; only an override would change it",
			next: "only an override would change it",
		},

		"failed by another writer after an override": {
			change: func(v *View) {
				v.row(StatusFailed, "11:00:00", "10:55:00", `{"reconciliation_reason":"overridden"}`)
				v.History = []HistoryEvent{told("10:50:00", EventOverridden, `{"from":"failed","to":"success","actor":"ana"}`)}
			},
			want: "failed since 10:55:00 UTC because another writer made it so: the ledger has no such decision; only an override would change it",
			next: "only an override would change it",
		},
		"an override to what is no end": {
			change: func(v *View) {
				v.History = []HistoryEvent{
					told("10:36:00", EventOverridden, `{"to":"processing"}`),
					told("10:37:00", EventSkipped, `{"probe":"no_answer"}`),
				}
			},
			want:   "processing since its last update at 10:35:03 UTC; 1 probe unanswered; if no webhook comes by 10:45:03 UTC and tiktok has no answer then, it fails",
			next:   "if no webhook comes by 10:45:03 UTC and tiktok has no answer then, it fails",
			nextAt: "10:45:03",
		},

		"failed by timeout": {
			change: func(v *View) {
				v.row(StatusFailed, "10:50:00", "10:45:03", rowTimedOut)
				v.History = []HistoryEvent{
					told("10:20:00", EventReconciled, `{"action":"marked_failed","reason":"webhook_timeout","probe":"no_answer"}`),
					told("10:40:00", EventSkipped, `{"reason":"platform_hold","probe":"no_answer"}`),
					told("10:43:00", EventSkipped, `{"reason":"platform_hold","probe":"no_responder"}`),
					told("10:45:03", EventReconciled, `{"action":"marked_failed","reason":"webhook_timeout","timeout_minutes":10,"probe":"broken_answer"}`),
				}
			},
			want: "failed at 10:45:03 UTC because no webhook came in 10 minutes; 2 probes unanswered; a late webhook would still correct it",
			next: "a late webhook would still correct it",
		},
		"failed by timeout, late webhooks are ignored": {
			policy: Policy{IgnoreLate: true},
			change: func(v *View) {
				v.row(StatusFailed, "10:50:00", "10:45:03", rowTimedOut)
				v.History = []HistoryEvent{
					told("10:45:03", EventReconciled, `{"action":"marked_failed","reason":"webhook_timeout","timeout_minutes":1,"probe":"no_answer"}`),
				}
			},
			want: "failed at 10:45:03 UTC because no webhook came in 1 minute; 1 probe unanswered; only an override would change it",
			next: "only an override would change it",
		},
		"failed by timeout, yesterday, after retries": {
			change: func(v *View) {
				v.row(StatusFailed, "10:50:00", "10:45:03", rowTimedOut)
				v.Now = v.Now.AddDate(0, 0, 1)
				v.History = []HistoryEvent{
					told("10:44:03", EventReconciled, `{"action":"marked_retry","reason":"retry_before_fail"}`),
					told("10:44:33", EventReconciled, `{"action":"marked_retry","reason":"retry_before_fail"}`),
					told("10:45:03", EventReconciled, `{"action":"marked_failed","reason":"webhook_timeout","timeout_minutes":0.5}`),
				}
			},
			want: "failed at 2024-01-15 10:45:03 UTC because no webhook came in 0.5 minutes; 2 automatic retries used up; a late webhook would still correct it",
			next: "a late webhook would still correct it",
		},
		"failed by timeout, the ledger forgot": {
			change: func(v *View) { v.row(StatusFailed, "10:50:00", "10:46:00", rowTimedOut) },
			want:   "failed at 10:45:03 UTC because no webhook came in time; a late webhook would still correct it",
			next:   "a late webhook would still correct it",
		},
		"failed by timeout, then an unclear webhook": {
			change: func(v *View) {
				v.row(StatusFailed, "10:50:00", "10:48:00", rowTimedOut)
				v.History = []HistoryEvent{
					told("10:45:03", EventReconciled, timedOut),
					told("10:48:00", EventWebhookReceived, `{"webhook_status":"in_review","reason":"already_final"}`),
				}
			},
			want: `failed at 10:45:03 UTC because no webhook came in 10 minutes; a webhook at 10:48:00 UTC came too late to matter ("in_review"); ` +
				`a late webhook would still correct it`,
			next: "a late webhook would still correct it",
		},
		"rejected": {
			change: func(v *View) {
				words := "Video\ntoo long"
				v.row(StatusFailed, "10:50:00", "10:38:00", `{"reconciliation_reason":"webhook_rejected"}`)
				v.ErrorMessage = &words
				v.History = []HistoryEvent{told("10:38:00", EventReconciled, `{"action":"marked_failed","reason":"webhook_rejected","webhook_status":"failed"}`)}
			},
			want: `failed at 10:38:00 UTC because tiktok rejected it: "Video\ntoo long"; only an override would change it`,
			next: "only an override would change it",
		},
		"rejected without words": {
			change: func(v *View) {
				v.row(StatusFailed, "10:50:00", "10:38:00", `{"reconciliation_reason":"webhook_rejected","webhook_status":"error"}`)
			},
			want: `failed because tiktok rejected it: "error"; only an override would change it`,
			next: "only an override would change it",
		},
		"rejected by probe, in many words": {
			change: func(v *View) {
				v.row(StatusFailed, "10:50:00", "10:45:03", `{"reconciliation_reason":"probe_rejected"}`)
				v.ErrorMessage = &longError
				v.History = []HistoryEvent{told("10:45:03", EventReconciled, `{"action":"marked_failed","reason":"probe_rejected","probe":"answered"}`)}
			},
			want: `failed at 10:45:03 UTC because tiktok rejected it when asked: "x` + strings.Repeat("ä", 99) + `…"; only an override would change it`,
			next: "only an override would change it",
		},
		"failed by override": {
			change: func(v *View) {
				v.row(StatusFailed, "11:00:00", "10:50:00", `{"reconciliation_reason":"overridden"}`)
				v.History = []HistoryEvent{told("10:50:00", EventOverridden, `{"from":"success","to":"failed","actor":"Ana of support"}`)}
			},
			want: `failed at 10:50:00 UTC because "Ana of support" overrode it from success; only an override would change it`,
			next: "only an override would change it",
		},
		"a receipt without a time": {
			change: func(v *View) {
				v.row(StatusFailed, "10:50:00", "10:45:03", `{}`)
				v.History = []HistoryEvent{{Type: EventReconciled, Metadata: json.RawMessage(timedOut)}}
			},
			want: "failed because no webhook came in 10 minutes; only an override would change it",
			next: "only an override would change it",
		},
		"an override that the ledger forgot": {
			change: func(v *View) { v.row(StatusFailed, "11:00:00", "10:50:00", `{"reconciliation_reason":"overridden"}`) },
			want:   "failed because an operator overrode it; only an override would change it",
			next:   "only an override would change it",
		},
		"failed by another writer": {
			change: func(v *View) {
				words := "upload broke"
				v.row(StatusFailed, "11:00:00", "10:50:00", `[]`)
				v.ErrorMessage = &words
			},
			want: `failed since 10:50:00 UTC because another writer made it so: the ledger has no such decision; its error is "upload broke"; ` +
				`only an override would change it`,
			next: "only an override would change it",
		},
		"a reason of a later release": {
			change: func(v *View) {
				v.row(StatusFailed, "11:00:00", "10:50:00", `{}`)
				v.History = []HistoryEvent{told("10:45:03", EventReconciled, `{"action":"marked_failed","reason":"post_deleted"}`)}
			},
			want: `failed at 10:45:03 UTC for the reason "post_deleted"; only an override would change it`,
			next: "only an override would change it",
		},
		"a receipt without a reason": {
			change: func(v *View) {
				v.row(StatusFailed, "11:00:00", "10:50:00", `{}`)
				v.History = []HistoryEvent{told("10:45:03", EventReconciled, `{"action":"marked_failed","reason":7}`)}
			},
			want: `failed at 10:45:03 UTC for a reason that was not written down; only an override would change it`,
			next: "only an override would change it",
		},

		"an unknown status": {
			change: func(v *View) { v.Status = "archived" },
			want:   `status "archived" since 10:35:03 UTC, which the service does not know and counts as final; only an override would change it`,
			next:   "only an override would change it",
		},
		"no status": {
			change: func(v *View) { *v = View{Now: v.Now} },
			want:   `status "", which the service does not know and counts as final; only an override would change it`,
			next:   "only an override would change it",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tt.policy.DefaultTimeout == 0 {
				tt.policy.DefaultTimeout = patient.DefaultTimeout
			}
			want := Explanation{Sentence: tt.want, Next: tt.next}
			if tt.nextAt != "" {
				at := clockAt(tt.nextAt)
				want.NextAt = &at
			}
			if diff := cmp.Diff(want, tt.policy.Explain(viewed(tt.change))); diff != "" {
				t.Error(diff)
			}
			if !strings.HasSuffix(tt.want, tt.next) {
				t.Error("what happens next is not the end of the sentence")
			}
		})
	}
}

// TestViewJSON is what every door answers.
func TestViewJSON(t *testing.T) {
	t.Parallel()
	post, words := "tiktok_video_67890", "No webhook received after 10 minutes"
	view := viewed(func(v *View) {
		v.row(StatusFailed, "10:50:00", "10:45:03", rowTimedOut)
		v.ExternalPostID, v.ErrorMessage, v.Reason, v.Parked = &post, &words, ReasonWebhookTimeout, 1
		v.History = []HistoryEvent{told("10:45:03", EventReconciled, timedOut)}
		v.Hold = &Hold{Platform: "tiktok", Since: clockAt("10:30:00"), Until: clockAt("11:30:00")}
	})
	got, err := json.MarshalIndent(view, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	const want = `{
  "id": "00000000-0000-0000-0000-000000000001",
  "clip_id": null,
  "platform": "tiktok",
  "social_account_id": null,
  "status": "failed",
  "external_post_id": "tiktok_video_67890",
  "external_url": null,
  "error_message": "No webhook received after 10 minutes",
  "requested_at": null,
  "published_at": null,
  "retry_count": 0,
  "max_retries": 3,
  "last_retry_at": null,
  "extra_metadata": {
    "reconciliation_reason": "webhook_timeout",
    "reconciled_at": "2024-01-15T10:45:03.5Z"
  },
  "created_at": "2024-01-15T10:35:00Z",
  "updated_at": "2024-01-15T10:45:03Z",
  "reason": "webhook_timeout",
  "history": [
    {
      "id": "00000000-0000-0000-0000-000000000000",
      "timestamp": "2024-01-15T10:45:03Z",
      "event_type": "publish_reconciled",
      "severity": "warn",
      "metadata": {
        "action": "marked_failed",
        "reason": "webhook_timeout",
        "timeout_minutes": 10
      }
    }
  ],
  "parked_webhooks": 1,
  "hold": {
    "platform": "tiktok",
    "since": "2024-01-15T10:30:00Z",
    "until": "2024-01-15T11:30:00Z"
  },
  "now": "2024-01-15T10:50:00Z"
}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
}

func TestPatience(t *testing.T) {
	t.Parallel()
	for minutes, want := range map[string]string{
		`10`: " in 10 minutes", `1`: " in 1 minute", `1.0`: " in 1 minute", `0.5`: " in 0.5 minutes", `1e1`: " in 10 minutes",
		`0.016666666666666666`: " in 0.017 minutes", `0`: " in time", `1e-9`: " in time", `-1`: " in time", `1e300`: " in time",
		`"10"`: " in time", `null`: " in time", `1e999`: " in time",
	} {
		r := receipt{fields: fieldsOf(json.RawMessage(fmt.Sprintf(`{"timeout_minutes":%s}`, minutes)))}
		if got := r.patience(); got != want {
			t.Errorf("%s: %q, want %q", minutes, got, want)
		}
	}
}

var (
	moments = rapid.Custom(func(t *rapid.T) time.Time {
		return rapid.OneOf(
			rapid.Map(rapid.IntRange(-60, 60), func(n int) time.Time { return noon.Add(time.Duration(n) * time.Minute) }),
			rapid.SampledFrom([]time.Time{{}, noon.AddDate(-1, 0, 0), time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)}),
		).Draw(t, "moment")
	})
	oddTexts = rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"a\nb", "a\rb", "\u2028", "\xff", strings.Repeat("ä", 150), strings.Repeat("\x80", 300)}))
	// receiptValues are what receipts and rows hold, and much worse.
	receiptValues = rapid.OneOf(
		anyValues,
		rapid.SampledFrom([]any{
			"marked_success", "marked_failed", "marked_retry", "success", "failed", "processing", "answered", "no_answer", "broken_answer",
			"no_responder", "2024-01-15T12:30:00Z", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59-01:00", json.Number("10"), json.Number("-1"), "published", "in_review",
			"webhook_confirmed", "webhook_rejected", "webhook_unclear", "webhook_timeout", "webhook_late", "probe_confirmed",
			"probe_rejected", "retry_before_fail", "platform_hold", "probe_unclear", "overridden", "already_final",
		}),
		rapid.Map(oddTexts, func(s string) any { return s }),
	)
	receiptNames = rapid.SampledFrom([]string{
		"action", "reason", "timeout_minutes", "deadline", "webhook_status", "webhook_timestamp", "probe", "probe_status", "retry_count",
		"hold_since", "hold_until", "from", "to", "actor", "note", "reconciliation_reason", "reconciled_at", "webhook_received",
	})
	receiptFields = rapid.Custom(func(t *rapid.T) json.RawMessage {
		if rapid.IntRange(0, 9).Draw(t, "kind") == 0 {
			return json.RawMessage(rapid.SampledFrom([]string{"", "null", "[]", "7", `"text"`}).Draw(t, "no object"))
		}
		raw, err := json.Marshal(Storable(rapid.MapOfN(receiptNames, receiptValues, 0, 8).Draw(t, "fields")))
		if err != nil {
			t.Fatal(err)
		}
		return raw
	})
	histories = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) HistoryEvent {
		return HistoryEvent{
			Timestamp: moments.Draw(t, "timestamp"),
			Type: rapid.SampledFrom([]EventType{
				EventReconciled, EventSkipped, EventExtended, EventOverridden, EventWebhookReceived, "", "another's",
			}).Draw(t, "type"),
			Metadata: receiptFields.Draw(t, "metadata"),
		}
	}), 0, 5)
)

func explainHasASentenceForEverything(t *rapid.T) {
	v := View{
		Row: Row{
			Platform:      rapid.OneOf(rapid.Just("tiktok"), oddTexts).Draw(t, "platform"),
			Status:        rapid.OneOf(statuses, rapid.Map(oddTexts, func(s string) Status { return Status(s) })).Draw(t, "status"),
			ErrorMessage:  rapid.Ptr(oddTexts, true).Draw(t, "error"),
			PublishedAt:   rapid.Ptr(moments, true).Draw(t, "published"),
			RetryCount:    rapid.Int().Draw(t, "retry count"),
			MaxRetries:    rapid.Int().Draw(t, "max retries"),
			ExtraMetadata: receiptFields.Draw(t, "metadata"),
			CreatedAt:     rapid.Ptr(moments, true).Draw(t, "created"),
			UpdatedAt:     rapid.Ptr(moments, true).Draw(t, "updated"),
		},
		History: histories.Draw(t, "history"),
		Parked:  rapid.IntRange(0, 2).Draw(t, "parked"),
		Now:     moments.Draw(t, "now"),
	}
	if rapid.Bool().Draw(t, "is held") {
		v.Hold = &Hold{Since: moments.Draw(t, "since"), Until: moments.Draw(t, "until")}
	}
	e := policies.Draw(t, "policy").Explain(v)
	isControl := func(r rune) bool { return r == '\u2028' || r == '\u2029' || unicode.IsControl(r) }
	if e.Sentence == "" || !utf8.ValidString(e.Sentence) || strings.ContainsFunc(e.Sentence, isControl) {
		t.Errorf("no sentence on one line: %q", e.Sentence)
	}
	if e.Next == "" || !strings.HasSuffix(e.Sentence, e.Next) {
		t.Errorf("%q does not end with %q", e.Sentence, e.Next)
	}
	if e.NextAt != nil && (!v.Status.Open() || !e.NextAt.After(v.Now)) {
		t.Errorf("%q has its next look at %s", v.Status, e.NextAt)
	}
	if _, err := json.Marshal(e); err != nil {
		t.Error(err)
	}
}

// explainForetellsWhatIsDecided ties the sentences to the rules.
func explainForetellsWhatIsDecided(t *rapid.T) {
	log, policy := rows.Draw(t, "row").Log, policies.Draw(t, "policy")
	metadata, err := json.Marshal(log.Metadata)
	if err != nil {
		t.Fatal(err)
	}
	e := policy.Explain(View{
		Row: Row{
			Platform: log.Post.Platform, Status: log.Status, RetryCount: log.RetryCount, MaxRetries: log.MaxRetries,
			UpdatedAt: &log.UpdatedAt, ExtraMetadata: metadata,
		},
		Now: noon,
	})
	now := Decide(log, Question{Trigger: TriggerSweep}, policy, noon)
	if log.Status.Open() {
		later := Decide(log, Question{Trigger: TriggerSweep}, policy, noon.Add(time.Hour))
		due := !noon.Before(now.Deadline)
		if due != (e.NextAt == nil) || !due && !e.NextAt.Equal(now.Deadline) {
			t.Errorf("next at %v, but the deadline is %s", e.NextAt, now.Deadline)
		}
		want := map[Action]string{MarkedSuccess: "a success", MarkedFailed: "fails", MarkedRetry: "is retried", "": "clear webhook"}[later.Action]
		if !strings.Contains(e.Next, want) {
			t.Errorf("%q, but it is %q by %q", e.Next, later.Action, later.Reason)
		}
		return
	}
	confirmed := ReadWebhook(log.Post.Platform, map[string]any{"status": "published"}, noon.Add(24*time.Hour))
	d := Decide(log, Question{Trigger: TriggerWebhook, Webhook: &confirmed}, policy, noon)
	if late := strings.Contains(e.Next, "a late webhook would still"); late != (d.Reason == ReasonWebhookLate) {
		t.Errorf("%q, but a webhook is %q", e.Next, d.Reason)
	}
}
