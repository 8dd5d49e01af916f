package consumer_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"publish-reconciler/consumer"
	"publish-reconciler/streams"
)

func TestUnread(t *testing.T) {
	t.Parallel()
	w := setup(t)
	if oldest, err := consumer.NewInbox(w.js).Unread(t.Context()); oldest != nil || err != nil {
		t.Errorf("of an empty stream %v, %v", oldest, err)
	}
	w.send(webhooks, published("a"))
	w.send(webhooks, published("b"))
	oldest, err := consumer.NewInbox(w.js).Unread(t.Context())
	if err != nil || oldest == nil || time.Since(*oldest).Abs() > time.Minute {
		t.Fatalf("of two %v, %v", oldest, err)
	}
	w.start()
	w.settled(streams.ConsumerWebhooks)
	if oldest, err := consumer.NewInbox(w.js).Unread(t.Context()); oldest != nil || err != nil {
		t.Errorf("once they are read %v, %v", oldest, err)
	}
	w.nats.Halt()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	if _, err := consumer.NewInbox(w.js).Unread(ctx); err == nil {
		t.Error("no error without NATS")
	}
}

// A replica that stands still has webhooks in hand that nobody has read.
func TestWebhooksInHandAreUnread(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.send(webhooks, published("a"))
	consumer1, err := w.js.Consumer(t.Context(), streams.StreamWebhooks, streams.ConsumerWebhooks)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := consumer1.Next(); err != nil {
		t.Fatal(err)
	}
	if oldest, err := consumer.NewInbox(w.js).Unread(t.Context()); oldest == nil || err != nil {
		t.Errorf("in hand: %v, %v", oldest, err)
	}
}

// What a message's own headers say is nothing that the server said.
func TestAMessageWithAStatusOfItsOwn(t *testing.T) {
	t.Parallel()
	w := setup(t)
	id, other := w.insertLog("a", "processing", time.Hour), w.insertLog("b", "processing", time.Hour)
	for _, id := range []uuid.UUID{id, other} {
		w.sendMsg(&nats.Msg{Subject: streams.CheckSubject(id), Header: nats.Header{"Status": {"409"}, "Nats-Pending-Messages": {"-7"}}})
	}
	w.start()
	w.until("both are settled", func() bool { return w.statuses() == "failed 2" })
	w.settled(streams.ConsumerChecks)
}

// The service comes back after an hour: the webhooks that came in time wait in the stream, and so do the checks.
func TestABacklogOfWebhooksIsNoSilence(t *testing.T) {
	t.Parallel()
	w := setup(t)
	const n = 2000
	logs := w.insertLogs("p", n, time.Hour)
	w.sendMany(n, publishedMany("p"))
	w.exec(`UPDATE publish_logs SET updated_at = now() - interval '1 minute'`) // the deadlines pass after they came
	w.sendMany(n, func(i int) (subject, body string) { return streams.CheckSubject(logs[i]), "" })
	w.send(streams.SubjectSweep, "")
	w.start(timeout(time.Minute), func(p *parts) { p.policy.IgnoreLate = true })
	w.until("all are settled", func() bool { return w.statuses() == "success 2000" })
	equal(t, "failures", one[int](w, `SELECT count(*) FROM ledger_events WHERE metadata->>'action' = 'marked_failed'`), 0)
}
