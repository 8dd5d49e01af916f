package reconciler

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"
)

// Limits of what an operator may say with an override, in bytes.
const (
	MaxActorBytes = 128
	MaxNoteBytes  = 2048
)

// Override is an operator's word on a log, which stands above every evidence.
type Override struct {
	LogID uuid.UUID
	// Status is success or failed.
	Status Status
	// Actor is who says so; required.
	Actor string
	// Note says why; it may be empty.
	Note string
}

var (
	// ErrNotFound tells that no log has this id.
	ErrNotFound = errors.New("no such log")
	// ErrNoChange tells that the log has the status already that an override asks for.
	ErrNoChange = errors.New("the override changes nothing")
)

// Validate names what is wrong with the override, and what is allowed; nil when nothing is.
func (o Override) Validate() error {
	var faults []error
	if o.Status != StatusSuccess && o.Status != StatusFailed {
		faults = append(faults, fmt.Errorf("status is %q: it must be success or failed", o.Status))
	}
	faults = append(faults, validateActor(o.Actor, "overrides"))
	if len(o.Note) > MaxNoteBytes || !utf8.ValidString(o.Note) {
		faults = append(faults, fmt.Errorf("note is %d bytes long: it must have at most %d bytes of UTF-8", len(o.Note), MaxNoteBytes))
	}
	return errors.Join(faults...)
}

// validateActor wants to know who does something.
func validateActor(name, does string) error {
	if actor := strings.TrimSpace(name); actor == "" || len(actor) > MaxActorBytes || !utf8.ValidString(actor) {
		return fmt.Errorf("actor is %d bytes long: it must name who %s, in 1 to %d bytes of UTF-8", len(actor), does, MaxActorBytes)
	}
	return nil
}

// Override sets a log's status, whatever it was, and returns the change. [ErrNotFound] and [ErrNoChange] tell
// that nothing was done; [ErrLocked] that another transaction holds the log, and that it may be tried again.
// Faults of the override are those of [Override.Validate].
func (r *Reconciler) Override(ctx context.Context, o Override) (change StateChange, err error) {
	if err := o.Validate(); err != nil {
		return StateChange{}, err
	}
	o.Actor, o.Note = storableText(strings.TrimSpace(o.Actor)), storableText(strings.TrimSpace(o.Note))
	var vain error
	err = r.commit(ctx, Keys{LogIDs: []uuid.UUID{o.LogID}}, 1, func(locked Locked) (changes Changes) {
		vain = ErrNotFound
		for _, log := range locked.Logs { // other logs of the post may be among them
			switch {
			case log.ID != o.LogID:
			case log.Status == o.Status:
				vain = fmt.Errorf("it is %s already: %w", log.Status, ErrNoChange)
			default:
				vain = nil
				d := newDraft(log)
				change = d.override(o, locked.Now)
				changes.gather(d)
			}
		}
		return changes
	})
	if err == nil {
		err = vain
	}
	if err != nil {
		return StateChange{}, fmt.Errorf("override log %s: %w", o.LogID, err)
	}
	return change, nil
}
