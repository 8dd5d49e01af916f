package consumer

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// worker takes the messages of one durable consumer, batch by batch.
type worker struct {
	c      *Consumer
	stream string
	name   string
	size   int
	// do reconciles a batch and settles every message of it. Its error means that the store is away.
	// Stopping ends when the service is asked to stop; working, later, when it has to.
	do func(stopping, working context.Context, msgs []jetstream.Msg) error

	mu    sync.Mutex
	cause error // why there are no messages; nil while all is well
}

// errNotStarted is every worker's cause until its first pull.
var errNotStarted = errors.New("not started")

func (w *worker) run(stopping, working context.Context) error {
	delay := backoff.NewExponentialBackOff()
	delay.InitialInterval = 100 * time.Millisecond
	delay.MaxInterval = 5 * time.Second
	for stopping.Err() == nil {
		err := w.consume(stopping, working)
		if err == nil {
			delay.Reset()
			continue
		}
		w.report(working, err)
		select {
		case <-time.After(delay.NextBackOff()):
		case <-stopping.Done():
		}
	}
	return nil
}

// consume opens the durable consumer and works on it until it is asked to stop, the store fails, or
// JetStream does, which is its error.
func (w *worker) consume(stopping, working context.Context) error {
	if !w.c.gate.wait(stopping) {
		return nil
	}
	consumer, err := w.open(stopping)
	if err != nil {
		return err
	}
	pull := &puller{consumer: consumer, size: w.size}
	for {
		if w.c.gate.err() != nil { // another worker found the store away
			w.handBack(working, pull.rest())
			return nil
		}
		msgs, err := pull.next(stopping)
		switch {
		case errors.Is(err, errStopped):
			return nil
		case err != nil:
			return err
		}
		w.report(working, nil)
		if len(msgs) == 0 {
			continue
		}
		err = w.do(stopping, working, msgs)
		if err != nil {
			w.c.gate.fail(working, err)
			w.handBack(working, pull.rest())
			return nil
		}
		w.c.gate.succeed()
	}
}

// open finds the durable consumer, and has it made anew where it is gone.
func (w *worker) open(ctx context.Context) (jetstream.Consumer, error) {
	consumer, err := w.c.js.Consumer(ctx, w.stream, w.name)
	if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
		if err := w.c.cfg.Restore(ctx); err != nil {
			return nil, err
		}
		return w.c.js.Consumer(ctx, w.stream, w.name)
	}
	return consumer, err
}

func (w *worker) handBack(ctx context.Context, msgs []jetstream.Msg) {
	for _, msg := range msgs {
		w.c.settle(ctx, msg, "", verdict{kind: later})
	}
}

// report remembers why the worker gets no messages, and logs what changed.
func (w *worker) report(ctx context.Context, err error) {
	w.mu.Lock()
	before := w.cause
	w.cause = err
	w.mu.Unlock()
	switch {
	case before == errNotStarted && err == nil:
	case err != nil && (before == nil || before == errNotStarted) && ctx.Err() == nil:
		w.c.logger.WarnContext(ctx, "no messages from consumer", "consumer", w.name, "err", err)
	case err == nil && before != nil:
		w.c.logger.InfoContext(ctx, "messages from consumer again", "consumer", w.name)
	}
}

// fault is why the worker does not work; nil while it does.
func (w *worker) fault() error {
	if err := w.c.gate.err(); err != nil {
		return err
	}
	if !w.c.js.Conn().IsConnected() {
		return nats.ErrDisconnected
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cause
}
