package repo_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
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

// telling tells what it is handed, at the end of an imagined stream.
type telling struct {
	after []uint64 // of each batch
	ids   []uuid.UUID
}

func (l *telling) tell(_ context.Context, after uint64, events []reconciler.OutboxEvent) (reconciler.Told, error) {
	told := reconciler.Told{Sequence: after + uint64(len(events))}
	for _, event := range events {
		told.Events = append(told.Events, event.ID)
	}
	l.after = append(l.after, after)
	l.ids = append(l.ids, told.Events...)
	return told, nil
}

// drain drains the outbox in batches of at most limit events.
func (w *world) drain(limit int, tell reconciler.Tell) error {
	w.Helper()
	for {
		more, err := w.store.DrainOutbox(w.Context(), limit, tell)
		if err != nil || !more {
			return err
		}
	}
}

// plan is what the outbox says of the stream.
func (w *world) plan() string {
	w.Helper()
	return one[string](w, `SELECT format('%s beyond %s, strays up to %s', cardinality(batch), sequence, strays) FROM publish_outbox_told`)
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
	var told telling
	if err := w.drain(2, told.tell); err != nil {
		t.Fatal(err)
	}
	equal(t, "events, in their order", told.ids, ids)
	equal(t, "batches behind", told.after, []uint64{0, 2})
	equal(t, "plan", w.plan(), "0 beyond 3, strays up to 0")
	equal(t, "left", one[int](w, `SELECT count(*) FROM publish_outbox`), 0)
}

func TestOutboxOfSeveralTransactions(t *testing.T) {
	t.Parallel()
	w := newOutboxWorld(t)
	var ids []uuid.UUID
	for range 5 {
		ids = append(ids, w.change(3)...)
	}
	var told telling
	if err := w.drain(7, told.tell); err != nil {
		t.Fatal(err)
	}
	equal(t, "events, in their order", told.ids, ids)
	equal(t, "batches behind", told.after, []uint64{0, 6, 12})
	equal(t, "left", one[int](w, `SELECT count(*) FROM publish_outbox`), 0)
}

func TestOutboxWithoutWhatIsTakenOut(t *testing.T) {
	t.Parallel()
	w := newOutboxWorld(t)
	var ids []uuid.UUID
	for range 3 {
		ids = append(ids, w.change(2)...)
	}
	if _, err := w.store.DrainOutbox(t.Context(), 10, nil); err != nil { // plans
		t.Fatal(err)
	}
	w.exec(`DELETE FROM publish_outbox WHERE id = $1`, ids[2])
	w.exec(`UPDATE publish_outbox SET ids = ids[2:], platforms = platforms[2:], outcomes = outcomes[2:], bodies = bodies[2:] WHERE id = $1`, ids[4])
	var told telling
	if err := w.drain(10, told.tell); err != nil {
		t.Fatal(err)
	}
	equal(t, "events", told.ids, []uuid.UUID{ids[0], ids[1], ids[5]})
	equal(t, "batches behind", told.after, []uint64{0, 1, 2})
	if _, err := w.db.Exec(t.Context(), `INSERT INTO publish_outbox VALUES (gen_random_uuid(), '{}', '{}', '{}', '{}')`); err == nil {
		t.Error("a row without an event is taken")
	}
}

