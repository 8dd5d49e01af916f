package reconciler

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// ParkedRetention is how long a webhook is parked for a log that does not come: as long as the stream keeps it.
	ParkedRetention = 7 * 24 * time.Hour
	// prunePage is how many rows one transaction of a prune takes.
	prunePage = 1000
	// prunePause is how many times as long as its transaction took a prune pauses then, for others to have the database;
	// but not longer than maxPrunePause.
	prunePause    = 9
	maxPrunePause = time.Second
)

// PruneRequest asks for old rows to be deleted.
type PruneRequest struct {
	// LedgerRetention is how old a log's ledger events get; zero: as old as they like.
	LedgerRetention time.Duration
	// Within is how long it takes at most, but for the transaction under way; zero: until all is done.
	Within time.Duration
	// Progress is called after each page, if it is not nil.
	Progress func(PruneResult)
	// Stop ends it between two pages when it is closed. Nil: never.
	Stop <-chan struct{}
}

// PruneResult counts what was deleted.
type PruneResult struct {
	LedgerEvents   int `json:"ledger_events"`
	ParkedWebhooks int `json:"parked_webhooks"`
	// More tells that there may be more, which the time was not enough for.
	More bool `json:"more"`
}

// errPruneIsOver ends a prune that was stopped, or whose time is over.
var errPruneIsOver = errors.New("time is over")

// Prune deletes the logs' ledger events that are older than their retention, and parked webhooks older than
// [ParkedRetention], in small transactions with pauses in between: a tenth of the time it works. Times are the
// database's. Several may run at once. On an error it returns what was deleted before.
func (r *Reconciler) Prune(ctx context.Context, request PruneRequest) (result PruneResult, err error) {
	now, err := r.store.Now(ctx)
	if err != nil {
		return result, fmt.Errorf("prune: %w", err)
	}
	p := pruner{request, stopwatch(), &result}
	err = p.all(ctx, &result.ParkedWebhooks, func() (int, error) {
		return r.store.PruneParked(ctx, now.Add(-ParkedRetention), prunePage)
	})
	if err == nil && request.LedgerRetention > 0 {
		err = p.all(ctx, &result.LedgerEvents, func() (int, error) {
			return r.store.PruneLedger(ctx, now.Add(-request.LedgerRetention), prunePage)
		})
	}
	if errors.Is(err, errPruneIsOver) {
		result.More = true
		return result, nil
	}
	if err != nil {
		return result, fmt.Errorf("prune: %w", err)
	}
	return result, nil
}

type pruner struct {
	PruneRequest
	took   func() time.Duration
	result *PruneResult
}

// stopwatch tells how long it has been running, on this machine: that decides nothing about a log.
func stopwatch() func() time.Duration {
	start := time.Now()                                      //nolint:forbidigo // see above
	return func() time.Duration { return time.Since(start) } //nolint:forbidigo // see above
}

// all deletes page after page, and counts.
func (p pruner) all(ctx context.Context, count *int, page func() (deleted int, err error)) error {
	for {
		select {
		case <-p.Stop:
			return errPruneIsOver
		default:
			if p.Within > 0 && p.took() > p.Within {
				return errPruneIsOver
			}
		}
		took := stopwatch()
		deleted, err := page()
		if err != nil {
			return err
		}
		*count += deleted
		if p.Progress != nil {
			p.Progress(*p.result)
		}
		if deleted < prunePage {
			return nil
		}
		select {
		case <-time.After(min(prunePause*took(), maxPrunePause)):
		case <-p.Stop:
			return errPruneIsOver
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
