package metrics

import (
	"context"
	"time"

	"github.com/google/uuid"

	"publish-reconciler/consumer"
	"publish-reconciler/reconciler"
	"publish-reconciler/streams"
)

var (
	_ reconciler.Observer = (*Metrics)(nil)
	_ consumer.Observer   = (*Metrics)(nil)
)

// Committed counts what became of logs.
func (m *Metrics) Committed(observations []reconciler.Observation) {
	now := m.cfg.Now()
	for _, seen := range observations {
		platform := m.platforms.label(seen.Platform)
		m.outcomes.WithLabelValues(platform, string(seen.Result), string(seen.Reason), string(seen.Trigger)).Inc()
		if seen.LogID != uuid.Nil {
			m.checked.WithLabelValues(string(seen.Trigger)).Inc()
		}
		if seen.Reason == reconciler.ReasonWebhookLate && seen.Result == reconciler.ResultSuccess {
			m.late.WithLabelValues(platform).Inc()
		}
		// An older one was not stamped by the stream: a log may have its time from another program.
		if wait := now.Sub(seen.ConfirmedAt); !seen.ConfirmedAt.IsZero() && wait <= reconciler.ParkedRetention {
			m.confirmation.WithLabelValues(platform).Observe(seconds(wait))
		}
	}
}

// Batch measures a batch.
func (m *Metrics) Batch(consumer string, messages int) {
	m.batch.WithLabelValues(consumer).Observe(float64(messages))
}

// Decided measures how long a message took.
func (m *Metrics) Decided(kind streams.Kind, after time.Duration) {
	m.delay.WithLabelValues(string(kind)).Observe(seconds(after))
}

// seconds is never less than nothing, which clocks that differ by a little could make of a moment.
func seconds(d time.Duration) float64 { return max(d, 0).Seconds() }

// Reconciler is a reconciler whose sweeps are measured.
type Reconciler struct {
	*reconciler.Reconciler
	metrics *Metrics
}

// Reconciler measures r, through what it returns and through what r tells.
func (m *Metrics) Reconciler(r *reconciler.Reconciler) Reconciler {
	r.Observe(m)
	return Reconciler{r, m}
}

// Sweep is the reconciler's.
func (r Reconciler) Sweep(ctx context.Context, request reconciler.SweepRequest) (reconciler.SweepResult, error) {
	start := time.Now()
	result, err := r.Reconciler.Sweep(ctx, request)
	for outcome, n := range map[reconciler.Result]int{
		reconciler.ResultSuccess: result.MarkedSuccess,
		reconciler.ResultFailed:  result.MarkedFailed,
		reconciler.ResultRetry:   result.MarkedRetry,
		reconciler.ResultSkipped: result.Skipped,
	} {
		r.metrics.findings.WithLabelValues(string(outcome)).Add(float64(n))
	}
	if err == nil {
		r.metrics.sweep.WithLabelValues(string(request.Trigger)).Observe(time.Since(start).Seconds())
		if request.Trigger == reconciler.TriggerSweep { // one that was asked for says nothing of the tick
			r.metrics.lastSweep.set(time.Now())
		}
	}
	return result, err
}

// Outbox is an outbox of which is counted what leaves it.
type Outbox struct {
	consumer.Outbox
	metrics *Metrics
}

// Outbox counts what leaves o, through what it returns.
func (m *Metrics) Outbox(o consumer.Outbox) Outbox { return Outbox{o, m} }

// DrainOutbox is the outbox's. It counts once it is committed that the events are told.
func (o Outbox) DrainOutbox(ctx context.Context, limit int, tell reconciler.Tell) (more bool, err error) {
	told := 0
	more, err = o.Outbox.DrainOutbox(ctx, limit, func(ctx context.Context, after uint64, events []reconciler.OutboxEvent) (reconciler.Told, error) {
		found, err := tell(ctx, after, events)
		stands := make(map[uuid.UUID]bool, len(found.Events))
		for _, id := range found.Events {
			stands[id] = true
		}
		told = 0
		for _, event := range events {
			if stands[event.ID] {
				told++
			}
		}
		return found, err
	})
	if err == nil {
		o.metrics.relayed.Add(float64(told))
	}
	return more, err
}
