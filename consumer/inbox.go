package consumer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"publish-reconciler/reconciler"
	"publish-reconciler/streams"
)

const (
	// inboxFresh is how long a look at the stream of webhooks stands.
	inboxFresh = time.Second
	// inboxTimeout limits a look: while NATS does not answer, every batch of checks waits for one.
	inboxTimeout = 2 * time.Second
)

// Inbox looks for webhooks that are stored and were not delivered to any replica yet. Make one with [NewInbox].
type Inbox struct {
	js jetstream.JetStream

	mu     sync.Mutex
	oldest *time.Time
	err    error
	looked time.Time
}

var _ reconciler.Inbox = (*Inbox)(nil)

// NewInbox returns an inbox that looks at the stream of webhooks.
func NewInbox(js jetstream.JetStream) *Inbox { return &Inbox{js: js} }

// Unread is when the oldest webhook was stored that was not delivered yet; nil when all were. What it says is
// at most a second old.
func (i *Inbox) Unread(ctx context.Context) (*time.Time, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if time.Since(i.looked) > inboxFresh {
		ctx, cancel := context.WithTimeoutCause(ctx, inboxTimeout, fmt.Errorf("no answer from JetStream within %s", inboxTimeout))
		defer cancel()
		i.oldest, i.err = i.look(ctx)
		i.looked = time.Now()
	}
	return i.oldest, i.err
}

func (i *Inbox) look(ctx context.Context) (*time.Time, error) {
	consumer, err := i.js.Consumer(ctx, streams.StreamWebhooks, streams.ConsumerWebhooks)
	if err != nil {
		return nil, fmt.Errorf("look for unread webhooks: %w", err)
	}
	info := consumer.CachedInfo()
	if info.NumPending == 0 {
		return nil, nil
	}
	stream, err := i.js.Stream(ctx, streams.StreamWebhooks)
	if err != nil {
		return nil, fmt.Errorf("look for unread webhooks: %w", err)
	}
	next, err := stream.GetMsg(ctx, info.Delivered.Stream+1, jetstream.WithGetMsgSubject(info.Config.FilterSubject))
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound): // they were deleted meanwhile
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("look for unread webhooks: %w", err)
	}
	return &next.Time, nil
}
