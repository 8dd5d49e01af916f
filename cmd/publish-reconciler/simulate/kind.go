package simulate

import (
	"time"

	"publish-reconciler/reconciler"
)

// Kind is how the story of a log goes.
type Kind string

// The kinds.
const (
	Confirmed Kind = "confirmed"  // a webhook on time
	Rejected  Kind = "rejected"   // the platform refuses the post, in its own words
	Duplicate Kind = "duplicate"  // the same webhook two or three times
	Reordered Kind = "reordered"  // an unclear webhook and a clear one, in either order
	Reviewed  Kind = "reviewed"   // an unclear webhook, and a clear one after the deadline
	Unclear   Kind = "unclear"    // an unclear webhook and nothing else
	Late      Kind = "late"       // a webhook after the log has failed
	Lost      Kind = "lost"       // no webhook ever
	BeforeRow Kind = "before-row" // a webhook before the publisher's row
	Malformed Kind = "malformed"  // a broken webhook beside a good one
)

// Kinds are all there are, in the order in which they are told.
func Kinds() []Kind {
	return []Kind{Confirmed, Rejected, Duplicate, Reordered, Reviewed, Unclear, Late, Lost, BeforeRow, Malformed}
}

// Change is one move of a log, as the ledger tells it.
type Change struct {
	Action reconciler.Action `json:"action"`
	Reason reconciler.Reason `json:"reason"`
}

var (
	confirmed = Change{reconciler.MarkedSuccess, reconciler.ReasonWebhookConfirmed}
	rejected  = Change{reconciler.MarkedFailed, reconciler.ReasonWebhookRejected}
	timedOut  = Change{reconciler.MarkedFailed, reconciler.ReasonWebhookTimeout}
	corrected = Change{reconciler.MarkedSuccess, reconciler.ReasonWebhookLate}
)

// Outcome is what must become of a log.
type Outcome struct {
	Status reconciler.Status `json:"status"`
	Reason reconciler.Reason `json:"reason"`
	// Changes are the log's moves, each with one event in the ledger and one on publish.event.>.
	Changes []Change `json:"changes"`
}

// outcomes are what becomes of each kind; overtaken what becomes of one whose deadline passed before JetStream had
// its webhook. Where that can't be there is none.
var outcomes = map[Kind]struct{ expected, overtaken *Outcome }{
	Confirmed: {onTime, tooLate},
	Rejected:  {&Outcome{reconciler.StatusFailed, reconciler.ReasonWebhookRejected, []Change{rejected}}, silent},
	Duplicate: {onTime, tooLate},
	Reordered: {onTime, tooLate},
	Reviewed:  {onTime, tooLate},
	Unclear:   {&Outcome{reconciler.StatusProcessing, reconciler.ReasonWebhookUnclear, []Change{}}, silent},
	Late:      {tooLate, nil},
	Lost:      {silent, nil},
	BeforeRow: {onTime, nil},
	Malformed: {onTime, tooLate},
}

var (
	onTime  = &Outcome{reconciler.StatusSuccess, reconciler.ReasonWebhookConfirmed, []Change{confirmed}}
	tooLate = &Outcome{reconciler.StatusSuccess, reconciler.ReasonWebhookLate, []Change{timedOut, corrected}}
	silent  = &Outcome{reconciler.StatusFailed, reconciler.ReasonWebhookTimeout, []Change{timedOut}}
)

// Plan is all that a story is made from.
type Plan struct {
	// Logs is how many there are, up to [MaxLogs].
	Logs int
	// Rate is how many begin in a second.
	Rate float64
	Seed uint64
	// Timeout is the patience of each log's check. Webhooks on time come within two fifths of it.
	Timeout time.Duration
	// Shares of the logs by kind, each from 0 to 1, together at most 1; the others are [Confirmed].
	Shares map[Kind]float64
}

// MaxLogs is what the ids of posts have room for.
const MaxLogs = 10_000_000
