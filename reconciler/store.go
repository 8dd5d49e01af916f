package reconciler

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
)

// ErrRefused is what a [Store] returns when the database refuses a value or a row, and would again: a
// violated constraint, text it can't hold. Every other error of a store is worth another try.
var ErrRefused = errors.New("refused by the database")

// ErrLocked is what a [Store] returns when another transaction held a log for longer than a moment. Nothing
// was written.
var ErrLocked = errors.New("locked by another transaction")

// Store keeps the logs. All its methods limit their own time.
type Store interface {
	// Transact locks the logs that keys name, in the order of their ids, hands them to decide, and writes
	// what decide returns, all in one transaction. On an error nothing was written, or, when the
	// connection broke during the commit, everything may have been.
	Transact(ctx context.Context, keys Keys, decide func(Locked) Changes) error
	// Now is the database's clock.
	Now(ctx context.Context) (time.Time, error)
	// DueLogs is one page of the open logs past their deadline, oldest update first.
	DueLogs(ctx context.Context, due Due) ([]DueLog, error)
	// ParkedLogs looks at limit parked webhooks in the order of their ids, from beyond after, and returns
	// the logs of their posts. Last is the last webhook looked at; uuid.Nil when there was none.
	ParkedLogs(ctx context.Context, after uuid.UUID, limit int) (logs []uuid.UUID, last uuid.UUID, err error)
	// PruneLedger deletes at most limit ledger events of logs that are older than before, oldest first.
	PruneLedger(ctx context.Context, before time.Time, limit int) (deleted int, err error)
	// PruneParked deletes at most limit parked webhooks that came before a time, oldest first.
	PruneParked(ctx context.Context, before time.Time, limit int) (deleted int, err error)
	// Platforms locks what is known of the platforms, hands it to decide in the order of their names, and
	// writes what decide returns, all in one transaction. Decide sees what fell due within the window.
	Platforms(ctx context.Context, platforms []string, window time.Duration, decide func([]Platform, time.Time) []HoldChange) error
}

// Scheduler has logs checked later.
type Scheduler interface {
	// ScheduleChecks returns once all of them are stored.
	ScheduleChecks(ctx context.Context, checks []Recheck) error
}

// Recheck asks for a log to be checked at a moment of the database's clock, which is at Now.
type Recheck struct {
	LogID   uuid.UUID
	Timeout *time.Duration // the check's own, as in [Check]
	At, Now time.Time
}

// Keys name the logs to lock.
type Keys struct {
	// Posts locks every log of these posts.
	Posts []Post
	// LogIDs locks these logs with the webhooks parked for their posts, and the other logs of those posts.
	LogIDs []uuid.UUID
	// SkipLocked leaves out logs that another transaction holds, instead of waiting a moment for them; they
	// are told as [Locked].Held.
	SkipLocked bool
}

// Locked is what a transaction found.
type Locked struct {
	// Now is the database's time once the logs are locked, and what is written bears it.
	Now  time.Time
	Logs []LockedLog
	// Held are the logs that the keys name and that were left out.
	Held []HeldLog
}

// HeldLog is a log that another transaction holds.
type HeldLog struct {
	ID   uuid.UUID
	Post Post
}

// LockedLog is a log with the webhooks that are parked for its post, oldest first (by [Keys].LogIDs only).
type LockedLog struct {
	Log
	Parked []ParkedWebhook
}

// Changes are what a transaction writes. The zero value writes nothing.
type Changes struct {
	Rows   []RowChange
	Ledger []Event
	// Outbox is what is told of the state changes, if the store keeps an outbox.
	Outbox []StateChange
	Park   []ParkedWebhook
	Unpark []uuid.UUID
	// Signs are what the transaction learned of platforms: only where logs may be held.
	Signs []Sign

	// observations are what the observer is told once all is committed.
	observations []Observation
}

// RowChange is one write to publish_logs. It sets updated_at.
type RowChange struct {
	LogID  uuid.UUID
	Status Status
	// Error is written as error_message on a failure, and clears it on a success.
	Error *string
	// ExternalURL fills external_url where that is empty.
	ExternalURL string
	// Published sets published_at to the transaction's time.
	Published bool
	// Retried sets retry_count to RetryCount and last_retry_at to the transaction's time.
	Retried    bool
	RetryCount int
	// Metadata is merged into extra_metadata.
	Metadata map[string]any
}

// ParkedWebhook is a webhook whose log was not there when it came.
type ParkedWebhook struct {
	// ID is made from the content, so that a webhook that comes twice is parked once.
	ID         uuid.UUID
	Post       Post
	Fields     map[string]any
	ReceivedAt time.Time
}

// Due says which open logs a sweep looks at.
type Due struct {
	// Now is when the sweep began; a log is due when its last update and its timeout lie before.
	Now time.Time
	// Timeout holds for platforms that Timeouts does not name.
	Timeout  time.Duration
	Timeouts map[string]time.Duration
	// After is the last log of the page before; the zero value starts.
	After DueLog
	Limit int
}

// DueLog is a place in the order of a sweep.
type DueLog struct {
	ID        uuid.UUID
	UpdatedAt time.Time
}