func TestOutboxForgetsWhatStandsInTheStream(t *testing.T) {
	t.Parallel()
	w := newOutboxWorld(t)
	ids := w.change(3)
	if _, err := w.store.DrainOutbox(t.Context(), 10, nil); err != nil { // plans these alone
		t.Fatal(err)
	}
	ids = append(append(ids, w.change(3)...), w.change(3)...)
	there := append(slices.Clone(ids[:4]), append(slices.Clone(ids[6:]), uuid.New())...)
	if _, err := w.store.DrainOutbox(t.Context(), 10, func(context.Context, uint64, []reconciler.OutboxEvent) (reconciler.Told, error) {
		return reconciler.Told{Sequence: 9, Events: there}, nil
	}); err != nil {
		t.Fatal(err)
	}
	equal(t, "bodies are those of their events", one[bool](w, `SELECT bool_and(body::jsonb ? 'log_id') AND count(*) = 2 FROM publish_outbox, unnest(bodies) body`), true)
	var told telling
	if err := w.drain(10, told.tell); err != nil {
		t.Fatal(err)
	}
	equal(t, "events", told.ids, ids[4:6])
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
	var told telling
	err := w.drain(1, func(ctx context.Context, after uint64, events []reconciler.OutboxEvent) (reconciler.Told, error) {
		event := events[0]
		equal(t, "id, platform, outcome", []any{event.ID, event.Platform, event.Outcome}, []any{change.ID, "tiktok", "failed"})
		var body reconciler.StateChange
		if err := json.Unmarshal(event.Body, &body); err != nil {
			t.Error(err)
		}
		body.ID = change.ID // it is no part of the body
		equal(t, "body", body, change)
		return told.tell(ctx, after, events)
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
	err := w.drain(10, func(context.Context, uint64, []reconciler.OutboxEvent) (reconciler.Told, error) {
		return reconciler.Told{}, away
	})
	if !errors.Is(err, away) {
		t.Fatalf("error %v, want %v", err, away)
	}
	older := uuid.UUID{1} // of a transaction that took longer
	w.exec(`INSERT INTO publish_outbox VALUES ($1, ARRAY[$1::uuid], '{instagram}', '{failed}', '{"{}"}')`, older)
	var told telling
	if err := w.drain(10, told.tell); err != nil {
		t.Fatal(err)
	}
	equal(t, "handed out again, for the same places", told.ids, append(ids, older))
	equal(t, "batches behind", told.after, []uint64{0, 2})
}

func TestOutboxIsDrainedByOne(t *testing.T) {
	t.Parallel()
	w := newOutboxWorld(t)
	w.change(1)
	var told telling
	err := w.drain(10, func(ctx context.Context, after uint64, events []reconciler.OutboxEvent) (reconciler.Told, error) {
		if err := w.drain(10, nil); !errors.Is(err, reconciler.ErrLocked) {
			t.Errorf("the other's error: %v", err)
		}
		return told.tell(ctx, after, events)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestOutboxThatIsEmptyIsOnlyRead(t *testing.T) {
	t.Parallel()
	w := newOutboxWorld(t)
	version := func() string { return one[string](w, `SELECT xmin::text FROM publish_outbox_told`) }
	before := version()
	if err := w.drain(10, nil); err != nil {
		t.Fatal(err)
	}
	equal(t, "written by", version(), before)
}

// What stands in the stream decides which events are left, and where they belong.
func TestOutboxPlan(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		told     []int // of five events, planned for 11 to 15
		sequence uint64
		plan     string
		next     []uint64 // behind which the next batches are handed out
	}{
		"the first are there":        {[]int{0, 1}, 12, "3 beyond 12, strays up to 0", []uint64{12}},
		"nothing but others' events": {nil, 12, "5 beyond 12, strays up to 15", []uint64{12, 13, 14, 15}},
		"some among others' events":  {[]int{0, 1}, 13, "3 beyond 13, strays up to 15", []uint64{13, 14, 15}},
		"far beyond":                 {nil, 99, "5 beyond 99, strays up to 15", []uint64{99}},
		"others than the first":      {[]int{1, 2}, 12, "3 beyond 12, strays up to 15", []uint64{12, 13, 14}},
		"known by their ids alone":   {[]int{0, 1, 2, 3, 4}, 10, "0 beyond 10, strays up to 15", nil},
		"the stream is a new one":    {nil, 3, "5 beyond 3, strays up to 0", []uint64{3}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newOutboxWorld(t)
			w.exec(`UPDATE publish_outbox_told SET sequence = 10`)
			ids := w.change(5)
			drain := func(tell reconciler.Tell) {
				t.Helper()
				if _, err := w.store.DrainOutbox(t.Context(), 10, tell); err != nil {
					t.Fatal(err)
				}
			}
			drain(nil) // plans
			equal(t, "planned", w.plan(), "5 beyond 10, strays up to 0")
			drain(func(context.Context, uint64, []reconciler.OutboxEvent) (reconciler.Told, error) {
				told := reconciler.Told{Sequence: tt.sequence}
				for _, i := range tt.told {
					told.Events = append(told.Events, ids[i])
				}
				return told, nil
			})
			equal(t, "plan", w.plan(), tt.plan)
			var told telling
			if err := w.drain(10, told.tell); err != nil {
				t.Fatal(err)
			}
			equal(t, "batches behind", told.after, tt.next)
			equal(t, "left", one[int](w, `SELECT count(*) FROM publish_outbox`), 0)
		})
	}
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
