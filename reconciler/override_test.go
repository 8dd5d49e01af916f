package reconciler

import (
	"strings"
	"testing"
	"time"
)

func TestOverride(t *testing.T) {
	t.Parallel()
	for _, from := range []Status{StatusPending, StatusProcessing, StatusRetry, StatusSuccess, StatusFailed, "unknown"} {
		for _, to := range []Status{StatusSuccess, StatusFailed} {
			if from == to {
				continue
			}
			log := open(1, instagram, time.Hour)
			log.Status = from
			log.Metadata = map[string]any{keyReceived: true, keyStatus: "in_review", "media_url": "https://instagram.com/p/ABC/"}
			sibling := open(2, instagram, time.Hour)
			r, m := setup(t, patient, log, sibling)
			m.parked[logID(9)] = ParkedWebhook{ID: logID(9), Post: instagram, Fields: object(t, words["confirmed"]), ReceivedAt: noon}
			change, err := r.Override(t.Context(), Override{logID(1), to, " ana\x00 ", "seen live"})
			if err != nil {
				t.Fatal(err)
			}
			row := m.row(1)
			if row.Status != to || row.Metadata[keyReason] != "overridden" || row.Metadata[keyTrigger] != "override" || row.Published.IsZero() != (to == StatusFailed) {
				t.Errorf("%s to %s: %+v", from, to, row)
			}
			if want := map[Status]string{StatusFailed: "Marked failed by ana\uFFFD: seen live"}[to]; row.Error != want {
				t.Errorf("error %q, want %q", row.Error, want)
			}
			if want := map[Status]string{StatusSuccess: "https://instagram.com/p/ABC/"}[to]; row.ExternalURL != want {
				t.Errorf("address %q, want %q", row.ExternalURL, want)
			}
			event := row.ledger[0]
			equal(t, "event", event, Event{event.ID, false, logID(1), EventOverridden, SeverityWarn, map[string]any{
				"from": string(from), "to": string(to), "actor": "ana\uFFFD", "note": "seen live", "trigger": "override",
			}})
			if change.ID != event.ID || change.From != from || change.To != to || change.Trigger != TriggerOverride {
				t.Errorf("change %+v", change)
			}
			equal(t, "outbox", m.outbox, []StateChange{change})
			if m.row(2).writes != 0 {
				t.Error("the other log of the post is written")
			}
			// No evidence moves it afterwards.
			hear(t, r, webhook(t, instagram, words["confirmed"]))
			if row.Status != to {
				t.Errorf("after a webhook: %q", row.Status)
			}
		}
	}
}

func TestOverrideInVain(t *testing.T) {
	t.Parallel()
	success := open(1, instagram, time.Hour)
	success.Status = StatusSuccess
	r, m := setup(t, patient, success, open(2, tiktok, time.Hour))
	m.held[logID(2)] = true
	long := strings.Repeat("x", MaxNoteBytes+1)
	for name, tt := range map[string]struct {
		override Override
		err      string
	}{
		"nothing changes": {Override{logID(1), StatusSuccess, "ana", ""}, ErrNoChange.Error()},
		"unknown":         {Override{logID(9), StatusSuccess, "ana", ""}, ErrNotFound.Error()},
		"locked":          {Override{logID(2), StatusSuccess, "ana", ""}, ErrLocked.Error()},
		"no actor":        {Override{logID(2), StatusSuccess, " ", ""}, "actor is 0 bytes long: it must name who overrides, in 1 to 128 bytes of UTF-8"},
		"long actor":      {Override{logID(2), StatusSuccess, long, ""}, "actor is 2049 bytes long"},
		"broken actor":    {Override{logID(2), StatusSuccess, "\xff", ""}, "actor is 1 bytes long"},
		"long note":       {Override{logID(2), StatusSuccess, "ana", long}, "note is 2049 bytes long: it must have at most 2048 bytes of UTF-8"},
		"other status":    {Override{logID(2), StatusRetry, "ana", ""}, `status is "retry": it must be success or failed`},
	} {
		if _, err := r.Override(t.Context(), tt.override); err == nil || !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %v, want %q", name, err, tt.err)
		}
	}
	if m.row(1).writes+m.row(2).writes+len(m.outbox) != 0 {
		t.Error("something was written")
	}
}
