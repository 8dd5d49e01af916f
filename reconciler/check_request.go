package reconciler

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/uuid"
)

// CheckRequest is an operator's wish that a log is checked now.
type CheckRequest struct {
	LogID uuid.UUID
	// Actor is who asks; required.
	Actor string
}

// Validate names what is wrong with the request, and what is allowed; nil when nothing is.
func (c CheckRequest) Validate() error { return validateActor(c.Actor, "asks") }

// NoteCheck writes into a log's ledger that somebody asks for its check, and nothing else: the check is a message.
// [ErrNotFound] tells that there is no such log; [ErrLocked] that another transaction holds it, and that it may be
// tried again. Faults of the request are those of [CheckRequest.Validate].
func (r *Reconciler) NoteCheck(ctx context.Context, c CheckRequest) error {
	if err := c.Validate(); err != nil {
		return err
	}
	found := false
	err := r.store.Transact(ctx, Keys{LogIDs: []uuid.UUID{c.LogID}}, func(locked Locked) (changes Changes) {
		found = false
		for _, log := range locked.Logs { // other logs of the post may be among them
			if log.ID == c.LogID {
				found = true
				d := newDraft(log)
				d.note(d.event(EventCheckRequested, SeverityInfo, map[string]any{
					"platform": log.Post.Platform,
					"status":   string(log.Status),
					"actor":    storableText(strings.TrimSpace(c.Actor)),
				}))
				changes.gather(d)
			}
		}
		return changes
	})
	if err == nil && !found {
		err = ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("note the check of log %s: %w", c.LogID, err)
	}
	return nil
}
