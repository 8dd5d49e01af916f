package reconciler

import (
	"context"
	"time"

	"github.com/google/uuid"
)

// Prober asks platforms what became of posts, before silence is taken for failure.
type Prober interface {
	// Listens tells whether asking about this platform's posts is worth a try: not for a few seconds after
	// nobody was there to answer.
	Listens(platform string) bool
	// Probe asks about each log and returns what came of it, in the order of the subjects. It limits its own
	// time.
	Probe(ctx context.Context, subjects []Subject) []Probe
}

// Subject is a log that a platform is asked about.
type Subject struct {
	LogID uuid.UUID
	Post  Post
	// UpdatedAt is the log's last update.
	UpdatedAt time.Time
	// Again: the platform was asked before and gave no clear answer. Logs that were never asked about go first.
	Again bool
	// Remember is how long an answer may stand for as long as the log is not updated; zero: ask anew.
	Remember time.Duration
}

// Probe is what came of asking a platform about a log. The zero value says that nobody is ever asked.
type Probe struct {
	Result ProbeResult
	// Evidence is the answer, in the webhook's vocabulary, where there was one.
	Evidence Evidence
	// Wait is, where the probe was postponed, when there is room for it; zero when that can't be said.
	Wait time.Duration
}

// ProbeResult says in one word what came of a probe.
type ProbeResult string

// The results of probes. All but the first are no evidence, of nothing.
const (
	ProbeAnswered    ProbeResult = "answered"
	ProbeNoResponder ProbeResult = "no_responder" // nobody listens
	ProbeNoAnswer    ProbeResult = "no_answer"    // within the time-out
	ProbeBroken      ProbeResult = "broken_answer"
	ProbePostponed   ProbeResult = "postponed" // the platform's rate leaves no room yet: the log has to wait
)

func (p *Probe) postponed() bool { return p != nil && p.Result == ProbePostponed }

// probed tells whether a probe's unclear answer extended the log's deadline already.
func (l Log) probed() bool {
	_, probed := l.Metadata[keyProbeTimestamp]
	return probed
}

// ReadProbe reads what a platform answered about a post. The fields are a JSON object with json.Number for
// numbers, as [Storable] returns it.
func ReadProbe(fields map[string]any) Evidence {
	status, hasStatus := scalarText(fields[fieldStatus])
	return read(fields, status, hasStatus || fields[fieldStatus] != nil)
}
