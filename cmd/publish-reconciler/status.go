package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"publish-reconciler/consumer"
	"publish-reconciler/reconciler"
	"publish-reconciler/repo"
	"publish-reconciler/streams"
)

// partOK is what a part says of itself that works.
const partOK = "ok"

// statusAnswer has null where the part that knows is away, or takes too long to tell.
type statusAnswer struct {
	// Ready says of each part "ok", or what is wrong.
	Ready     map[string]string `json:"ready"`
	Platforms []platformStatus  `json:"platforms"`
	// Holds are the platforms whose logs are held.
	Holds []reconciler.Hold `json:"holds"`
	// Parked and Outbox count what waits in Postgres; the oldest of it is null too where there is none.
	Parked       *int                `json:"parked_webhooks"`
	OldestParked *time.Time          `json:"oldest_parked_webhook"`
	Dead         *uint64             `json:"dead_letters"`
	Outbox       *int                `json:"outbox_events"`
	OldestOutbox *time.Time          `json:"oldest_outbox_event"`
	Consumers    []consumerStatus    `json:"consumers"`
	Rates        rates               `json:"rates"`
	NextSweep    *consumer.NextSweep `json:"next_sweep"`
	// Time is the database's.
	Time    *time.Time `json:"time"`
	Version string     `json:"version"`
}

// platformStatus is what is open on a platform, and the patience with it.
type platformStatus struct {
	repo.Backlog
	TimeoutMinutes float64 `json:"timeout_minutes"`
}

// consumerStatus is what lies before a durable consumer, of all replicas together.
type consumerStatus struct {
	Name string `json:"name"`
	// Pending counts the messages that nobody has in hand, InHand those that somebody has, and Redelivered those of
	// them that were delivered before.
	Pending     uint64 `json:"pending"`
	InHand      int    `json:"in_hand"`
	Redelivered int    `json:"redelivered"`
}

// rates is how fast logs change. What takes the ledger too long to count is null.
type rates struct {
	Minute *perMinute `json:"last_minute"`
	Hour   *perMinute `json:"last_hour"`
}

// perMinute counts the logs that changed in a minute, on average. [repo.Activity] says what each of them is.
type perMinute struct {
	Confirmed float64 `json:"confirmed"`
	TimedOut  float64 `json:"timed_out"`
	Rejected  float64 `json:"rejected"`
	Retried   float64 `json:"retried"`
	Late      float64 `json:"late"`
}

func (o *operator) status(ctx context.Context, _ params) (any, error) {
	answer := o.standing(ctx)
	if answer.Time != nil {
		answer.Rates = o.rates(ctx, *answer.Time)
	}
	return answer, nil
}

// standing is the status without its rates.
func (o *operator) standing(ctx context.Context) statusAnswer {
	answer := statusAnswer{Version: version()}
	answer.Ready, _ = o.ready(ctx)
	for part, count := range map[string]func(context.Context, *statusAnswer) error{"postgres": o.countRows, "nats": o.countMessages} {
		if answer.Ready[part] != partOK {
			continue
		}
		if err := count(ctx, &answer); err != nil {
			answer.Ready[part] = err.Error()
		}
	}
	return answer
}

// countTimeout limits each counting of rows. A million open logs take a second where Postgres has other things to do.
const countTimeout = 4 * time.Second

func (o *operator) countRows(ctx context.Context, answer *statusAnswer) error {
	now, err := o.store.Now(ctx)
	if err != nil {
		return err
	}
	now = now.UTC()
	answer.Time = &now
	counts := []func(context.Context, *statusAnswer) error{o.countOpen, o.listHolds, o.countWaiting}
	errs := make([]error, len(counts))
	var counting sync.WaitGroup
	for i, count := range counts {
		counting.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, countTimeout)
			defer cancel()
			// What takes too long, or is locked, stays unknown: Postgres is ready all the same.
			if err := count(ctx, answer); !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, reconciler.ErrLocked) {
				errs[i] = err
			}
		})
	}
	counting.Wait()
	return errors.Join(errs...)
}

func (o *operator) countOpen(ctx context.Context, answer *statusAnswer) error {
	backlogs, err := o.store.Backlogs(ctx, o.cfg.policy.DefaultTimeout, o.cfg.policy.Timeouts, o.cfg.policy.HoldMax > 0)
	if err != nil {
		return err
	}
	answer.Platforms = make([]platformStatus, len(backlogs))
	for i, backlog := range backlogs {
		answer.Platforms[i] = platformStatus{backlog, o.cfg.policy.Timeout(backlog.Platform).Minutes()}
	}
	return nil
}

