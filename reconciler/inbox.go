package reconciler

import (
	"context"
	"time"
)

// Inbox tells of webhooks that are stored and not read yet: silence says nothing while a log's may be among them.
type Inbox interface {
	// Unread is when the oldest of them was stored; nil when all are read. An error means that it can't be said.
	Unread(ctx context.Context) (*time.Time, error)
}

// unread is when the oldest webhook was stored that nobody has read yet; nil when there is none, and the zero
// time where that can't be said: any log's may be among them.
func (r *Reconciler) unread(ctx context.Context) *time.Time {
	if r.inbox == nil {
		return nil
	}
	oldest, err := r.inbox.Unread(ctx)
	if err != nil {
		r.logger.DebugContext(ctx, "silence can't be told from webhooks that are not read yet", "err", err)
		return &time.Time{}
	}
	return oldest
}
