package repo_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/uuid"

	"publish-reconciler/reconciler"
	"publish-reconciler/repo"
	"publish-reconciler/repo/pgtest/pgtestdb"
)

// newOutboxWorld is a world whose store keeps an outbox.
func newOutboxWorld(t *testing.T) *world {
	t.Helper()
	url := pgtestdb.New(t, migrate)
	return &world{TB: t, store: openStore(t, repo.Config{URL: url, Outbox: true}), url: url, db: connect(t, url)}
}

// change writes n state changes of one log and returns their ids.
func (w *world) change(n int) []uuid.UUID {
	w.Helper()
	ids := make([]uuid.UUID, n)
	changes := reconciler.Changes{}
	for i := range ids {
		ids[i] = uuid.Must(uuid.NewV7())
		changes.Outbox = append(changes.Outbox, reconciler.StateChange{ID: ids[i], LogID: uuid.New(), Platform: "instagram", To: "failed"})
	}
	w.transact(logIDs(uuid.New()), decided(changes))
	return ids
}

// drain drains at most limit events by publish, and returns the ids that publish saw.
func (w *world) drain(limit int, publish error) (ids []uuid.UUID, err error) {
	w.Helper()
	n, err := w.store.DrainOutbox(w.Context(), limit, func(_ context.Context, events []reconciler.OutboxEvent) error {
		for _, event := range events {
			ids = append(ids, event.ID)
		}
		return publish
	})
	if err == nil && n != len(ids) {
		w.Errorf("drained %d, handed out %d", n, len(ids))
	}
	return ids, err
}

func TestOutboxHoldsWhatIsToBeTold(t *testing.T) {
	t.Parallel()
	w := newOutboxWorld(t)
	ids := w.change(3)
	select {
	case <-w.store.Outboxed():
	default:
		t.Error("nobody is woken")
	}
	first, err := w.drain(2, nil)
	if err != nil {
		t.Fatal(err)
	}
	rest, err := w.drain(2, nil)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "events, in their order", append(first, rest...), ids)
	equal(t, "left", one[int](w, `SELECT count(*) FROM publish_outbox`), 0)
}

func TestOutboxEvent(t *testing.T) {
	t.Parallel()
	w := newOutboxWorld(t)
	change := reconciler.StateChange{
		ID: uuid.Must(uuid.NewV7()), LogID: uuid.New(), Platform: "tiktok", ExternalPostID: "tt_1", From: "processing", To: "failed",
		Reason: "webhook_timeout", Trigger: "check",
	}
	w.transact(logIDs(uuid.New()), decided(reconciler.Changes{Outbox: []reconciler.StateChange{change}}))
	_, err := w.store.DrainOutbox(t.Context(), 1, func(_ context.Context, events []reconciler.OutboxEvent) error {
		event := events[0]
		equal(t, "id, platform, outcome", []any{event.ID, event.Platform, event.Outcome}, []any{change.ID, "tiktok", "failed"})
		var body reconciler.StateChange
		if err := json.Unmarshal(event.Body, &body); err != nil {
			t.Error(err)
		}
		body.ID = change.ID // it is no part of the body
		equal(t, "body", body, change)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestOutboxKeepsWhatCouldNotBeTold(t *testing.T) {
	t.Parallel()
	w := newOutboxWorld(t)
	ids := w.change(2)
	away := errors.New("nats is away")
	if _, err := w.drain(10, away); !errors.Is(err, away) {
		t.Fatalf("error %v, want %v", err, away)
	}
	again, err := w.drain(10, nil)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "handed out again", again, ids)
}

func TestOutboxEventsAreInOneHand(t *testing.T) {
	t.Parallel()
	w := newOutboxWorld(t)
	ids := w.change(4)
	var others []uuid.UUID
	_, err := w.store.DrainOutbox(t.Context(), 2, func(context.Context, []reconciler.OutboxEvent) error {
		var err error
		others, err = w.drain(10, nil)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "the other's", others, ids[2:])
}

func TestOutboxWithoutCommit(t *testing.T) {
	t.Parallel()
	w := newOutboxWorld(t)
	id := w.publish("instagram", "post", "processing", 0)
	w.exec(`ALTER TABLE publish_logs ADD CHECK (status <> 'success')`)
	err := w.store.Transact(t.Context(), logIDs(id), decided(reconciler.Changes{
		Rows:   []reconciler.RowChange{{LogID: id, Status: "success"}},
		Outbox: []reconciler.StateChange{{ID: uuid.New(), LogID: id, To: "success"}},
	}))
	if !errors.Is(err, reconciler.ErrRefused) {
		t.Fatalf("error %v, want %v", err, reconciler.ErrRefused)
	}
	equal(t, "to be told", one[int](w, `SELECT count(*) FROM publish_outbox`), 0)
}

func TestNoOutbox(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.change(1)
	equal(t, "rows", one[int](w, `SELECT count(*) FROM publish_outbox`), 0)
}
