package reconciler

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"
)

// Row is a publish_logs row as operators see it. Columns that are null are nil or empty, and so are times
// that are infinite. Its JSON has the names of the columns.
type Row struct {
	ID uuid.UUID `json:"id"`
	// ClipID and SocialAccountID are text: the rules don't read them, and publishers may have ids of a kind
	// of their own.
	ClipID          *string    `json:"clip_id"`
	Platform        string     `json:"platform"`
	SocialAccountID *string    `json:"social_account_id"`
	Status          Status     `json:"status"`
	ExternalPostID  *string    `json:"external_post_id"`
	ExternalURL     *string    `json:"external_url"`
	ErrorMessage    *string    `json:"error_message"`
	RequestedAt     *time.Time `json:"requested_at"`
	PublishedAt     *time.Time `json:"published_at"`
	RetryCount      int        `json:"retry_count"`
	MaxRetries      int        `json:"max_retries"`
	LastRetryAt     *time.Time `json:"last_retry_at"`
	// ExtraMetadata is whatever JSON the row holds, {} where it is null.
	ExtraMetadata json.RawMessage `json:"extra_metadata"`
	CreatedAt     *time.Time      `json:"created_at"`
	UpdatedAt     *time.Time      `json:"updated_at"`
	// Reason is why the log is in its state, as far as the service knows: of an open log the reason of its
	// latest ledger event, of a closed one what its metadata says. Empty when nothing is known.
	Reason Reason `json:"reason"`
}

// HistoryEvent is one line of a log's history, as the ledger has it. Where others left the time out it is zero.
type HistoryEvent struct {
	ID        uuid.UUID       `json:"id"`
	Timestamp time.Time       `json:"timestamp"`
	Type      EventType       `json:"event_type"`
	Severity  Severity        `json:"severity"`
	Metadata  json.RawMessage `json:"metadata"`
}

// View is all that is known about one log, read at one moment. Its JSON is flat: what else is known stands
// beside the row's columns.
type View struct {
	Row
	// History is the log's ledger, oldest first; of a very long one the newest part.
	History []HistoryEvent `json:"history"`
	// Parked counts the webhooks that wait for the log's next check or sweep.
	Parked int `json:"parked_webhooks"`
	// Hold is the hold that its platform is under; nil when there is none.
	Hold *Hold `json:"hold"`
	// NextSweep is when the next sweep comes; nil when that is not known.
	NextSweep *time.Time `json:"-"`
	// Now is the database's time.
	Now time.Time `json:"now"`
}

// Filter says which logs a list holds. Zero values take in everything.
type Filter struct {
	Status   Status
	Platform string
	Reason   Reason
	// Before is where the page begins: logs created before that moment, or, with BeforeID, before that log
	// in the list's order.
	Before   time.Time
	BeforeID uuid.UUID
	// Limit is the most logs of a page, up to [MaxListed]. Zero: [DefaultListed].
	Limit int
}

// Limits of a list's page.
const (
	DefaultListed = 50
	MaxListed     = 500
)
