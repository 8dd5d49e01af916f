package consumer

import "time"

// SetOffset tells the scheduler how far the NATS server's clock is ahead, as a running consumer sees it.
func (s *Scheduler) SetOffset(d time.Duration) { s.offset.Store(int64(d)) }
