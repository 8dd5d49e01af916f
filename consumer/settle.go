package consumer

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"publish-reconciler/streams"
)

// verdict is what becomes of a message.
type verdict struct {
	kind   verdictKind
	delay  time.Duration  // of later; zero: at once
	reason streams.Reason // of never
	cause  error          // of never
}

type verdictKind int

const (
	later verdictKind = iota // it comes again
	done
	never // it can't be processed, and goes to the dead letters
)

// comesAgain is when a message comes again whose log another transaction holds, or for which JetStream did
// not store what it led to: at once would be a hot loop, for as long as that lasts.
const comesAgain = 5 * time.Second

func dead(reason streams.Reason, cause error) verdict {
	return verdict{kind: never, reason: reason, cause: cause}
}

// settle ends the message's stay with us. It alone acknowledges, hands back and terminates. What fails
// here is not told: JetStream brings the message again after its ack wait, and doing it twice changes nothing.
func (c *Consumer) settle(ctx context.Context, msg jetstream.Msg, kind streams.Kind, v verdict) {
	var err error
	switch v.kind {
	case done:
		err = msg.Ack()
	case later:
		err = msg.NakWithDelay(v.delay)
	case never:
		if err = c.bury(ctx, msg, kind, v); err != nil {
			c.logger.WarnContext(ctx, "dead letter not stored, the message comes again",
				"kind", string(kind), "subject", msg.Subject(), "reason", string(v.reason), "err", err)
			err = msg.NakWithDelay(comesAgain)
		}
	}
	if err != nil {
		c.logger.DebugContext(ctx, "message not settled, it comes again", "subject", msg.Subject(), "err", err)
	}
}

// bury terminates a message once its dead letter is stored.
func (c *Consumer) bury(ctx context.Context, msg jetstream.Msg, kind streams.Kind, v verdict) error {
	origin, err := msg.Metadata()
	if err != nil {
		return fmt.Errorf("read metadata: %w", err)
	}
	letter := streams.DeadLetter(kind, msg, origin, v.reason, v.cause, c.js.Conn().MaxPayload())
	if _, err := c.js.PublishMsg(ctx, letter); err != nil {
		return fmt.Errorf("publish dead letter: %w", err)
	}
	return msg.TermWithReason(string(v.reason))
}
