package consumer_test

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"publish-reconciler/consumer"
	"publish-reconciler/reconciler"
	"publish-reconciler/repo"
	"publish-reconciler/streams"
)

// outbox is a real one, with what stands around the relay's telling.
type outbox struct {
	*repo.Store
	around func(reconciler.Tell) reconciler.Tell
}

func (o outbox) DrainOutbox(ctx context.Context, limit int, tell reconciler.Tell) (bool, error) {
	return o.Store.DrainOutbox(ctx, limit, o.around(tell))
}

// relay starts a relay from an outbox of its own; stop waits until it has ended.
func (w *world) relay(around func(reconciler.Tell) reconciler.Tell) (store *repo.Store, logs *logbook, stop func()) {
	w.Helper()
	store, err := repo.Open(repo.Config{URL: w.url, Outbox: true})
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(store.Close)
	logs = &logbook{}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		logger := slog.New(slog.NewTextHandler(logs, nil))
		consumer.NewRelay(outbox{store, around}, w.js, logger).Run(ctx)
	}()
	stop = func() {
		cancel()
		<-done
	}
	w.Cleanup(stop)
	return store, logs, stop
}

// fail fails a log of an Instagram post, as far as the outbox is concerned.
func (w *world) fail(store *repo.Store) reconciler.StateChange {
	w.Helper()
	change := reconciler.StateChange{
		ID: uuid.Must(uuid.NewV7()), LogID: uuid.New(), Platform: "instagram", ExternalPostID: "ig_1",
		From: "processing", To: "failed", Reason: "webhook_timeout", Trigger: "check",
	}
	err := store.Transact(w.Context(), reconciler.Keys{LogIDs: []uuid.UUID{change.LogID}}, func(reconciler.Locked) reconciler.Changes {
		return reconciler.Changes{Outbox: []reconciler.StateChange{change}}
	})
	if err != nil {
		w.Fatal(err)
	}
	return change
}

func (w *world) events() uint64 {
	w.Helper()
	stream, err := w.js.Stream(w.Context(), streams.StreamEvents)
	if err != nil {
		w.Fatal(err)
	}
	return stream.CachedInfo().State.Msgs
}

func (w *world) untold() int {
	w.Helper()
	return one[int](w, `SELECT count(*) FROM publish_outbox`)
}

func asIs(tell reconciler.Tell) reconciler.Tell { return tell }

// before runs in front of every telling; its error takes the telling's place.
func before(do func(context.Context) error) func(reconciler.Tell) reconciler.Tell {
	return func(tell reconciler.Tell) reconciler.Tell {
		return func(ctx context.Context, after uint64, events []reconciler.OutboxEvent) (reconciler.Told, error) {
			if err := do(ctx); err != nil {
				return reconciler.Told{}, err
			}
			return tell(ctx, after, events)
		}
	}
}

// behind runs behind every telling that succeeded; its error takes the place of what was told.
func behind(do func(told int) error) func(reconciler.Tell) reconciler.Tell {
	return func(tell reconciler.Tell) reconciler.Tell {
		return func(ctx context.Context, after uint64, events []reconciler.OutboxEvent) (reconciler.Told, error) {
			told, err := tell(ctx, after, events)
			if err == nil {
				err = do(len(told.Events))
			}
			return told, err
		}
	}
}

func TestRelayTellsOfStateChanges(t *testing.T) {
	t.Parallel()
	w := setup(t)
	store, _, _ := w.relay(asIs)
	change := w.fail(store)
	becomes(w, "events", 1, w.events)
	becomes(w, "untold", 0, w.untold)
	stream, err := w.js.Stream(t.Context(), streams.StreamEvents)
	if err != nil {
		t.Fatal(err)
	}
	event, err := stream.GetLastMsgForSubject(t.Context(), "publish.event.instagram.failed")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "message id", event.Header.Get(jetstream.MsgIDHeader), change.ID.String())
	equal(t, "body", string(event.Data), `{"log_id":"`+change.LogID.String()+`","platform":"instagram","external_post_id":"ig_1",`+
		`"from":"processing","to":"failed","reason":"webhook_timeout","trigger":"check","url":"","time":"0001-01-01T00:00:00Z"}`)
}

func TestRelayCrashBetweenPublishAndDelete(t *testing.T) {
	t.Parallel()
	w := setup(t)
	var crashes atomic.Int32
	store, logs, _ := w.relay(behind(func(int) error {
		if crashes.Add(1) == 1 {
			return errors.New("crashed")
		}
		return nil
	}))
	w.fail(store)
	becomes(w, "untold", 0, w.untold)
	equal(t, "tellings", int(crashes.Load()), 2)
	equal(t, "events", int(w.events()), 1)
	becomes(w, "lines of the log", 2, func() int { return len(logs.with("outcome events")) })
}

func TestRelayWhileNATSIsAway(t *testing.T) {
	t.Parallel()
	w := setup(t)
	store, _, _ := w.relay(asIs)
	w.nats.Halt()
	w.fail(store)
	equal(t, "untold", w.untold(), 1)
	if err := w.nats.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	becomes(w, "untold", 0, w.untold)
	becomes(w, "events", 1, w.events)
}

func TestRelayFindsWhatADeadReplicaLeft(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.relay(asIs)
	dead, err := repo.Open(repo.Config{URL: w.url, Outbox: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(dead.Close)
	w.fail(dead) // wakes a relay that is not there
	becomes(w, "events", 1, w.events)
}

func TestRelayTellsTheLastBeforeItEnds(t *testing.T) {
	t.Parallel()
	w := setup(t)
	store, _, stop := w.relay(asIs)
	for range 20 { // it may be anywhere in its round when it is asked to stop
		w.fail(store)
	}
	stop()
	equal(t, "untold", w.untold(), 0)
	becomes(w, "events", 20, w.events)
}
