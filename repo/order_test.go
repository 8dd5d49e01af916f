package repo_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"

	"publish-reconciler/reconciler"
)

// A transaction that began earlier may get a log's lock later: what it tells comes after what it saw.
func TestTheLedgerTellsInTheOrderOfTheLocks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, second := w.publish("instagram", "a", "processing", time.Hour), w.publish("instagram", "b", "processing", time.Hour)
	release := w.hold(`SELECT FROM publish_logs WHERE id = $1 FOR UPDATE`, first)
	tell := func(action string) reconciler.Changes {
		return reconciler.Changes{
			Rows:   []reconciler.RowChange{{LogID: second, Status: "failed"}},
			Ledger: []reconciler.Event{{ID: uuid.Must(uuid.NewV7()), LogID: second, Type: "publish_reconciled", Severity: "info", Metadata: map[string]any{"action": action}}},
		}
	}
	done := make(chan error, 1)
	go func() {
		done <- w.store.Transact(context.WithoutCancel(t.Context()), reconciler.Keys{LogIDs: []uuid.UUID{first, second}},
			func(reconciler.Locked) reconciler.Changes { return tell("later") })
	}()
	w.waiting(1)
	if err := w.store.Transact(t.Context(), reconciler.Keys{LogIDs: []uuid.UUID{second}}, func(reconciler.Locked) reconciler.Changes { return tell("sooner") }); err != nil {
		t.Fatal(err)
	}
	updated := one[time.Time](w, `SELECT updated_at FROM publish_logs WHERE id = $1`, second)
	release()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	equal(t, "order", column[string](w, `SELECT metadata->>'action' FROM ledger_events ORDER BY timestamp, id`), []string{"sooner", "later"})
	if now := one[time.Time](w, `SELECT updated_at FROM publish_logs WHERE id = $1`, second); now.Before(updated) {
		t.Errorf("updated_at went back from %s to %s", updated, now)
	}
}
