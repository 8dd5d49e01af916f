package consumer

import "time"

// SetOffset tells the scheduler how far the NATS server's clock is ahead, as a running consumer sees it.
func (s *Scheduler) SetOffset(d time.Duration) { s.offset.Store(int64(d)) }

// NextDelay is what follows a sweep, by these settings.
func NextDelay(least, most time.Duration, peak PeakHours, previous time.Duration, foundWork bool, now time.Time) (time.Duration, SweepReason) {
	return pace{least: least, most: most, peak: peak}.next(previous, foundWork, now)
}
