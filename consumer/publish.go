package consumer

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// apiTimeout limits one answer of JetStream, as nats.go does by default.
const apiTimeout = 5 * time.Second

// publish returns once all of the messages are stored. Several are on the way at once.
func publish(ctx context.Context, js jetstream.JetStream, msgs []*nats.Msg) error {
	_, err := publishAcked(ctx, js, msgs)
	return err
}

// publishAcked is publish with JetStream's answer to each message.
func publishAcked(ctx context.Context, js jetstream.JetStream, msgs []*nats.Msg) ([]*jetstream.PubAck, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, apiTimeout, fmt.Errorf("no answer from JetStream within %s", apiTimeout))
	defer cancel()
	futures := make([]jetstream.PubAckFuture, len(msgs))
	for i, msg := range msgs {
		future, err := js.PublishMsgAsync(msg)
		if err != nil {
			return nil, fmt.Errorf("publish %s: %w", msg.Subject, err)
		}
		futures[i] = future
	}
	acks := make([]*jetstream.PubAck, len(msgs))
	for i, future := range futures {
		select {
		case acks[i] = <-future.Ok():
		case err := <-future.Err():
			return nil, fmt.Errorf("publish %s: %w", future.Msg().Subject, err)
		case <-ctx.Done():
			return nil, fmt.Errorf("publish %s: %w", future.Msg().Subject, context.Cause(ctx))
		}
	}
	return acks, nil
}
