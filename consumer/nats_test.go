package consumer_test

import (
	"testing"
	"time"

	"publish-reconciler/streams"
)

func TestNATSIsAway(t *testing.T) {
	t.Parallel()
	w := setup(t)
	const n = 200
	logs := w.insertLogs("p", n, 0)
	r := w.start(batchSize(50))
	r.ready()
	w.nats.Halt()
	r.notReady("disconnected")
	w.during(*outageFor, func() {
		if r.Ready() == nil {
			t.Error("ready")
		}
	})
	if err := w.nats.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.until("connected", w.js.Conn().IsConnected)
	w.sendMany(n, publishedMany("p"))
	w.sendMany(n, func(i int) (subject, body string) { return streams.CheckSubject(logs[i]), "" })
	w.send(streams.SubjectSweep, "")
	w.allSettled()
	r.ready()
	equal(t, "logs", w.statuses(), "success 200")
	equal(t, "reconciled", w.reconciled(), "200 logs 1 times")
	equal(t, "dead letters", w.dead(), 0)
	if lines := r.logs.with("consumer is stuck"); len(lines) > 3 {
		t.Errorf("more than a line for each consumer: %q", lines)
	}
}

// The server stops while batches are in hand. What was on its way then comes again after the ack wait.
func TestNATSGoesAwayUnderLoad(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.shortenAckWait(streams.ConsumerWebhooks)
	const n = 3000
	w.insertLogs("p", n, 0)
	w.sendMany(n, publishedMany("p"))
	w.start(batchSize(50), unrestored)
	w.until("some are done", func() bool { return w.consumerInfo(streams.ConsumerWebhooks).AckFloor.Stream > 100 })
	if err := w.nats.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.until("connected", w.js.Conn().IsConnected)
	becomes(w, "logs", "success 3000", w.statuses)
	equal(t, "reconciled", w.reconciled(), "3000 logs 1 times")
	equal(t, "dead letters", w.dead(), 0)
}

func TestConsumerThatIsDeletedIsRestored(t *testing.T) {
	t.Parallel()
	for _, d := range streams.Consumers() {
		name := d.Config.Durable
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			r := w.start()
			r.ready()
			if err := w.js.DeleteConsumer(t.Context(), d.Stream, name); err != nil {
				t.Fatal(err)
			}
			w.until("restored", func() bool {
				_, err := w.js.Consumer(t.Context(), d.Stream, name)
				return err == nil
			})
			logs := w.insertLogs("p", 1, time.Hour)
			switch name {
			case streams.ConsumerWebhooks:
				w.send(webhooks, published("p1"))
			case streams.ConsumerChecks:
				w.send(streams.CheckSubject(logs[0]), "")
			default:
				w.send(streams.SubjectSweep, "")
			}
			w.until("reconciled", func() bool { return w.status(logs[0]) != "processing" })
			r.ready()
		})
	}
}

// Nothing reads these streams, so only a look now and then finds that one is gone.
func TestStreamThatIsDeletedIsRestored(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(sweepEvery(time.Second)).ready()
	for _, name := range []string{streams.StreamDead, streams.StreamEvents} {
		if err := w.js.DeleteStream(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	w.send(webhooks, `{"external_post_id":`)
	for _, name := range []string{streams.StreamDead, streams.StreamEvents} {
		w.until(name+" is there again", func() bool {
			_, err := w.js.Stream(t.Context(), name)
			return err == nil
		})
	}
	becomes(w, "dead letters", 1, w.dead)
}

// An administrator owns the streams, and has taken a consumer away.
func TestConsumerThatIsMissing(t *testing.T) {
	t.Parallel()
	w := setup(t)
	r := w.start(unrestored)
	r.ready()
	if err := w.js.DeleteConsumer(t.Context(), streams.StreamChecks, streams.ConsumerChecks); err != nil {
		t.Fatal(err)
	}
	r.notReady("consumer checks: ")
	w.until("it looks again", func() bool { return len(r.logs.with("consumer is stuck")) == 1 })

	id := w.insertLog("ig_1", "processing", 0)
	w.send(webhooks, published("ig_1"))
	w.until("the others go on", func() bool { return w.status(id) == "success" })

	if _, err := w.js.CreateConsumer(t.Context(), streams.StreamChecks, definition(t, streams.ConsumerChecks).Config); err != nil {
		t.Fatal(err)
	}
	r.ready()
	equal(t, "lines on its end", len(r.logs.with("consumer works again")), 1)
	equal(t, "lines on its beginning", len(r.logs.with("consumer is stuck")), 1)
}
