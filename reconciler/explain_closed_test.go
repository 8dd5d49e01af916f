package reconciler

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestExplainClosedLogs(t *testing.T) {
	t.Parallel()
	longError := "x" + strings.Repeat("ä", 150)
	tests := map[string]explained{
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
		"success, and gone since": {
			change: func(v *View) {
				v.row(StatusSuccess, "11:00:00", "10:38:00", `{"reconciliation_reason":"webhook_confirmed","webhook_status":"published"}`)
				v.History = []HistoryEvent{
					told("10:38:00", EventReconciled, `{"action":"marked_success","reason":"webhook_confirmed","webhook_status":"published"}`),
					told("10:50:00", EventRemoved, `{"webhook_status":"removed"}`),
				}
			},
			want: `success at 10:38:00 UTC because a webhook confirmed it ("published"); tiktok removed it at 10:50:00 UTC; only an override would change it`,
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
			want: `failed at 10:45:03 UTC because no webhook came in 10 minutes; a webhook at 10:48:00 UTC changed nothing ("in_review"); ` +
				`a late webhook would still correct it`,
			next: "a late webhook would still correct it",
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
			tt.test(t)
		})
	}
}
