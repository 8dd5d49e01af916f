package bench

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"publish-reconciler/streams"
)

func latency(ctx context.Context, w *world) ([]Figure, error) {
	took, err := w.latencies(ctx, 200, w.scale(30, 3))
	if err != nil {
		return nil, err
	}
	return []Figure{
		milliseconds("latency", "stored → committed, 200 webhooks/s, half of them", took, 0.5, 5),
		milliseconds("latency", "stored → committed, 200 webhooks/s, 99 of 100", took, 0.99, 25),
	}, nil
}

func latencyUnderLoad(ctx context.Context, w *world) ([]Figure, error) {
	took, err := w.latencies(ctx, 5000, w.scale(20, 2))
	if err != nil {
		return nil, err
	}
	return []Figure{milliseconds("load", "stored → committed, 5,000 webhooks/s, 99 of 100", took, 0.99, 100)}, nil
}

func milliseconds(line, what string, took []time.Duration, quantile, target float64) Figure {
	slices.Sort(took)
	at := took[min(len(took)-1, int(quantile*float64(len(took))))]
	return Figure{Line: line, What: what, Value: 1000 * at.Seconds(), Unit: "ms", Target: target, Most: true}
}

// latencies are how long each webhook takes from being stored until the service acknowledges it, which it does after
// the commit. Both times are the NATS server's machine's, which is this one.
func (w *world) latencies(ctx context.Context, rate, seconds int) ([]time.Duration, error) {
	n := rate * seconds
	if _, err := w.start(ctx, "--events=off"); err != nil {
		return nil, err
	}
	if _, err := w.confirm(ctx, warmLogs); err != nil {
		return nil, err
	}
	from, err := w.insert(ctx, n, "processing", 0)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	took := make(map[uint64]time.Duration, n) // by sequence
	var strange error
	acks, err := w.nc.Subscribe("$JS.ACK.>", func(ack *nats.Msg) {
		now := time.Now()
		metadata, err := (&nats.Msg{Sub: ack.Sub, Reply: ack.Subject}).Metadata()
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err != nil:
			strange = fmt.Errorf("%s: %w", ack.Subject, err)
		case metadata.Consumer == streams.ConsumerWebhooks && string(ack.Data) != "+ACK":
			strange = fmt.Errorf("webhook %d is not acknowledged but %s", metadata.Sequence.Stream, ack.Data)
		case metadata.Consumer == streams.ConsumerWebhooks:
			took[metadata.Sequence.Stream] = now.Sub(metadata.Timestamp)
		}
	})
	if err != nil {
		return nil, err
	}
	defer acks.Unsubscribe() //nolint:errcheck // the connection is closed soon
	if err := acks.SetPendingLimits(-1, -1); err != nil {
		return nil, err
	}
	if err := w.paced(ctx, rate, from, n); err != nil {
		return nil, err
	}
	err = w.until(ctx, "all are acknowledged", func() (bool, error) {
		mu.Lock()
		defer mu.Unlock()
		return len(took) >= n, strange
	})
	mu.Lock()
	defer mu.Unlock()
	return slices.Collect(maps.Values(took)), errors.Join(err, w.ends(ctx, w.posts, "success", "webhook_confirmed"))
}

// paced publishes webhooks about n posts evenly.
func (w *world) paced(ctx context.Context, rate, from, n int) error {
	began := time.Now()
	for i := range n {
		at := began.Add(time.Duration(i) * time.Second / time.Duration(rate))
		if wait := time.Until(at); wait > time.Millisecond {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if _, err := w.js.PublishMsgAsync(webhook(from+i), jetstream.WithStallWait(time.Minute)); err != nil {
			return err
		}
	}
	if planned, took := time.Duration(n)*time.Second/time.Duration(rate), time.Since(began); took > planned+planned/20 {
		return fmt.Errorf("%d webhooks took %s, which is less than %d/s: the machine is too slow for this line", n, took.Round(time.Millisecond), rate)
	}
	return nil
}
