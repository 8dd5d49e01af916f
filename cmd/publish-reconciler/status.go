package main

import (
	"context"
	"fmt"

	"publish-reconciler/consumer"
	"publish-reconciler/reconciler"
	"publish-reconciler/repo"
	"publish-reconciler/streams"
)

// partOK is what a part says of itself that works.
const partOK = "ok"

// statusAnswer has null where the part that knows is away.
type statusAnswer struct {
	// Ready says of each part "ok", or what is wrong.
	Ready     map[string]string `json:"ready"`
	Platforms []repo.Backlog    `json:"platforms"`
	// Holds are the platforms whose logs are held.
	Holds     []reconciler.Hold   `json:"holds"`
	Parked    *int                `json:"parked_webhooks"`
	Dead      *uint64             `json:"dead_letters"`
	NextSweep *consumer.NextSweep `json:"next_sweep"`
	Version   string              `json:"version"`
}

func (o *operator) status(ctx context.Context, _ params) (any, error) {
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
	return answer, nil
}

func (o *operator) countRows(ctx context.Context, answer *statusAnswer) (err error) {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if answer.Platforms, err = o.store.Backlogs(ctx, o.cfg.policy.DefaultTimeout, o.cfg.policy.Timeouts); err != nil {
		return err
	}
	if answer.Holds = []reconciler.Hold{}; o.cfg.policy.HoldMax > 0 {
		if answer.Holds, err = o.store.Holds(ctx); err != nil {
			return err
		}
	}
	parked, err := o.store.CountParked(ctx)
	if err == nil {
		answer.Parked = &parked
	}
	return err
}

func (o *operator) countMessages(ctx context.Context, answer *statusAnswer) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	dead, err := o.js.Stream(ctx, streams.StreamDead)
	if err != nil {
		return fmt.Errorf("count the dead letters: %w", err)
	}
	answer.Dead = &dead.CachedInfo().State.Msgs
	next, err := o.scheduler.NextSweep(ctx)
	if err == nil {
		answer.NextSweep = &next
	}
	return err
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