func (o *operator) listHolds(ctx context.Context, answer *statusAnswer) (err error) {
	if o.cfg.policy.HoldMax == 0 {
		answer.Holds = []reconciler.Hold{}
		return nil
	}
	answer.Holds, err = o.store.Holds(ctx)
	return err
}

func (o *operator) countWaiting(ctx context.Context, answer *statusAnswer) error {
	waiting, err := o.store.Waiting(ctx)
	if err != nil {
		return err
	}
	answer.Parked, answer.OldestParked = &waiting.Parked, waiting.OldestParked
	answer.Outbox, answer.OldestOutbox = &waiting.Outbox, waiting.OldestOutbox
	return nil
}

func (o *operator) countMessages(ctx context.Context, answer *statusAnswer) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	dead, err := o.js.Stream(ctx, streams.StreamDead)
	if err != nil {
		return fmt.Errorf("count the dead letters: %w", err)
	}
	answer.Dead = &dead.CachedInfo().State.Msgs
	consumers := make([]consumerStatus, 0, len(streams.Consumers()))
	for _, c := range streams.Consumers() {
		found, err := o.js.Consumer(ctx, c.Stream, c.Config.Durable)
		if err != nil {
			return fmt.Errorf("look at consumer %s: %w", c.Config.Durable, err)
		}
		info := found.CachedInfo()
		consumers = append(consumers, consumerStatus{c.Config.Durable, info.NumPending, info.NumAckPending, info.NumRedelivered})
	}
	answer.Consumers = consumers
	next, err := o.scheduler.NextSweep(ctx)
	if err == nil {
		answer.NextSweep = &next
	}
	return err
}

// hourlyFor is how long the rates of an hour are told before they are counted again: they hardly change, and
// whoever watches asks every two seconds.
const hourlyFor = 15 * time.Second

// hourly remembers the rates of the last hour. Its zero value remembers nothing.
type hourly struct {
	counting sync.Mutex // held by the one who counts them again
	last     atomic.Pointer[hour]
}

// hour is what was counted once.
type hour struct {
	counted time.Time // the database's
	rates   *perMinute
}

// rates counts what the ledger tells of the last minute, and of the last hour. While somebody else counts the hour, what
// was counted before is told.
func (o *operator) rates(ctx context.Context, now time.Time) rates {
	answer := rates{Minute: o.rate(ctx, now, time.Minute)}
	last := o.hourly.last.Load()
	if last != nil {
		answer.Hour = last.rates
	}
	if last != nil && now.Sub(last.counted).Abs() < hourlyFor || !o.hourly.counting.TryLock() {
		return answer
	}
	defer o.hourly.counting.Unlock()
	answer.Hour = o.rate(ctx, now, time.Hour)
	if ctx.Err() == nil { // else it is whoever asked that gave up
		o.hourly.last.Store(&hour{now, answer.Hour})
	}
	return answer
}

// rate is nil where counting took too long: some million changes.
func (o *operator) rate(ctx context.Context, now time.Time, within time.Duration) *perMinute {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	activity, err := o.store.Activity(ctx, now.Add(-within), within)
	if err != nil {
		if !errors.Is(err, context.DeadlineExceeded) {
			o.logger.DebugContext(ctx, "rates not counted", "err", err)
		}
		return nil
	}
	var sum perMinute
	for _, a := range activity {
		for count, n := range map[*float64]int{
			&sum.Confirmed: a.Confirmed, &sum.TimedOut: a.TimedOut, &sum.Rejected: a.Rejected, &sum.Retried: a.Retried, &sum.Late: a.Late,
		} {
			*count += float64(n) / within.Minutes()
		}
	}
	return &sum
}

// ready tells of Postgres, NATS and the consumers whether they work: "ok", or what is wrong.
func (o *operator) ready(ctx context.Context) (parts map[string]string, all bool) {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	_, postgres := o.store.Now(ctx)
	parts, all = map[string]string{}, true
	for name, err := range map[string]error{"postgres": postgres, "nats": o.connected(), "consumers": o.consumer.Ready()} {
		parts[name] = partOK
		if err != nil {
			parts[name], all = err.Error(), false
		}
	}
	return parts, all
}
