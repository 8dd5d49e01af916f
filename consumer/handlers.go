package consumer

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"publish-reconciler/reconciler"
	"publish-reconciler/streams"
)

// webhooks are a batch of webhooks. They are about posts.
func (c *Consumer) webhooks(msgs []jetstream.Msg) job {
	return prepare(c, streams.KindWebhook, msgs, decodeWebhook, func(w reconciler.Webhook) any { return w.Post }, c.reconciler.Webhooks, nil)
}

// checks are a batch of checks. They are about logs.
func (c *Consumer) checks(msgs []jetstream.Msg) job {
	return prepare(c, streams.KindCheck, msgs, decodeCheck, func(check reconciler.Check) any { return check.LogID }, c.reconciler.Checks, c.notFound)
}

func decodeWebhook(msg jetstream.Msg, metadata *jetstream.MsgMetadata) (reconciler.Webhook, error) {
	webhook, err := streams.DecodeWebhook(msg.Subject(), msg.Data())
	if err != nil {
		return reconciler.Webhook{}, err
	}
	return reconciler.Webhook{
		Post:       reconciler.Post{Platform: webhook.Platform, ExternalPostID: webhook.ExternalPostID},
		Fields:     reconciler.Storable(webhook.Fields),
		ReceivedAt: streams.FirstStored(msg, metadata),
	}, nil
}

func decodeCheck(msg jetstream.Msg, _ *jetstream.MsgMetadata) (reconciler.Check, error) {
	check, err := streams.DecodeCheck(msg.Subject(), msg.Data())
	return reconciler.Check(check), err
}

// prepare decodes a batch; the job has it reconciled, and settles every message by its outcome. About is what a
// request is about. NotFound says what becomes of a message whose log is not there.
func prepare[T any](
	c *Consumer, kind streams.Kind, msgs []jetstream.Msg,
	decode func(jetstream.Msg, *jetstream.MsgMetadata) (T, error), about func(T) any,
	reconcile func(context.Context, []T) ([]reconciler.Outcome, error),
	notFound func(context.Context, jetstream.Msg, T) verdict,
) job {
	start := time.Now()
	requests := make([]T, 0, len(msgs))
	understood := make([]jetstream.Msg, 0, len(msgs))
	stored := make([]time.Time, 0, len(msgs))
	keys := make(map[any]bool, len(msgs))
	var broken []jetstream.Msg
	var causes []error
	for _, msg := range msgs {
		metadata, err := msg.Metadata()
		var request T
		if err == nil {
			request, err = decode(msg, metadata)
		}
		if err != nil {
			broken, causes = append(broken, msg), append(causes, err)
			continue
		}
		requests = append(requests, request)
		understood = append(understood, msg)
		stored = append(stored, metadata.Timestamp)
		keys[about(request)] = true
	}
	return job{keys, func(_, working context.Context) error {
		outcomes, err := reconcile(working, requests)
		decided := c.scheduler.Now()
		for i, outcome := range outcomes {
			v := verdict{kind: later}
			switch outcome.Kind {
			case reconciler.Done:
				v.kind = done
				c.cfg.Observer.Decided(kind, decided.Sub(stored[i]))
			case reconciler.NotFound:
				v = notFound(working, understood[i], requests[i])
			case reconciler.Held:
				v.delay = comesAgain
			case reconciler.Rejected:
				v = dead(streams.ReasonRefused, outcome.Err)
			case reconciler.Later:
			}
			c.settle(working, understood[i], kind, v)
		}
		for i, msg := range broken { // after the others, who must not wait for dead letters
			c.settle(working, msg, kind, undecodable(causes[i]))
		}
		c.logger.DebugContext(working, "batch reconciled", "kind", string(kind), "messages", len(msgs), "took", time.Since(start).String())
		return err
	}}
}

// undecodable is never "later": another try would end the same way.
func undecodable(err error) verdict {
	if decodeErr, ok := errors.AsType[*streams.DecodeError](err); ok {
		return dead(decodeErr.Reason, err)
	}
	return verdict{kind: later}
}

// notFoundDelays are how long a check waits for its log each time, about 30 s in all: the publisher's
// transaction may still be open.
var notFoundDelays = []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 15 * time.Second}

// notFound has the check of an unknown log come again, by a schedule: a delayed nak would hold one of the
// consumer's places until then.
func (c *Consumer) notFound(ctx context.Context, msg jetstream.Msg, check reconciler.Check) verdict {
	tries, err := strconv.Atoi(msg.Headers().Get(streams.HeaderTries))
	if err != nil || tries < 0 {
		tries = 0
	}
	if tries >= len(notFoundDelays) {
		return dead(streams.ReasonLogNotFound, fmt.Errorf("no log %s in publish_logs, %d times within 30s", check.LogID, tries+1))
	}
	origin, err := msg.Metadata()
	if err != nil {
		return verdict{kind: later}
	}
	again := streams.RetrySchedule(check.LogID, msg, origin, tries+1, c.scheduler.Now().Add(notFoundDelays[tries]))
	if err := publish(ctx, c.js, []*nats.Msg{again}); err != nil {
		c.logger.WarnContext(ctx, "check of an unknown log not scheduled, it comes again",
			"log_id", check.LogID, "trigger", string(reconciler.TriggerCheck), "err", err)
		return verdict{kind: later, delay: comesAgain}
	}
	return verdict{kind: done}
}
