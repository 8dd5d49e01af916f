package reconciler

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/google/uuid"
)

// Observer is told what was done.
type Observer interface {
	// Committed is told what became of logs in a transaction, once it is committed, and what would have become of those
	// that the database refused. It is called by several goroutines at once, must not wait, and must not keep what it is
	// given.
	Committed(observations []Observation)
}

// Observation is what became of one log when it was looked at, or of a webhook that has none.
type Observation struct {
	LogID    uuid.UUID // zero where there is none
	Platform string
	Result   Result
	Reason   Reason // empty for what was parked
	Trigger  Trigger
	// ConfirmedAt is when the webhook was received that made the log a success; zero where none did, or where that
	// is not known.
	ConfirmedAt time.Time
}

// Result says in one word what became of a log, or of a webhook.
type Result string

// The results.
const (
	ResultSuccess Result = "success"
	ResultFailed  Result = "failed"
	ResultRetry   Result = "retry"
	// ResultSkipped: it stays open past its deadline, or because its evidence is unclear. It is told at every look.
	ResultSkipped Result = "skipped"
	// ResultUnchanged: there was nothing to do, yet or any more.
	ResultUnchanged Result = "unchanged"
	// ResultParked: the webhook's log is not there.
	ResultParked Result = "parked"
	// ResultRefused: the database refused what was decided, for the reason that is told, and nothing was done.
	ResultRefused Result = "refused"
)

// Observe has the observer told of everything from now on. It is called before the reconciler is used.
func (r *Reconciler) Observe(o Observer) { r.observer = o }

// observe keeps what a decision came to, until it is committed.
func (d *draft) observe(decision Decision, trigger Trigger) {
	seen := Observation{
		LogID: d.log.ID, Platform: d.log.Post.Platform, Result: ResultUnchanged, Reason: decision.Reason, Trigger: trigger,
	}
	switch {
	case decision.Action != "":
		seen.Result = Result(decision.Action.status())
		if decision.Reason == ReasonWebhookConfirmed || decision.Reason == ReasonWebhookLate {
			seen.ConfirmedAt = decision.Evidence.ReceivedAt
		}
	case decision.Skipped:
		seen.Result = ResultSkipped
	}
	d.observations = append(d.observations, seen)
}

// commit does the transaction of some requests and tells what it did. What is refused is told where the request stands
// alone: of several, the others are done again without it.
func (r *Reconciler) commit(ctx context.Context, keys Keys, requests int, decide func(Locked) Changes) error {
	var observations []Observation
	err := r.store.Transact(ctx, keys, func(locked Locked) Changes {
		changes := decide(locked)
		observations = changes.observations
		return changes
	})
	if errors.Is(err, ErrRefused) && requests == 1 && r.observer != nil {
		for i := range observations {
			observations[i].Result, observations[i].ConfirmedAt = ResultRefused, time.Time{}
		}
		r.observer.Committed(observations)
	}
	if err != nil || len(observations) == 0 {
		return err
	}
	if r.observer != nil {
		r.observer.Committed(observations)
	}
	if r.logger.Enabled(ctx, slog.LevelDebug) {
		for _, seen := range observations {
			if seen.Result != ResultUnchanged && seen.Result != ResultParked {
				r.logger.DebugContext(ctx, "log decided", "log_id", seen.LogID, "platform", seen.Platform,
					"result", string(seen.Result), "reason", string(seen.Reason), "trigger", string(seen.Trigger))
			}
		}
	}
	return nil
}
