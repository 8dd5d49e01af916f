package reconciler

import (
	"context"
	"time"

	"github.com/google/uuid"
)

// Status is where a publish log stands.
type Status string

// The statuses. Any other that a publisher may have written counts as final.
const (
	StatusPending    Status = "pending" // the publisher has not started
	StatusProcessing Status = "processing"
	StatusRetry      Status = "retry" // waits once more before it fails
	StatusSuccess    Status = "success"
	StatusFailed     Status = "failed"
)

// Open tells whether the log still has to be closed.
func (s Status) Open() bool { return s == StatusProcessing || s == StatusRetry }

// Reason says in one word why a log was moved, or was not.
type Reason string

// The reasons.
const (
	ReasonWebhookConfirmed Reason = "webhook_confirmed"
	ReasonWebhookRejected  Reason = "webhook_rejected"
	ReasonWebhookUnclear   Reason = "webhook_unclear"
	ReasonWebhookTimeout   Reason = "webhook_timeout"
	ReasonWebhookLate      Reason = "webhook_late"
	ReasonProbeConfirmed   Reason = "probe_confirmed"
	ReasonProbeRejected    Reason = "probe_rejected"
	ReasonProbeUnclear     Reason = "probe_unclear" // the deadline is extended, once
	ReasonRetryBeforeFail  Reason = "retry_before_fail"
	ReasonPlatformHold     Reason = "platform_hold"
	ReasonOverridden       Reason = "overridden"
	ReasonWebhooksUnread   Reason = "webhooks_unread" // its webhook may be stored, and not read yet
	ReasonNotDue           Reason = "not_due"
	ReasonNotStarted       Reason = "not_started"
	ReasonAlreadyFinal     Reason = "already_final"
)

// Trigger is what made the service look at a log.
type Trigger string

// The triggers.
const (
	TriggerWebhook  Trigger = "webhook"
	TriggerCheck    Trigger = "check"
	TriggerSweep    Trigger = "sweep"
	TriggerAPI      Trigger = "api"
	TriggerOverride Trigger = "override"
)

// Post is the platform's name for what was published. Several logs may be about one post.
type Post struct {
	Platform       string
	ExternalPostID string
}

// Log is what the rules need of a publish_logs row.
type Log struct {
	ID          uuid.UUID
	Post        Post
	Status      Status
	ExternalURL string
	RetryCount  int
	MaxRetries  int
	UpdatedAt   time.Time
	// Metadata is extra_metadata as far as it bears on the rules. It may be nil for a log that is open
	// and holds no evidence, and for one that is a success. Numbers are json.Number.
	Metadata map[string]any
}

// failedByTimeout tells whether nothing but silence made the log fail.
func (l Log) failedByTimeout() bool {
	return l.Status == StatusFailed && l.Metadata[keyReason] == string(ReasonWebhookTimeout)
}

// inTime tells whether evidence had been received when the log was failed for silence: it was only not read.
func (l Log) inTime(evidence Evidence) bool {
	text, _ := l.Metadata[keyReconciledAt].(string)
	failedAt, err := time.Parse(time.RFC3339, text)
	return err == nil && !evidence.ReceivedAt.IsZero() && evidence.ReceivedAt.Before(failedAt)
}

// StateChange is one move of a log, told to whoever wants to react (publish.event.<platform>.<to>). Its
// JSON is the event's body.
type StateChange struct {
	// ID is the ledger event's, and the Nats-Msg-Id.
	ID             uuid.UUID `json:"-"`
	LogID          uuid.UUID `json:"log_id"`
	Platform       string    `json:"platform"`
	ExternalPostID string    `json:"external_post_id"`
	From           Status    `json:"from"`
	To             Status    `json:"to"`
	Reason         Reason    `json:"reason"`
	Trigger        Trigger   `json:"trigger"`
	// URL leads to the post; empty when none is known.
	URL string `json:"url"`
	// Time is the database's, in UTC.
	Time time.Time `json:"time"`
}

// OutboxEvent is a state change, or the begin of a hold, as it waits in a store's outbox.
type OutboxEvent struct {
	// ID is the [StateChange]'s or the [HoldBegun]'s. Ids grow with time, so that changes are told in order.
	ID       uuid.UUID
	Platform string
	Outcome  string // the log's new status, or "hold"
	// Body is the JSON of what is told.
	Body []byte
}

// Told is what of the outbox stands in the stream of outcome events.
type Told struct {
	// Events are the ids of those that do. Others that are not in the outbox any more may be among them.
	Events []uuid.UUID
	// Sequence is the stream's up to which all that stands there is told: beyond it alone may lie what is
	// in the outbox and not in Events.
	Sequence uint64
}

// Tell publishes events, each for its place: the first behind a sequence of their stream, each of the others
// behind the one before. It returns what stands there.
type Tell func(ctx context.Context, after uint64, events []OutboxEvent) (Told, error)

// Severity of a ledger event.
type Severity string

// The severities that the rules use.
const (
	SeverityInfo Severity = "info"
	SeverityWarn Severity = "warn"
)

// EventType names what a ledger event tells.
type EventType string

// The ledger events about a publish log.
const (
	EventWebhookReceived EventType = "publish_webhook_received"
	EventReconciled      EventType = "publish_reconciled"
	EventSkipped         EventType = "publish_reconcile_skipped"
	EventExtended        EventType = "publish_deadline_extended"
	EventOverridden      EventType = "publish_overridden"
	EventRemoved         EventType = "publish_removed"
	EventCheckRequested  EventType = "publish_check_requested"
)

// Event is one line of a log's history, to be added to the ledger.
type Event struct {
	ID uuid.UUID
	// Once leaves the event out when the log's history holds its ID already.
	Once     bool
	LogID    uuid.UUID
	Type     EventType
	Severity Severity
	Metadata map[string]any
}
