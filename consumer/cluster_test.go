package consumer_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"publish-reconciler/repo/pgtest/pgtestdb"
	"publish-reconciler/streams"
	"publish-reconciler/streams/streamstest"
)

// clusterWorld is one with all streams on three servers.
func clusterWorld(t *testing.T) (*world, *streamstest.Cluster) {
	t.Helper()
	c := streamstest.NewCluster(t)
	w := &world{T: t, url: pgtestdb.New(t, migrate)}
	w.connectPostgres()
	nc, err := c.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if w.js, err = jetstream.New(nc); err != nil {
		t.Fatal(err)
	}
	if err := streams.Ensure(t.Context(), w.js, streams.Config{Replicas: 3}); err != nil {
		t.Fatal(err)
	}
	w.tickAt(time.Now().Add(time.Hour))
	return w, c
}

// sendSurely publishes n messages, each until it is stored: the other side of "webhooks wait with their
// ingestors". The message id tells the stream what it has already.
func (w *world) sendSurely(n int, message func(i int) (subject, body string)) {
	w.Helper()
	for i := range n {
		subject, body := message(i)
		id := jetstream.WithMsgID(subject + body)
		w.until("message is stored", func() bool {
			ctx, cancel := context.WithTimeout(w.Context(), time.Second)
			defer cancel()
			_, err := w.js.Publish(ctx, subject, []byte(body), id)
			return err == nil
		})
	}
}

// There is more than a batch, so that the server says of a pull that it is complete before the messages come:
// these wait for their delivery to be replicated. None of them is lost, which would come again after the ack wait.
func TestABacklogOnACluster(t *testing.T) {
	t.Parallel()
	w, c := clusterWorld(t)
	const n = 200
	w.load(n)
	w.start(batchSize(20), unrestored, func(p *parts) { p.connect = c.Connect })
	w.endsWell(n)
	equal(t, "redelivered", redelivered(w.consumerInfo(streams.ConsumerWebhooks)), 0)
}

// The server that leads a stream is lost, one after the other, under load. The others elect another leader.
func TestAClusterLosesItsLeaders(t *testing.T) {
	t.Parallel()
	w, c := clusterWorld(t)
	w.shortenAckWait(streams.ConsumerWebhooks)
	w.shortenAckWait(streams.ConsumerChecks)
	const n = 400
	logs := w.insertLogs("p", n, 0)
	for range 2 {
		w.start(batchSize(20), unrestored, func(p *parts) { p.connect, p.store.Outbox = c.Connect, true })
	}
	w.relay(asIs)
	half := func(part int) {
		from := n / 2 * part
		w.sendSurely(n/2, func(i int) (subject, body string) { return webhooks, published(fmt.Sprint("p", from+i+1)) })
		w.sendSurely(n/2, func(i int) (subject, body string) { return streams.CheckSubject(logs[from+i]), "" })
	}
	for part, stream := range []string{streams.StreamWebhooks, streams.StreamChecks} {
		lost := -1
		w.until(stream+" has a leader", func() bool {
			lost = c.Leader(stream)
			return lost >= 0
		})
		w.until("it goes on", func() bool { return w.done() >= n/2*part })
		c.Halt(lost)
		half(part)
		if err := c.Restart(t.Context(), lost); err != nil {
			t.Fatal(err)
		}
		w.until("it is one of them again", func() bool { return c.Current(lost) })
	}
	for _, d := range streams.Consumers() {
		w.until(d.Config.Durable+" answers", func() bool {
			_, err := w.js.Consumer(t.Context(), d.Stream, d.Config.Durable)
			return err == nil
		})
	}
	w.endsWell(n)
	becomes(w, "untold", 0, w.untold)
	told, seen := w.stored(streams.StreamEvents, "publish.event.instagram.success"), make(map[string]bool)
	for _, event := range told {
		seen[event.Header.Get(nats.MsgIdHdr)] = true
	}
	equal(t, "events, and different ones", []int{len(told), len(seen)}, []int{n, n})
}
