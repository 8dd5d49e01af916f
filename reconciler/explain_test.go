package reconciler

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
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

// explained is a situation and what is said of it.
type explained struct {
	policy Policy // of ten minutes, where it says nothing else
	change func(*View)
	want   string
	next   string // the end of want
	nextAt string
}

func (e explained) test(t *testing.T) {
	t.Helper()
	if e.policy.DefaultTimeout == 0 {
		e.policy.DefaultTimeout = DefaultTimeout
	}
	want := Explanation{Sentence: e.want, Next: e.next}
	if e.nextAt != "" {
		at := clockAt(e.nextAt)
		want.NextAt = &at
	}
	if diff := cmp.Diff(want, e.policy.Explain(viewed(e.change))); diff != "" {
		t.Error(diff)
	}
	if !strings.HasSuffix(e.want, e.next) {
		t.Error("what happens next is not the end of the sentence")
	}
}

func TestExplainOpenLogs(t *testing.T) {
	t.Parallel()
	tests := map[string]explained{
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
				`it waits for a clear webhook, and from 11:05:03 UTC on tiktok is asked`,
			next:   "it waits for a clear webhook, and from 11:05:03 UTC on tiktok is asked",
			nextAt: "11:05:03",
		},
		"an extended deadline that a later write moved": {
			change: func(v *View) {
				v.row(StatusProcessing, "10:51:00", "10:50:00", `{"probe_status":null,"probe_timestamp":"2024-01-15T10:45:03Z"}`)
				v.History = []HistoryEvent{told("10:45:03", EventExtended, `{"probe":"answered","deadline":"2024-01-15T10:55:03Z"}`)}
			},
			want: `processing since its last update at 10:50:00 UTC; tiktok was asked at 10:45:03 UTC and gave no clear answer; ` +
				`it waits for a clear webhook, and from 11:00:00 UTC on tiktok is asked`,
			next:   "it waits for a clear webhook, and from 11:00:00 UTC on tiktok is asked",
			nextAt: "11:00:00",
		},
		"an unclear probe that the ledger forgot": {
			change: func(v *View) {
				v.row(StatusProcessing, "11:00:00", "10:45:03", `{"probe_status":"in_review","probe_timestamp":"2024-01-15T10:45:03Z"}`)
			},
			want: `processing since its last update at 10:45:03 UTC; tiktok was asked at 10:45:03 UTC and gave no clear answer ("in_review"); ` +
				`it stays open until a clear webhook, a clear answer of tiktok or an override comes`,
			next: "it stays open until a clear webhook, a clear answer of tiktok or an override comes",
		},

		"held": {
			change: func(v *View) {
				v.Now = clockAt("10:46:00")
				v.Hold = &Hold{Platform: "tiktok", Since: clockAt("10:30:00"), Until: clockAt("11:30:00")}
				v.History = []HistoryEvent{told("10:45:30", EventSkipped, `{"reason":"platform_hold","probe":"broken_answer"}`)}
			},
			want: "processing since its last update at 10:35:03 UTC; 1 probe unanswered; " +
				"held since 10:30:00 UTC, until 11:30:00 UTC at the latest, because tiktok confirms nothing; " +
				"if no webhook comes by 11:30:00 UTC and tiktok has no answer then, it fails",
			next:   "if no webhook comes by 11:30:00 UTC and tiktok has no answer then, it fails",
			nextAt: "11:30:00",
		},
		"a hold that leaves a retry": {
			policy: Policy{DefaultTimeout: 10 * time.Minute, Retries: map[string]int{"tiktok": 1}},
			change: func(v *View) {
				v.Now = clockAt("10:46:00")
				v.Hold = &Hold{Platform: "tiktok", Since: clockAt("10:30:00"), Until: clockAt("11:30:00")}
				sweep := clockAt("10:46:30")
				v.NextSweep = &sweep
			},
			want: "processing since its last update at 10:35:03 UTC; its deadline passed at 10:45:03 UTC; " +
				"the next sweep, at 10:46:30 UTC, looks at it: without an answer of tiktok it is retried (automatic retry 1 of 1)",
			next:   "the next sweep, at 10:46:30 UTC, looks at it: without an answer of tiktok it is retried (automatic retry 1 of 1)",
			nextAt: "10:46:30",
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
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.test(t)
		})
	}
}
