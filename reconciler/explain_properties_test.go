package reconciler

import (
	"encoding/json"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"
)

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
				EventReconciled, EventSkipped, EventExtended, EventOverridden, EventWebhookReceived, EventRemoved, "", "another's",
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
