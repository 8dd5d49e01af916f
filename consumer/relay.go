package consumer

import (
	"context"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"publish-reconciler/reconciler"
	"publish-reconciler/streams"
)

const (
	// relayBatch is how many events leave the outbox in one transaction.
	relayBatch = 500
	// relayInterval is how often the outbox is looked into without being woken: for what another replica
	// left behind when it died.
	relayInterval = 5 * time.Second
)

// Outbox holds what is to be told of state changes, committed with them.
type Outbox interface {
	// DrainOutbox hands at most limit events to publish and forgets them when that returns nil. It returns
	// how many there were.
	DrainOutbox(ctx context.Context, limit int, publish func(context.Context, []reconciler.OutboxEvent) error) (int, error)
	// Outboxed has a token when there may be something to drain.
	Outboxed() <-chan struct{}
}

// Relay publishes the outcome events: publish.event.<platform>.<outcome>, with the ledger event's id as
// message id, so that JetStream stores an event once though a crash may publish it twice. Make one with [NewRelay].
type Relay struct {
	outbox Outbox
	js     jetstream.JetStream
	logger *slog.Logger
}

// NewRelay returns a relay from the outbox to JetStream.
func NewRelay(outbox Outbox, js jetstream.JetStream, logger *slog.Logger) *Relay {
	return &Relay{outbox: outbox, js: js, logger: logger}
}

// Run publishes what comes into the outbox until ctx ends, and then, for at most a second, what is in it
// still. What is left waits for the next start, or another replica.
func (r *Relay) Run(ctx context.Context) {
	working, cancel := linger(ctx, time.Second)
	defer cancel()
	delay := newBackOff(relayInterval)
	waiting := false
	for {
		last := ctx.Err() != nil
		err := r.drain(working)
		if last {
			return
		}
		wait, woken := relayInterval, r.outbox.Outboxed()
		if err != nil {
			wait, woken = delay.NextBackOff(), nil
		} else {
			delay.Reset()
		}
		switch {
		case err != nil && !waiting:
			r.logger.WarnContext(working, "outcome events wait", "err", err)
		case err == nil && waiting:
			r.logger.InfoContext(working, "outcome events go out again")
		}
		waiting = err != nil
		select {
		case <-woken:
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// drain empties the outbox.
func (r *Relay) drain(ctx context.Context) error {
	for {
		n, err := r.outbox.DrainOutbox(ctx, relayBatch, r.publish)
		if err != nil || n < relayBatch {
			return err
		}
	}
}

func (r *Relay) publish(ctx context.Context, events []reconciler.OutboxEvent) error {
	msgs := make([]*nats.Msg, len(events))
	for i, event := range events {
		msgs[i] = nats.NewMsg(streams.EventSubject(event.Platform, event.Outcome))
		msgs[i].Header.Set(nats.MsgIdHdr, event.ID.String())
		msgs[i].Data = event.Body
	}
	return publish(ctx, r.js, msgs)
}
