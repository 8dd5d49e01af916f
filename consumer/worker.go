package consumer

import (
	"cmp"
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
	// prepare makes a job of a batch.
	prepare func(msgs []jetstream.Msg) job

	delay *backoff.ExponentialBackOff // run's

	mu    sync.Mutex
	cause error // why nothing is reconciled; nil while all is well
}

// errNotStarted is every worker's cause until it found its consumer.
var errNotStarted = errors.New("not started")

func (c *Consumer) newWorker(stream, name string, size int, prepare func([]jetstream.Msg) job) *worker {
	return &worker{c: c, stream: stream, name: name, size: size, prepare: prepare, delay: newBackOff(5 * time.Second), cause: errNotStarted}
}

func (w *worker) run(stopping, working context.Context) error {
	for stopping.Err() == nil {
		err := w.consume(stopping, working)
		if err == nil {
			continue
		}
		w.report(working, err)
		select {
		case <-time.After(w.delay.NextBackOff()):
		case <-stopping.Done():
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cause = errStopped
	return nil
}

// consume finds the durable consumer and works on it until it is asked to stop or the store is away. Its
// error is JetStream's, or that of a batch that failed although the store is there.
func (w *worker) consume(stopping, working context.Context) error {
	if !w.c.gate.wait(stopping) {
		return nil
	}
	if err := w.find(stopping); err != nil {
		return err
	}
	w.started()
	pull := &puller{nc: w.c.js.Conn(), stream: w.stream, consumer: w.name, size: w.size}
	flight := newFlight()
	err := w.feed(stopping, working, pull, flight)
	w.handBack(working, pull.rest())
	err = cmp.Or(flight.land(), err)
	if w.c.gate.closed() || errors.Is(err, errAway) || errors.Is(err, errStopped) {
		return nil
	}
	return err
}

// feed starts a job for each batch until one fails, or the store is away.
func (w *worker) feed(stopping, working context.Context, pull *puller, flight *flight) error {
	for !w.c.gate.closed() { // another worker may find the store away
		msgs, err := pull.next(stopping)
		switch {
		case err != nil:
			return err
		case len(msgs) > 0:
			w.c.cfg.Observer.Batch(w.name, len(msgs))
			err = flight.start(w.prepare(msgs), func(j job) error { return w.do(stopping, working, msgs, j) })
			if err != nil {
				w.handBack(working, msgs)
				return err
			}
		case flight.idle():
			w.report(working, nil)
		}
		if err := flight.failed(); err != nil {
			return err
		}
	}
	return nil
}

// do does the job of a batch. Where it fails, it sees at once whether the store is away.
func (w *worker) do(stopping, working context.Context, msgs []jetstream.Msg, j job) error {
	traced, end := w.trace(working, msgs)
	err := j.do(stopping, traced)
	end(err)
	if err != nil {
		w.c.gate.check(working, err)
		if w.c.gate.closed() { // it may be open again before anybody looks
			err = errAway
		}
		return err
	}
	w.report(working, nil)
	return nil
}

// errAway is a batch's error when the store is away, which the gate has told.
var errAway = errors.New("the store is away")

// find makes sure that the durable consumer is there, and has it made anew where it is gone.
func (w *worker) find(ctx context.Context) error {
	_, err := w.c.js.Consumer(ctx, w.stream, w.name)
	if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
		if err := w.c.cfg.Restore(ctx); err != nil {
			return err
		}
		_, err = w.c.js.Consumer(ctx, w.stream, w.name)
	}
	return err
}

func (w *worker) handBack(ctx context.Context, msgs []jetstream.Msg) {
	for _, msg := range msgs {
		w.c.settle(ctx, msg, "", verdict{kind: later})
	}
}

func (w *worker) started() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if errors.Is(w.cause, errNotStarted) {
		w.cause = nil
	}
}

// report remembers why the worker reconciles nothing, or that it does, and logs what changed, before anybody sees it.
func (w *worker) report(ctx context.Context, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	wasWell := w.cause == nil || errors.Is(w.cause, errNotStarted)
	w.cause = err
	if err == nil {
		w.delay.Reset()
	}
	switch {
	case err != nil && wasWell && ctx.Err() == nil:
		w.c.logger.WarnContext(ctx, "consumer is stuck", "consumer", w.name, "err", err)
	case err == nil && !wasWell:
		w.c.logger.InfoContext(ctx, "consumer works again", "consumer", w.name)
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
