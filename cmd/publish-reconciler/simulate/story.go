package simulate

import (
	"math"
	"math/rand/v2"
	"time"

	"publish-reconciler/streams"
)

// Story is what happens to all logs of a plan, the same for the same plan.
type Story struct {
	plan  Plan
	kinds []uint8 // by log; places in Kinds
}

// Log is the story of one log. Its texts have a mark in place of the post's id, which is the run's.
type Log struct {
	Index    int    `json:"log"`
	Kind     Kind   `json:"kind"`
	Platform string `json:"platform"`
	// Start is when it begins, from the story's begin.
	Start time.Duration `json:"start_ns"`
	// OwnURL is what the publisher has put into the row.
	OwnURL string `json:"own_url,omitempty"`
	// Steps come one after the other: none before the one before it is stored.
	Steps   []Step  `json:"steps"`
	Outcome Outcome `json:"outcome"`
	// Says is the webhook that settles the log; nil where none does.
	Says *Says `json:"says,omitempty"`
	// Dead is the reason of the broken webhook's dead letter; empty where there is none.
	Dead streams.Reason `json:"dead,omitempty"`
}

// Step is one thing that is done about a log.
type Step struct {
	Do Do `json:"do"`
	// After is when, at the earliest, from the log's start.
	After time.Duration `json:"after_ns"`
	// Wait is what has to be seen in Postgres before; empty: nothing.
	Wait Wait `json:"wait,omitempty"`
	// Body is a webhook's.
	Body string `json:"body,omitempty"`
}

// Do is what a step does.
type Do string

// What is done.
const (
	Insert   Do = "insert"   // the publisher's row
	Schedule Do = "schedule" // a check, a timeout later
	Webhook  Do = "webhook"
	Broken   Do = "broken" // a webhook that can't be understood
)

// Wait is what a step waits for.
type Wait string

// What is waited for.
const (
	ForParked   Wait = "parked"   // the webhook lies there without its row
	ForFailed   Wait = "failed"   // the log has failed
	ForReviewed Wait = "reviewed" // the unclear webhook is recorded, and the deadline has passed
	// forEnd is what comes after the last step: the log is as it must be.
	forEnd Wait = "end"
)

// shuffling is the stream of random numbers that deals out the kinds; each log has one of its own, by its
// index.
const shuffling = math.MaxUint64

// NewStory makes the plan's story. The shares are kept to the log.
func NewStory(plan Plan) *Story {
	s := &Story{plan: plan, kinds: make([]uint8, plan.Logs)}
	next := 0
	for i, kind := range Kinds() {
		n := int(math.Round(plan.Shares[kind] * float64(plan.Logs)))
		for range min(n, plan.Logs-next) {
			s.kinds[next] = uint8(i) //nolint:gosec // there are ten
			next++
		}
	}
	r := rand.New(rand.NewPCG(plan.Seed, shuffling)) //nolint:gosec // a story is to be told again
	r.Shuffle(len(s.kinds), func(i, j int) { s.kinds[i], s.kinds[j] = s.kinds[j], s.kinds[i] })
	return s
}

// Len is how many logs there are.
func (s *Story) Len() int { return len(s.kinds) }

// Count is how many logs are of a kind.
func (s *Story) Count(kind Kind) (n int) {
	for _, k := range s.kinds {
		if Kinds()[k] == kind {
			n++
		}
	}
	return n
}

// Log tells one log's story, from 0 to Len. It is told anew each time: a story takes a byte a log.
func (s *Story) Log(i int) Log {
	n := uint64(i)                             //nolint:gosec // never negative
	r := rand.New(rand.NewPCG(s.plan.Seed, n)) //nolint:gosec // see NewStory
	kind := Kinds()[s.kinds[i]]
	log := Log{
		Index:    i,
		Kind:     kind,
		Platform: platforms[r.IntN(len(platforms))],
		Start:    time.Duration(float64(i) / s.plan.Rate * float64(time.Second)),
		Outcome:  *outcomes[kind].expected,
	}
	if r.IntN(10) == 0 {
		log.OwnURL = "https://publisher.example/" + postMark
	}
	log.Steps = s.steps(&log, r)
	return log
}

// steps writes a log's story, and what its webhook says.
func (s *Story) steps(log *Log, r *rand.Rand) []Step {
	soon := s.within(r, 0.02, 0.3)
	says := confirmation(log.Platform, r)
	if log.Kind == Rejected {
		says = rejection(r)
	}
	sure := Step{Do: Webhook, After: soon, Body: says.body(log.Platform)}
	vague := Step{Do: Webhook, After: soon, Body: review().body(log.Platform)}
	row := []Step{{Do: Insert}, {Do: Schedule}}
	log.Says = &says
	switch log.Kind {
	case Duplicate:
		for range 2 + r.IntN(2) {
			row = append(row, sure)
			sure.After += s.within(r, 0, 0.05)
		}
		return row
	case Reordered:
		if r.IntN(2) == 0 {
			return append(row, sure, vague)
		}
		return append(row, vague, sure)
	case Reviewed:
		sure.Wait = ForReviewed
		return append(row, vague, sure)
	case Unclear:
		log.Says = nil
		return append(row, vague)
	case Late:
		sure.Wait = ForFailed
		return append(row, sure)
	case Lost:
		log.Says = nil
		return row
	case BeforeRow:
		sure.After, row[0].Wait = 0, ForParked
		return append([]Step{sure}, row...)
	case Malformed:
		wreck := wrecks[r.IntN(len(wrecks))]
		broken := Step{Do: Broken, After: soon, Body: wreck.body}
		log.Dead = wreck.reason
		switch r.IntN(3) {
		case 0:
			broken.After = 0
			return append([]Step{broken}, append(row, sure)...)
		case 1:
			return append(row, broken, sure)
		default:
			return append(row, sure, broken)
		}
	case Confirmed, Rejected:
	}
	return append(row, sure)
}

// within is a moment between two parts of the timeout.
func (s *Story) within(r *rand.Rand, from, to float64) time.Duration {
	return time.Duration((from + (to-from)*r.Float64()) * float64(s.plan.Timeout))
}
