package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"publish-reconciler/reconciler"
	"publish-reconciler/streams"
)

var errCrashed = errors.New("crashed")

// setupForgetful is a world whose stream of events knows a message id for a moment only, so that what comes
// again comes beyond its duplicate window.
func setupForgetful(t *testing.T) *world {
	t.Helper()
	w := setup(t)
	w.forget()
	return w
}

// forget makes the duplicate window as short as the server lets it be.
func (w *world) forget() {
	w.Helper()
	cfg := w.streamInfo(streams.StreamEvents).Config
	cfg.Duplicates = 100 * time.Millisecond
	if _, err := w.js.UpdateStream(w.Context(), cfg); err != nil {
		w.Fatal(err)
	}
}

// forgotten waits until the stream stores a message again that it stored just now.
func (w *world) forgotten() {
	w.Helper()
	id, times := jetstream.WithMsgID(uuid.NewString()), 0
	w.until("the duplicate window is over", func() bool {
		ack, err := w.js.Publish(w.Context(), "publish.event.other.success", nil, id)
		if err != nil {
			w.Fatal(err)
		}
		if !ack.Duplicate {
			times++
		}
		return times == 2
	})
}

// untoldEvents are events that nobody tells yet.
func (w *world) untoldEvents(n int) []uuid.UUID {
	w.Helper()
	return column[uuid.UUID](w, `
		INSERT INTO publish_outbox (id, ids, platforms, outcomes, bodies)
		SELECT id, ARRAY[id], '{instagram}', '{failed}', '{"{}"}'
		  FROM (SELECT gen_random_uuid() AS id FROM generate_series(1, $1)) event
		RETURNING id`, n)
}

// toldOnce waits until nothing is left to tell, and wants each of the events in the stream once.
func (w *world) toldOnce(ids []uuid.UUID) {
	w.Helper()
	becomes(w, "untold", 0, w.untold)
	want, got := make([]string, len(ids)), w.messageIDs(streams.StreamEvents, "publish.event.instagram.failed")
	for i, id := range ids {
		want[i] = id.String()
	}
	slices.Sort(want)
	slices.Sort(got)
	equal(w, "events in the stream", got, want)
}

// crash starts a relay that publishes as many of the events as told says and dies before it can forget them.
func (w *world) crash(tells func([]reconciler.OutboxEvent) []reconciler.OutboxEvent) {
	w.Helper()
	died := make(chan struct{})
	_, _, stop := w.relay(func(tell reconciler.Tell) reconciler.Tell {
		return func(ctx context.Context, after uint64, events []reconciler.OutboxEvent) (reconciler.Told, error) {
			select {
			case <-died:
			default:
				defer close(died)
				if some := tells(events); len(some) > 0 {
					if _, err := tell(ctx, after, some); err != nil {
						w.Error(err)
					}
				}
			}
			return reconciler.Told{}, errCrashed
		}
	})
	select {
	case <-died:
	case <-time.After(soon):
		w.Fatal("nothing was told")
	}
	stop()
}

// What a relay may have published when it dies.
func everything(events []reconciler.OutboxEvent) []reconciler.OutboxEvent { return events }
func nothing([]reconciler.OutboxEvent) []reconciler.OutboxEvent           { return nil }

// Whatever a relay has published when it dies, and however long ago that was, another one tells each once.
func TestEventsAreToldOnce(t *testing.T) {
	t.Parallel()
	for name, tells := range map[string]func([]reconciler.OutboxEvent) []reconciler.OutboxEvent{
		"all were stored":        everything,
		"none was stored":        nothing,
		"the first were stored":  func(events []reconciler.OutboxEvent) []reconciler.OutboxEvent { return events[:2] },
		"others than the first":  func(events []reconciler.OutboxEvent) []reconciler.OutboxEvent { return events[2:] },
		"in another order":       func(events []reconciler.OutboxEvent) []reconciler.OutboxEvent { slices.Reverse(events); return events },
		"the middle one was not": func(events []reconciler.OutboxEvent) []reconciler.OutboxEvent { return slices.Delete(events, 2, 3) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setupForgetful(t)
			w.untoldEvents(1)
			_, _, stop := w.relay(asIs)
			becomes(w, "untold", 0, w.untold)
			stop()
			w.purge(streams.StreamEvents, ">")

			ids := w.untoldEvents(5)
			w.crash(tells)
			w.crash(nothing)
			w.forgotten()
			ids = append(ids, w.untoldEvents(5)...) // some of them before the others, by their ids
			w.relay(asIs)
			w.toldOnce(ids)
		})
	}
}

