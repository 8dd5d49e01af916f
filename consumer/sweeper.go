package consumer

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"publish-reconciler/reconciler"
	"publish-reconciler/streams"
)

// sweep is a message of publish.sweep. The consumer hands out one at a time over all replicas, so nobody has to be
// elected.
func (c *Consumer) sweep(msgs []jetstream.Msg) job {
	return job{keys: map[any]bool{streams.SubjectSweep: true}, do: func(stopping, working context.Context) error {
		for _, msg := range msgs {
			request, err := streams.DecodeSweep(msg.Data())
			switch {
			case streams.IsPrune(msg.Headers()):
				err = c.prune(stopping, working, msg)
			case err != nil:
				c.settle(working, msg, streams.KindSweep, undecodable(err))
				continue
			default:
				err = c.sweepOnce(stopping, working, request, msg)
			}
			v := verdict{kind: done}
			if err != nil {
				v.kind = later
			}
			c.settle(working, msg, streams.KindSweep, v)
			if err != nil && stopping.Err() == nil { // else another replica goes on with it
				return err
			}
		}
		return nil
	}}
}

func (c *Consumer) sweepOnce(stopping, working context.Context, request streams.Sweep, msg jetstream.Msg) error {
	start := time.Now()
	inProgress := start
	result, err := c.reconciler.Sweep(working, reconciler.SweepRequest{
		Since:   request.Since,
		Trigger: reconciler.TriggerSweep,
		Stop:    stopping.Done(),
		Progress: func() {
			if time.Since(inProgress) > streams.AckWait/6 {
				inProgress = time.Now()
				_ = msg.InProgress() // where this is lost, another replica may sweep too, which is safe
			}
		},
	})
	level := c.logger.DebugContext
	if result.TotalChecked > 0 {
		level = c.logger.InfoContext
	}
	attrs := []any{
		"total_checked", result.TotalChecked, "marked_success", result.MarkedSuccess,
		"marked_failed", result.MarkedFailed, "marked_retry", result.MarkedRetry, "skipped", result.Skipped,
		"took", time.Since(start).String(),
	}
	if err != nil || !streams.IsTick(msg.Headers()) {
		level(working, "swept", attrs...)
		return err
	}
	previous, _ := streams.SweepPace(msg.Headers())
	// What was skipped is no work: it is there again at every sweep.
	foundWork := result.MarkedSuccess+result.MarkedFailed+result.MarkedRetry > 0
	delay, reason := c.pace.next(previous, foundWork, c.scheduler.Now())
	level(working, "swept", append(attrs, "next_in", delay.String(), "next_reason", string(reason))...)
	if before := c.pace.known(previous); delay != before {
		c.logger.InfoContext(working, "sweep delay changed", "from", before.String(), "to", delay.String(), "reason", string(reason))
	}
	return c.scheduler.scheduleSweep(working, delay, reason)
}

const (
	// pruneInterval is how long after a prune the next one comes.
	pruneInterval = 24 * time.Hour
	// pruneWithin is how long a prune may take, since sweeps wait for it; then it goes on after pruneAgain.
	pruneWithin = 5 * time.Second
	pruneAgain  = 5 * time.Second
	// pruneRetry is how long after one that failed the next one comes. It is not redelivered: sweeps would wait for it.
	pruneRetry = time.Hour
)

// prune deletes old rows, for a while, and schedules the next time.
func (c *Consumer) prune(stopping, working context.Context, msg jetstream.Msg) error {
	start := time.Now()
	result, err := c.reconciler.Prune(working, reconciler.PruneRequest{
		LedgerRetention: c.cfg.LedgerRetention, Within: pruneWithin, Stop: stopping.Done(),
		Progress: func(reconciler.PruneResult) { _ = msg.InProgress() }, // where this is lost, another replica may prune too, which is safe
	})
	after := pruneInterval
	switch {
	case err != nil:
		c.logger.WarnContext(working, "old rows not deleted", "err", err)
		after = pruneRetry
	case result.LedgerEvents+result.ParkedWebhooks > 0:
		c.logger.InfoContext(working, "old rows deleted", "ledger_events", result.LedgerEvents, "parked_webhooks", result.ParkedWebhooks,
			"more", result.More, "took", time.Since(start).String())
	}
	if result.More {
		after = pruneAgain
	}
	return c.scheduler.schedulePrune(working, after)
}

// keepTick makes sure, at the start and now and then, that the streams are there and a sweep and a prune are pending:
// their schedules could be lost.
func (c *Consumer) keepTick(ctx context.Context) error {
	soon := time.Duration(0)
	for {
		wait := c.cfg.SweepInterval
		err := errors.Join(c.cfg.Restore(ctx), c.scheduler.ensureSweep(ctx, soon, c.cfg.SweepInterval), c.scheduler.ensurePrune(ctx))
		if err != nil {
			c.logger.DebugContext(ctx, "no sweep scheduled", "err", err)
			wait = min(wait, apiTimeout)
		} else {
			soon, _ = c.pace.next(0, false, c.scheduler.Now())
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
	}
}
