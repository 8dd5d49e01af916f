package reconciler

import (
	"testing"
	"time"
)

const (
	publishedOnce = `{"status":"published","event_id":"1"}`
	removedOnce   = `{"status":"removed","event_id":"2","post_id":"77"}`
	removedAgain  = `{"status":" Removed ","event_id":"3","post_id":"78"}`
)

// later is a webhook that was stored some minutes past noon.
func later(t *testing.T, minutes int, text string) Webhook {
	t.Helper()
	w := webhook(t, tiktok, text)
	w.ReceivedAt = noon.Add(time.Duration(minutes) * time.Minute)
	return w
}

func TestWhatIsRemovedAfterItsSuccess(t *testing.T) {
	t.Parallel()
	r, m := setup(t, patient, open(1, tiktok, 0))
	published, removed, again := later(t, 0, publishedOnce), later(t, 1, removedOnce), later(t, 2, removedAgain)
	hear(t, r, published)
	before := m.row(1).clone()
	hear(t, r, removed)
	hear(t, r, removed, removed) // delivered again
	hear(t, r, again, published, removed)
	row := m.row(1)
	if row.Status != StatusSuccess || row.writes != before.writes || row.Metadata["webhook_status"] != "published" {
		t.Errorf("%q, written %d times more, %v", row.Status, row.writes-before.writes, row.Metadata)
	}
	equal(t, "what the ledger tells since", row.ledger[len(before.ledger):], []Event{
		{ID: row.ledger[len(before.ledger)].ID, Once: true, LogID: logID(1), Type: EventRemoved, Severity: SeverityWarn, Metadata: map[string]any{
			"platform": "tiktok", "external_post_id": tiktok.ExternalPostID, "webhook_status": "removed", "webhook_timestamp": "2024-01-15T12:01:00.123456Z", "event_id": "2",
		}},
		{ID: row.ledger[len(before.ledger)+1].ID, Once: true, LogID: logID(1), Type: EventRemoved, Severity: SeverityWarn, Metadata: map[string]any{
			"platform": "tiktok", "external_post_id": tiktok.ExternalPostID, "webhook_status": " Removed ", "webhook_timestamp": "2024-01-15T12:02:00.123456Z", "event_id": "3",
		}},
	})
}

// In one batch, in whatever order they are delivered, and however often.
func TestWhatIsRemovedBeforeItIsConfirmed(t *testing.T) {
	t.Parallel()
	r, m := setup(t, patient, open(1, tiktok, 0))
	removed, published := later(t, 0, removedOnce), later(t, 1, publishedOnce)
	hear(t, r, removed)
	wantStatuses(t, m, StatusProcessing)
	if m.row(1).count(EventSkipped) != 1 {
		t.Errorf("the ledger tells %v", m.row(1).kinds())
	}
	hear(t, r, published, removed)
	hear(t, r, removed)
	wantStatuses(t, m, StatusSuccess)
	if m.row(1).count(EventRemoved) != 0 {
		t.Errorf("the ledger tells %v", m.row(1).kinds())
	}
}

func TestWhatIsRemovedNeverFails(t *testing.T) {
	t.Parallel()
	for _, status := range []Status{StatusPending, StatusProcessing, StatusRetry, StatusFailed, "unknown"} {
		log := open(1, tiktok, 0)
		log.Status = status
		r, m := setup(t, patient, log)
		hear(t, r, later(t, 0, removedOnce))
		wantStatuses(t, m, status)
		if m.row(1).count(EventRemoved) != 0 {
			t.Errorf("%q: the ledger tells %v", status, m.row(1).kinds())
		}
	}
}
