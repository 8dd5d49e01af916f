package consumer

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// gate is closed while the store is away, so that nothing is fetched that could not be reconciled. The
// first failure closes it for all workers; it opens when the store answers again. A store that answers while
// batches fail all the same is the failing worker's matter alone.
type gate struct {
	store  Clock
	logger *slog.Logger

	mu      sync.Mutex
	open    chan struct{} // closed while the gate is open
	failure error         // why the gate is closed; nil while it is open

	failed chan struct{}               // wakes run; one is enough
	delay  *backoff.ExponentialBackOff // run's
}

func newGate(store Clock, logger *slog.Logger) *gate {
	g := &gate{store: store, logger: logger, open: make(chan struct{}), failed: make(chan struct{}, 1), delay: newBackOff(10 * time.Second)}
	close(g.open)
	return g
}

// newBackOff is a jittered delay that grows from 100 ms to the longest given, and starts anew by its Reset.
func newBackOff(longest time.Duration) *backoff.ExponentialBackOff {
	delay := backoff.NewExponentialBackOff()
	delay.InitialInterval = 100 * time.Millisecond
	delay.MaxInterval = longest
	return delay
}

// wait returns true as soon as the gate is open, false when ctx ends before.
func (g *gate) wait(ctx context.Context) bool {
	g.mu.Lock()
	open := g.open
	g.mu.Unlock()
	select {
	case <-open:
		return true
	case <-ctx.Done():
		return false
	}
}

// check closes the gate if the store is away, after a batch failed with err.
func (g *gate) check(ctx context.Context, err error) {
	if _, away := g.store.Now(ctx); away == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.failure != nil {
		return
	}
	g.failure = err
	g.open = make(chan struct{})
	g.logger.WarnContext(ctx, "fetching stopped", "err", err)
	select {
	case g.failed <- struct{}{}:
	default:
	}
}

// err is why the gate is closed; nil while it is open.
func (g *gate) err() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.failure
}

func (g *gate) closed() bool { return g.err() != nil }

// run opens the gate again, until ctx ends.
func (g *gate) run(ctx context.Context) error {
	for {
		select {
		case <-g.failed:
		case <-ctx.Done():
			return nil
		}
		for g.delay.Reset(); g.closed(); {
			select {
			case <-time.After(g.delay.NextBackOff()):
			case <-ctx.Done():
				return nil
			}
			if _, err := g.store.Now(ctx); err != nil {
				g.logger.DebugContext(ctx, "store is still away", "err", err)
				continue
			}
			g.mu.Lock()
			g.logger.InfoContext(ctx, "fetching again") // before anybody sees it
			g.failure = nil
			close(g.open)
			g.mu.Unlock()
		}
	}
}
