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
	// inHandFor is how long a webhook that was delivered counts as unread until it is acknowledged: a replica
	// that died or stands still has it for the ack wait.
	inHandFor = streams.AckWait + 15*time.Second
	// inboxTimeout limits a look: while NATS does not answer, every batch of checks waits for one.
	inboxTimeout = 2 * time.Second
)

// Inbox looks for webhooks that are stored and were not read by any replica yet. Make one with [NewInbox].
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

// Unread is when the oldest webhook was stored that was not read yet; nil when all were. What it says is
// at most a second old.
func (i *Inbox) Unread(ctx context.Context) (*time.Time, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if time.Since(i.looked) > inboxFresh {
		ctx, cancel := context.WithTimeoutCause(ctx, inboxTimeout, fmt.Errorf("no answer from JetStream within %s", inboxTimeout))
		defer cancel()
		i.oldest, i.err = i.look(ctx)
		if i.err != nil {
			i.err = fmt.Errorf("look for unread webhooks: %w", i.err)
		}
		i.looked = time.Now()
	}
	return i.oldest, i.err
}

func (i *Inbox) look(ctx context.Context) (*time.Time, error) {
	consumer, err := i.js.Consumer(ctx, streams.StreamWebhooks, streams.ConsumerWebhooks)
	if err != nil {
		return nil, err
	}
	info := consumer.CachedInfo()
	if info.NumAckPending > 0 {
		oldest, err := i.next(ctx, info, info.AckFloor.Stream+1)
		if err != nil {
			return nil, err
		}
		// What is older comes again and again, for a row that is held, and must not hold up all others.
		if oldest != nil && info.TimeStamp.Sub(*oldest) < inHandFor {
			return oldest, nil
		}
	}
	if info.NumPending == 0 {
		return nil, nil
	}
	return i.next(ctx, info, info.Delivered.Stream+1)
}

// next is when the first webhook at or behind a sequence was stored; nil when there is none.
func (i *Inbox) next(ctx context.Context, info *jetstream.ConsumerInfo, sequence uint64) (*time.Time, error) {
	stream, err := i.js.Stream(ctx, streams.StreamWebhooks)
	if err != nil {
		return nil, err
	}
	msg, err := stream.GetMsg(ctx, sequence, jetstream.WithGetMsgSubject(info.Config.FilterSubject))
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound): // deleted meanwhile
		return nil, nil
	case err != nil:
		return nil, err
	}
	return &msg.Time, nil
}
