package consumer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"publish-reconciler/reconciler"
	"publish-reconciler/streams"
)

const (
	// relayBatch is how many events are told at once.
	relayBatch = 500
	// relayInterval is how often the outbox is looked into without being woken: for what another replica
	// left behind when it died.
	relayInterval = 5 * time.Second
	// lookBatch is how many messages of the stream are looked at in one transaction: some tens of milliseconds.
	lookBatch = 5000
)

// Outbox holds what is to be told of state changes, committed with them.
type Outbox interface {
	// DrainOutbox hands at most limit events to tell, each always for the same place in the stream, and
	// forgets what tell found told. More says that there are events left. One drains at a time: who waits
	// for another too long gets [reconciler.ErrLocked].
	DrainOutbox(ctx context.Context, limit int, tell reconciler.Tell) (more bool, err error)
	// Outboxed has a token when there may be something to drain.
	Outboxed() <-chan struct{}
}

// Relay publishes the outcome events: publish.event.<platform>.<outcome>, with the ledger event's id as
// message id. Each stands in the stream once, whatever crashes in between and however long that lasts:
//
//	outbox                                                stream
//	  │ the next events, each with its place in the stream, committed
//	  ├── publish, each for its place alone ────────────────▶ all are stored: they are told
//	  │                                                     ▶ it does not end where the first belongs:
//	  ◀── the ids that stand there: these are told ───────────┤ look
//	  │ forget what is told and plan the next, in one transaction
//
// So the stream itself refuses what comes late: from a replica that froze before it published, from a
// connection's buffer, from a network that was cut. JetStream's duplicate window alone could not: what comes
// again after its two minutes it stores again. Make one with [NewRelay].
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
		case errors.Is(err, reconciler.ErrLocked): // another replica is at it, and tells what goes wrong
		case err != nil && !waiting:
			r.logger.WarnContext(working, "outcome events wait", "err", err)
			waiting = true
		case err == nil && waiting:
			r.logger.InfoContext(working, "outcome events go out again")
			waiting = false
		}
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
		more, err := r.outbox.DrainOutbox(ctx, relayBatch, r.tell)
		if err != nil || !more {
			return err
		}
	}
}

// tell publishes events behind a sequence of the stream. Where the stream does not end there it publishes
// none, and finds out what stands there: so the others are sent only when the first is stored, at its place.
func (r *Relay) tell(ctx context.Context, after uint64, events []reconciler.OutboxEvent) (reconciler.Told, error) {
	msgs := make([]*nats.Msg, len(events))
	for i, event := range events {
		msgs[i] = nats.NewMsg(streams.EventSubject(event.Platform, event.Outcome))
		msgs[i].Header.Set(nats.MsgIdHdr, event.ID.String())
		msgs[i].Header.Set(jetstream.ExpectedLastSeqHeader, strconv.FormatUint(after+uint64(i), 10))
		msgs[i].Data = event.Body
	}
	acks, err := publishAcked(ctx, r.js, msgs[:1])
	if err == nil && !acks[0].Duplicate {
		var others []*jetstream.PubAck
		others, err = publishAcked(ctx, r.js, msgs[1:])
		acks = append(acks, others...)
	}
	if err != nil {
		if !endsElsewhere(err) {
			return reconciler.Told{}, err
		}
		found, lookErr := r.look(ctx, after)
		if lookErr == nil && found.Sequence == after && len(found.Events) == 0 {
			return reconciler.Told{}, err // nothing new: not at once again
		}
		return found, lookErr
	}
	told := reconciler.Told{Sequence: after}
	for i, ack := range acks {
		told.Events = append(told.Events, events[i].ID)
		// What JetStream knows by its message id is told too, but stands elsewhere.
		if !ack.Duplicate && ack.Sequence == told.Sequence+1 {
			told.Sequence = ack.Sequence
		}
	}
	return told, nil
}

// endsElsewhere tells whether the stream refused an event since it does not end where the event belongs.
func endsElsewhere(err error) bool {
	refused, ok := errors.AsType[*jetstream.APIError](err)
	return ok && (refused.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
		refused.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}

// look finds the events that stand in the stream beyond a sequence, at most lookBatch of them.
func (r *Relay) look(ctx context.Context, after uint64) (reconciler.Told, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, apiTimeout, fmt.Errorf("no answer from JetStream within %s", apiTimeout))
	defer cancel()
	told, err := r.lookOnce(ctx, after)
	if err != nil {
		return reconciler.Told{}, fmt.Errorf("look for outcome events in %s: %w", streams.StreamEvents, cmp.Or(context.Cause(ctx), err))
	}
	r.logger.DebugContext(ctx, "looked for outcome events", "after", after, "up_to", told.Sequence, "found", len(told.Events))
	return told, nil
}

func (r *Relay) lookOnce(ctx context.Context, after uint64) (reconciler.Told, error) {
	stream, err := r.js.Stream(ctx, streams.StreamEvents)
	if err != nil {
		return reconciler.Told{}, err
	}
	last := stream.CachedInfo().State.LastSeq
	consumer, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       after + 1,
		AckPolicy:         jetstream.AckNonePolicy,
		HeadersOnly:       true,
		MemoryStorage:     true,
		InactiveThreshold: 2 * apiTimeout, // in case that it can't be deleted
	})
	if err != nil {
		return reconciler.Told{}, err
	}
	info := consumer.CachedInfo()
	defer func() { _ = stream.DeleteConsumer(context.WithoutCancel(ctx), info.Name) }()
	told := reconciler.Told{Sequence: last}
	if info.NumPending == 0 {
		return told, nil // what stood there has been deleted, or has expired
	}
	batch, err := consumer.Fetch(int(min(info.NumPending, lookBatch)), jetstream.FetchContext(ctx))
	if err != nil {
		return reconciler.Told{}, err
	}
	var seen uint64
	for msg := range batch.Messages() {
		place, err := msg.Metadata()
		if err != nil {
			return reconciler.Told{}, err
		}
		if seen++; place.Sequence.Consumer != seen {
			return reconciler.Told{}, errors.New("a message was lost on its way")
		}
		told.Sequence = place.Sequence.Stream
		if id, err := uuid.Parse(msg.Headers().Get(nats.MsgIdHdr)); err == nil {
			told.Events = append(told.Events, id)
		}
	}
	if batch.Error() != nil {
		return reconciler.Told{}, batch.Error()
	}
	if seen == 0 {
		return reconciler.Told{}, errors.New("no message came")
	}
	return told, nil
}
