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

// Now is the NATS server's clock, as a running [Consumer] has seen it last.
func (s *Scheduler) Now() time.Time {
	return time.Now().Add(time.Duration(s.offset.Load()))
}

// ScheduleChecks returns once all of the schedules are stored. A log has one pending check: the new one
// takes its place.
func (s *Scheduler) ScheduleChecks(ctx context.Context, checks []reconciler.Recheck) error {
	now := s.Now()
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
func (s *Scheduler) scheduleSweep(ctx context.Context, after time.Duration, reason SweepReason) error {
	return publish(ctx, s.js, []*nats.Msg{streams.SweepSchedule(s.Now().Add(after), after, string(reason))})
}

// ensureSweep makes sure that a tick is pending, not later than atMost from now, or has fired and waits to be
// swept, and sees what time the NATS server has. A tick that is missing fires after the given delay.
func (s *Scheduler) ensureSweep(ctx context.Context, delay, atMost time.Duration) error {
	tick, fired, err := s.tick(ctx)
	switch {
	case err != nil:
		return err
	case fired:
		return nil // its end schedules the next; another one would wait behind it
	case tick == nil:
		return s.scheduleSweep(ctx, delay, SweepRestored)
	}
	if at, ok := streams.ScheduledAt(tick.Header); !ok || at.After(s.Now().Add(atMost)) {
		return s.scheduleSweep(ctx, atMost, SweepRestored)
	}
	return nil
}

// schedulePrune has the next prune come after the given delay; it takes the place of the one pending.
func (s *Scheduler) schedulePrune(ctx context.Context, after time.Duration) error {
	return publish(ctx, s.js, []*nats.Msg{streams.PruneSchedule(s.Now().Add(after))})
}

// ensurePrune makes sure that a prune is pending. One that is under way schedules the next itself.
func (s *Scheduler) ensurePrune(ctx context.Context) error {
	stream, err := s.js.Stream(ctx, streams.StreamChecks)
	if err != nil {
		return fmt.Errorf("look for the pending prune: %w", err)
	}
	pending, err := stream.GetLastMsgForSubject(ctx, streams.SubjectSchedulePrune)
	if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
		return fmt.Errorf("look for the pending prune: %w", err)
	}
	if err == nil {
		if at, ok := streams.ScheduledAt(pending.Header); ok && !at.After(s.Now().Add(pruneInterval)) {
			return nil
		}
	}
	return s.schedulePrune(ctx, pruneInterval)
}

// NextSweep is when the next sweep comes by itself, and why then. Its zero value: none is pending.
type NextSweep struct {
	// At is by the NATS server's clock. Zero while a sweep runs.
	At time.Time `json:"at,omitzero"`
	// Delay is what lies between the end of the sweep before it and At.
	Delay SweepDelay `json:"delay"`
	// Reason is why Delay was chosen.
	Reason SweepReason `json:"reason"`
	// Running: the sweep was due and is under way, or waits for one that was asked for by hand. The one
	// after it is chosen at its end.
	Running bool `json:"running"`
}

// SweepDelay is a duration whose JSON is as a person would type it, such as "30s".
type SweepDelay time.Duration

// String is a Go duration, such as 1m0s.
func (d SweepDelay) String() string { return time.Duration(d).String() }

// MarshalText writes what String returns.
func (d SweepDelay) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads a Go duration.
func (d *SweepDelay) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	*d = SweepDelay(parsed)
	return err
}

// NextSweep asks the stream which sweep comes next.
func (s *Scheduler) NextSweep(ctx context.Context) (NextSweep, error) {
	tick, fired, err := s.tick(ctx)
	if err != nil || tick == nil {
		return NextSweep{}, err
	}
	delay, reason := streams.SweepPace(tick.Header)
	next := NextSweep{Delay: SweepDelay(delay), Reason: SweepReason(reason), Running: fired}
	if !fired {
		next.At, _ = streams.ScheduledAt(tick.Header)
	}
	return next, nil
}

// maxWaitingSweeps is among how many sweeps that wait the tick is looked for. More are not asked for by hand.
const maxWaitingSweeps = 100

// tick is the one that is pending or, where there is none, has fired and is not swept yet; nil where there is
// neither. It also sees what time the NATS server has.
func (s *Scheduler) tick(ctx context.Context) (tick *jetstream.RawStreamMsg, fired bool, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("look for the pending sweep: %w", err)
		}
	}()
	stream, err := s.js.Stream(ctx, streams.StreamChecks)
	if err != nil {
		return nil, false, err
	}
	s.offset.Store(int64(time.Until(stream.CachedInfo().TimeStamp)))
	pending, err := stream.GetLastMsgForSubject(ctx, streams.SubjectScheduleSweep)
	if !errors.Is(err, jetstream.ErrMsgNotFound) {
		return pending, false, err
	}
	sequence := uint64(1)
	for range maxWaitingSweeps {
		waiting, err := stream.GetMsg(ctx, sequence, jetstream.WithGetMsgSubject(streams.SubjectSweep))
		switch {
		case errors.Is(err, jetstream.ErrMsgNotFound):
			return nil, false, nil
		case err != nil:
			return nil, false, err
		case streams.IsTick(waiting.Header):
			return waiting, true, nil
		}
		sequence = waiting.Sequence + 1
	}
	return nil, false, nil
}