// Within the duplicate window JetStream itself may say that it has an event.
func TestEventsAreToldOnceWithinTheWindow(t *testing.T) {
	t.Parallel()
	w := setup(t)
	ids := w.untoldEvents(5)
	w.crash(func(events []reconciler.OutboxEvent) []reconciler.OutboxEvent { return events[2:] })
	w.relay(asIs)
	w.toldOnce(ids)
}

// A replica freezes between reading and publishing; Postgres ends its transaction, another replica tells the
// events, and long after that the frozen one publishes them.
func TestEventsOfAFrozenReplica(t *testing.T) {
	t.Parallel()
	w := setupForgetful(t)
	ids := w.untoldEvents(3)
	ice := newLatch()
	defer ice.release()
	w.relay(before(func(context.Context) error { return ice.pass(context.Background()) }))
	ice.await(w)
	w.exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
	         WHERE datname = current_database() AND state = 'idle in transaction'`)
	_, _, stop := w.relay(asIs)
	becomes(w, "untold", 0, w.untold)
	stop()
	w.forgotten()
	ice.release()
	ids = append(ids, w.untoldEvents(1)...) // the relay, thawed, goes on
	w.toldOnce(ids)
}

func TestEventsOfTwoRelaysThatCrash(t *testing.T) {
	t.Parallel()
	w := setupForgetful(t)
	var tellings atomic.Int32
	crashes := behind(func(int) error {
		if tellings.Add(1)%3 == 0 {
			return errCrashed
		}
		return nil
	})
	w.relay(crashes)
	w.relay(crashes)
	var ids []uuid.UUID
	for range 20 {
		ids = append(ids, w.untoldEvents(1+rand.IntN(400))...)
	}
	w.toldOnce(ids)
}

// Nobody else is to publish there, but it harms nobody.
func TestEventsAmongThoseOfOthers(t *testing.T) {
	t.Parallel()
	w := setupForgetful(t)
	store, logs, _ := w.relay(asIs)
	var ids []uuid.UUID
	for i := range 20 {
		w.send("publish.event.other.success", fmt.Sprint(i))
		ids = append(ids, w.fail(store).ID)
	}
	w.toldOnce(ids)
	equal(t, "lines of the log", logs.with("wait"), []string(nil))
}

// Whatever was ever sent is sent again and again, for as long as it goes on: as a network that was cut, a
// frozen replica or a connection's buffer may do, but far more of it. And somebody else publishes too.
func TestEventsThatComeLate(t *testing.T) {
	t.Parallel()
	w := setupForgetful(t)
	var mu sync.Mutex
	var sent []*nats.Msg
	record := func(tell reconciler.Tell) reconciler.Tell {
		return func(ctx context.Context, after uint64, events []reconciler.OutboxEvent) (reconciler.Told, error) {
			mu.Lock()
			for i, event := range events {
				msg := nats.NewMsg("publish.event.instagram.failed")
				msg.Header.Set(nats.MsgIdHdr, event.ID.String())
				msg.Header.Set(jetstream.ExpectedLastSeqHeader, strconv.FormatUint(after+uint64(i), 10))
				sent = append(sent, msg)
			}
			mu.Unlock()
			if rand.IntN(16) == 0 {
				return reconciler.Told{}, errCrashed
			}
			told, err := tell(ctx, after, events)
			if err == nil && rand.IntN(16) == 0 {
				err = errCrashed
			}
			return told, err
		}
	}
	w.relay(record)
	w.relay(record)
	over := make(chan struct{})
	var late sync.WaitGroup
	defer late.Wait()
	defer close(over)
	late.Go(func() {
		for {
			select {
			case <-over:
				return
			case <-time.After(time.Duration(rand.IntN(20)) * time.Millisecond):
			}
			mu.Lock()
			again := slices.Clone(sent)
			mu.Unlock()
			for _, msg := range again {
				_ = w.js.Conn().PublishMsg(msg)
			}
			if rand.IntN(10) == 0 {
				_ = w.js.Conn().Publish("publish.event.other.success", nil)
			}
		}
	})
	var ids []uuid.UUID
	for range 20 {
		ids = append(ids, w.untoldEvents(1+rand.IntN(30))...)
		time.Sleep(time.Duration(rand.IntN(50)) * time.Millisecond)
	}
	w.toldOnce(ids)
}

// An operator may empty the outbox.
func TestEventsThatWereTakenOut(t *testing.T) {
	t.Parallel()
	w := setupForgetful(t)
	w.untoldEvents(5)
	w.crash(nothing)
	w.exec(`DELETE FROM publish_outbox`)
	ids := w.untoldEvents(5)
	w.relay(asIs)
	w.toldOnce(ids)
}

func TestEventsAfterTheStreamWasMadeAnew(t *testing.T) {
	t.Parallel()
	w := setup(t)
	_, _, stop := w.relay(asIs)
	w.untoldEvents(20)
	becomes(w, "untold", 0, w.untold)
	stop()
	for range 2 {
		if err := w.js.DeleteStream(t.Context(), streams.StreamEvents); err != nil {
			t.Fatal(err)
		}
		if err := streams.Ensure(t.Context(), w.js, streams.Config{}); err != nil {
			t.Fatal(err)
		}
		w.forget()
		ids := w.untoldEvents(5)
		w.crash(everything)
		w.crash(everything)
		w.forgotten()
		_, _, stop := w.relay(asIs)
		w.toldOnce(ids)
		stop()
	}
}

// A schema that was migrated beside an older stream knows nothing of what stands there.
func TestEventsOfALongStream(t *testing.T) {
	t.Parallel()
	w := setupForgetful(t)
	ids := w.untoldEvents(300)
	w.crash(func(events []reconciler.OutboxEvent) []reconciler.OutboxEvent { return events[:100] })
	w.sendMany(11_000, func(int) (subject, body string) { return "publish.event.other.success", "" })
	w.crash(nothing)
	w.relay(asIs)
	w.toldOnce(ids)
}

func TestEventsBehindADeletedEnd(t *testing.T) {
	t.Parallel()
	w := setupForgetful(t)
	ids := w.untoldEvents(3)
	w.crash(everything)
	w.forgotten()
	w.purge(streams.StreamEvents, "publish.event.other.success")
	ids = append(ids, w.untoldEvents(3)...)
	w.relay(asIs)
	w.toldOnce(ids)
	w.purge(streams.StreamEvents, ">")
	w.toldOnce(nil)
	w.forgotten()
	w.purge(streams.StreamEvents, ">")
	w.toldOnce(nil)
	w.toldOnce(w.untoldEvents(3))
}

// Within the duplicate window, JetStream takes for stored what is not there any more.
func TestEventsThatWerePurged(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.untoldEvents(5)
	w.crash(everything)
	w.purge(streams.StreamEvents, ">")
	w.relay(asIs)
	w.toldOnce(nil)
	equal(t, "told up to", one[int](w, `SELECT sequence FROM publish_outbox_told`), 5)
}

// restored are five events that are told, and of which all but the first are in the outbox again.
func (w *world) restored() []uuid.UUID {
	w.Helper()
	ids := w.untoldEvents(5)
	w.exec(`CREATE TABLE backup AS SELECT id, ids, platforms, outcomes, bodies FROM publish_outbox ORDER BY id OFFSET 1`)
	_, _, stop := w.relay(asIs)
	becomes(w, "untold", 0, w.untold)
	stop()
	w.forgotten()
	w.exec(`INSERT INTO publish_outbox SELECT * FROM backup`)
	return ids
}

// Postgres goes back to where it was a while ago, and with it what it knows of the stream.
func TestEventsFromABackup(t *testing.T) {
	t.Parallel()
	w := setupForgetful(t)
	ids := w.restored()
	w.exec(`UPDATE publish_outbox_told SET sequence = 1, batch = '{}', rows = '{}'`)
	// Where the stream ends now, one of those would belong that stand there already.
	last := w.streamInfo(streams.StreamEvents).State.LastSeq
	equal(t, "last", last, uint64(7))
	for i := range byte(4) {
		older := uuid.UUID{15: i}
		w.exec(`INSERT INTO publish_outbox VALUES ($1, ARRAY[$1::uuid], '{instagram}', '{failed}', '{"{}"}')`, older)
		ids = append(ids, older)
	}
	w.relay(asIs)
	w.toldOnce(ids)
}

// What was told after the backup was planned, and together with what was not.
func TestEventsFromABackupBesideItsPlan(t *testing.T) {
	t.Parallel()
	w := setupForgetful(t)
	ids := w.restored()
	w.exec(`UPDATE publish_outbox_told SET sequence = 1, (rows, batch) = (SELECT ARRAY[id], ids FROM backup ORDER BY id LIMIT 1)`)
	untold := uuid.New()
	w.exec(`UPDATE publish_outbox
	           SET ids = ids || $1::uuid, platforms = platforms || 'instagram'::text, outcomes = outcomes || 'failed'::text, bodies = bodies || '{}'::text
	         WHERE id = (SELECT max(id::text)::uuid FROM publish_outbox)`, untold)
	w.relay(asIs)
	w.toldOnce(append(ids, untold))
}
