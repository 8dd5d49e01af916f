package consumer_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"publish-reconciler/streams"
)

// story is a batch of one consumer in which every message, or every log, ends in another way.
type story struct {
	consumer string
	messages int
	// transactions it takes: what is silent past its deadline is looked at twice, with a probe in between.
	transactions int64
	tell         func(*world)
	end          string // the logs by status
}

func stories() map[string]story {
	return map[string]story{
		"webhooks": {streams.ConsumerWebhooks, 5, 1, func(w *world) {
			w.insertLog("confirmed", "processing", 0)
			w.insertLog("rejected", "processing", 0)
			w.insertLog("unclear", "processing", 0)
			w.insertLog("early", "pending", 0)
			w.send(webhooks, published("confirmed"))
			w.send(webhooks, `{"external_post_id":"rejected","status":"failed"}`)
			w.send(webhooks, `{"external_post_id":"unclear","status":"in_review"}`)
			w.send(webhooks, published("early"))
			w.send(webhooks, published("nobody's"))
		}, "failed 1, pending 1, processing 1, success 1"},
		"checks": {streams.ConsumerChecks, 3, 2, func(w *world) {
			silent := w.insertLog("silent", "processing", time.Minute)
			early := w.insertLog("early", "processing", time.Minute)
			parked := w.insertLog("parked", "processing", time.Minute)
			w.exec(`INSERT INTO parked_webhooks (id, platform, external_post_id, payload, received_at)
			        VALUES (gen_random_uuid(), 'instagram', 'parked', '{"status":"published"}', now())`)
			w.send(streams.CheckSubject(silent), `{"timeout_minutes":0}`)
			w.send(streams.CheckSubject(early), `{"timeout_minutes":30}`)
			w.send(streams.CheckSubject(parked), "")
		}, "failed 1, processing 1, success 1"},
		"a sweep": {streams.ConsumerSweeper, 1, 2, func(w *world) {
			w.insertLog("silent", "processing", time.Hour)
			unclear := w.insertLog("unclear", "processing", time.Hour)
			w.exec(`UPDATE publish_logs SET extra_metadata = '{"webhook_status":"in_review"}' WHERE id = $1`, unclear)
			w.send(streams.SubjectSweep, "")
		}, "failed 1, processing 1"},
	}
}

// The first batch is committed and not acknowledged: it comes again and changes nothing.
func TestCrashBetweenCommitAndAck(t *testing.T) {
	t.Parallel()
	type crash struct {
		err  error // what the store says of its commit
		dies bool  // the process, before the acknowledgements
	}
	crashes := map[string]crash{
		"the connection to the store breaks": {err: errors.New("connection broke during the commit")},
		"the process dies":                   {dies: true},
	}
	for kind, story := range stories() {
		for name, crash := range crashes {
			t.Run(kind+"/"+name, func(t *testing.T) {
				t.Parallel()
				w := setup(t)
				w.shortenAckWait(story.consumer)
				story.tell(w)
				committed := newLatch()
				var commits atomic.Int64
				r := w.start(unrestored, transacting(func(ctx context.Context, do func() error) error {
					if err := do(); err != nil || commits.Add(1) != story.transactions {
						return err
					}
					return errors.Join(committed.pass(ctx), crash.err)
				}))
				committed.await(w)
				before := w.dump()
				if crash.dies {
					r.nc.Close()
				}
				committed.release()
				if crash.dies {
					r.stop()
					w.start(unrestored)
				}
				w.settled(story.consumer)
				equal(t, "rows", w.dump(), before)
				equal(t, "logs", w.statuses(), story.end)
				again := 1 // the others were settled by the transaction before
				if crash.dies || story.transactions == 1 {
					again = story.messages
				}
				if n := int(w.consumerInfo(story.consumer).Delivered.Consumer); n < story.messages+again {
					t.Errorf("%d messages were delivered %d times", story.messages, n)
				}
				equal(t, "dead letters", w.dead(), 0)
			})
		}
	}
}

// shortenAckWait lets messages whose process died come again within the test.
func (w *world) shortenAckWait(name string) {
	w.Helper()
	w.setAckWait(name, time.Second)
}

// Platforms repeat themselves: within a batch, later, and after the log is closed. Nothing here has a
// message id that JetStream could tell duplicates by.
func TestDuplicatesLeaveOneHistory(t *testing.T) {
	t.Parallel()
	w := setup(t)
	const n = 50
	logs := w.insertLogs("p", n, time.Hour)
	w.sendMany(n, publishedMany("p"))
	w.sendMany(n, publishedMany("p"))
	w.start(batchSize(2 * n))
	w.settled(streams.ConsumerWebhooks)
	before := w.dump()
	w.sendMany(n, publishedMany("p"))
	w.sendMany(n, func(i int) (subject, body string) { return streams.CheckSubject(logs[i]), "" })
	w.send(streams.SubjectSweep, "")
	w.allSettled()
	equal(t, "rows", w.dump(), before)
	equal(t, "logs", w.statuses(), "success 50")
	equal(t, "reconciled", w.reconciled(), "50 logs 1 times")
	history := "publish_webhook_received, publish_reconciled marked_success webhook_confirmed webhook"
	for _, id := range []uuid.UUID{logs[0], logs[n-1]} {
		equal(t, "ledger", w.ledger(id), history)
	}
}

// redelivered counts the deliveries beyond each message's first, of a consumer that gets every message of
// its stream.
func redelivered(info *jetstream.ConsumerInfo) int {
	return int(info.Delivered.Consumer) - int(info.Delivered.Stream)
}
