package consumer

import (
	"context"
	"time"
)

// SetOffset tells the scheduler how far the NATS server's clock is ahead, as a running consumer sees it.
func (s *Scheduler) SetOffset(d time.Duration) { s.offset.Store(int64(d)) }

// EnsureSweep makes sure that a tick is pending, as a running consumer does now and then.
func (s *Scheduler) EnsureSweep(ctx context.Context, delay, atMost time.Duration) error {
	return s.ensureSweep(ctx, delay, atMost)
}

// NextDelay is what follows a sweep, by these settings.
func NextDelay(least, most time.Duration, peak PeakHours, previous time.Duration, foundWork bool, now time.Time) (time.Duration, SweepReason) {
	return pace{least: least, most: most, peak: peak}.next(previous, foundWork, now)
}
