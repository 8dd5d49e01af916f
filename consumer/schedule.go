package consumer

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"publish-reconciler/reconciler"
	"publish-reconciler/streams"
)

// skewTolerance is by how much two clocks may differ and count as the same. Within it a check that comes
// too early is scheduled again, at JetStream's shortest delay of 250 ms.
const skewTolerance = time.Second

// Scheduler has messages delivered later, by JetStream's message schedules. These go by the NATS server's
// clock, deadlines by the database's, and the service's own clock may differ from both: a check is moved by
// the difference, so that a clock that is off neither delays it nor makes it spin.
type Scheduler struct {
	js jetstream.JetStream
	// offset is how far the NATS server's clock is ahead of ours, in nanoseconds, as last seen.
	offset atomic.Int64
}

var _ reconciler.Scheduler = (*Scheduler)(nil)

// NewScheduler returns a scheduler that takes the NATS server's clock for ours until a [Consumer] runs.
func NewScheduler(js jetstream.JetStream) *Scheduler { return &Scheduler{js: js} }

func (s *Scheduler) now() time.Time {
	return time.Now().Add(time.Duration(s.offset.Load()))
}

// ScheduleChecks returns once all of the schedules are stored. A log has one pending check: the new one
// takes its place.
func (s *Scheduler) ScheduleChecks(ctx context.Context, checks []reconciler.Recheck) error {
	now := s.now()
	msgs := make([]*nats.Msg, len(checks))
	for i, check := range checks {
		skew := now.Sub(check.Now)
		if skew.Abs() < skewTolerance {
			skew = 0
		}
		msgs[i] = streams.CheckSchedule(streams.Check{LogID: check.LogID, Timeout: check.Timeout}, check.At.Add(skew))
	}
	return publish(ctx, s.js, msgs)
}

// scheduleSweep has the next tick fire after the given delay; it takes the place of the one pending.
func (s *Scheduler) scheduleSweep(ctx context.Context, after time.Duration) error {
	return publish(ctx, s.js, []*nats.Msg{streams.SweepSchedule(s.now().Add(after))})
}

// ensureSweep makes sure that a tick is pending, not later than atMost from now, or has fired and waits to be
// swept, and sees what time the NATS server has. A tick that is missing fires after the given delay.
func (s *Scheduler) ensureSweep(ctx context.Context, delay, atMost time.Duration) error {
	stream, err := s.js.Stream(ctx, streams.StreamChecks)
	if err != nil {
		return fmt.Errorf("look for the pending sweep: %w", err)
	}
	s.offset.Store(int64(time.Until(stream.CachedInfo().TimeStamp)))
	pending, err := stream.GetLastMsgForSubject(ctx, streams.SubjectScheduleSweep)
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		if fired, err := stream.GetLastMsgForSubject(ctx, streams.SubjectSweep); err == nil && streams.IsTick(fired.Header) {
			return nil // its end schedules the next; another one would wait behind it
		}
		return s.scheduleSweep(ctx, delay)
	case err != nil:
		return fmt.Errorf("look for the pending sweep: %w", err)
	}
	if at, ok := streams.ScheduledAt(pending.Header); !ok || at.After(s.now().Add(atMost)) {
		return s.scheduleSweep(ctx, atMost)
	}
	return nil
}
