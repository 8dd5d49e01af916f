package simulate

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/google/uuid"
)

// Result is what became of all logs that a run has begun, beside what must have.
type Result struct {
	Run  Run    `json:"run"`
	Seed uint64 `json:"seed"`
	// Logs is how many were begun, Wrong how many of them are not as they must be.
	Logs  int          `json:"logs"`
	Wrong int          `json:"wrong"`
	Kinds []KindResult `json:"kinds"`
	// StateChanges are told by the ledger, and OutcomeEvents of them in their stream, unless the service has
	// these off. DeadLetters counts the logs that have one.
	StateChanges  Tally `json:"state_changes"`
	OutcomeEvents Tally `json:"outcome_events"`
	DeadLetters   Tally `json:"dead_letters"`
	// Parked counts the logs with parked webhooks, Messages those with messages that are left.
	Parked   Tally `json:"parked_webhooks"`
	Messages Tally `json:"messages_left"`
	// Unacknowledged tells that webhooks of the run are not acknowledged.
	Unacknowledged bool `json:"unacknowledged_webhooks"`
	// Took is how long the play took; zero where nothing was played.
	Took time.Duration `json:"-"`
	// Offences are the first of the wrong logs.
	Offences []Offence `json:"offences"`
}

// KindResult is what became of the logs of a kind.
type KindResult struct {
	Kind    Kind    `json:"kind"`
	Outcome Outcome `json:"outcome"`
	// Expected is how many there are, Found how many are as they must be. Of these Overtaken were by their
	// deadline.
	Expected  int `json:"expected"`
	Found     int `json:"found"`
	Overtaken int `json:"overtaken"`
	Wrong     int `json:"wrong"`
}

// Tally is how many of something there must be, and are.
type Tally struct {
	Expected int `json:"expected"`
	Found    int `json:"found"`
}

// Offence is a log that is not as it must be.
type Offence struct {
	LogID uuid.UUID `json:"log_id"`
	Story Log       `json:"story"`
	// Faults are what is wrong, in plain words.
	Faults []string `json:"faults"`
}

// OK tells that everything is as it must be.
func (r Result) OK() bool { return r.Wrong == 0 && !r.Unacknowledged }

// All has [Simulation.Examine] look at all logs: of a run that another process has played.
func (s *Simulation) All() { s.begun.Store(int64(s.story.Len())) }

// Examine compares every log that was begun with its story.
func (s *Simulation) Examine(ctx context.Context) (Result, error) {
	begun := int(s.begun.Load())
	result := Result{Run: s.cfg.Run, Seed: s.cfg.Plan.Seed, Logs: begun, Took: s.took, Offences: []Offence{}}
	kinds := make(map[Kind]*KindResult)
	for _, kind := range Kinds() {
		kinds[kind] = &KindResult{Kind: kind, Outcome: *outcomes[kind].expected}
	}
	left, err := s.left(ctx)
	if err != nil {
		return result, err
	}
	result.Unacknowledged = left.webhooks
	mail, err := s.readMail(ctx)
	if err != nil {
		return result, err
	}
	for from := 0; from < begun; from += batchSize {
		s.cfg.Progress(Progress{Logs: begun, Done: from, Phase: "checking"})
		logs := make([]Log, min(batchSize, begun-from))
		for i := range logs {
			logs[i] = s.story.Log(from + i)
		}
		founds, err := s.find(ctx, logs)
		if err != nil {
			return result, err
		}
		for i, log := range logs {
			f := founds[i]
			f.letters, f.told, f.left = mail.letters[log.Index], mail.told[log.Index], left.checks[log.Index]
			verdict := s.judge(log, f)
			result.count(log, f, verdict, s.cfg.Events)
			kinds[log.Kind].count(verdict)
			if len(verdict.faults) > 0 && len(result.Offences) < s.cfg.Show {
				result.Offences = append(result.Offences, Offence{s.cfg.Run.logID(log.Index), log, verdict.faults})
			}
		}
	}
	for _, kind := range Kinds() {
		result.Kinds = append(result.Kinds, *kinds[kind])
	}
	return result, nil
}

func (r *Result) count(log Log, f found, v *verdict, events bool) {
	expected := log.Outcome
	if v.overtaken {
		expected = *cmp.Or(outcomes[log.Kind].overtaken, &expected)
	}
	r.StateChanges.Expected += len(expected.Changes)
	r.StateChanges.Found += f.stateChanges()
	if events {
		r.OutcomeEvents.Expected += len(expected.Changes)
		r.OutcomeEvents.Found += len(f.told)
	}
	r.DeadLetters.add(log.Dead != "", len(f.letters) > 0)
	r.Parked.add(false, f.parked > 0)
	r.Messages.add(false, len(f.left) > 0)
	if len(v.faults) > 0 {
		r.Wrong++
	}
}

func (t *Tally) add(expected, found bool) {
	if expected {
		t.Expected++
	}
	if found {
		t.Found++
	}
}

func (k *KindResult) count(v *verdict) {
	k.Expected++
	switch {
	case len(v.faults) > 0:
		k.Wrong++
		return
	case v.overtaken:
		k.Overtaken++
	}
	k.Found++
}

// stateChanges counts the ledger's.
func (f found) stateChanges() int {
	return len(slices.DeleteFunc(slices.Clone(f.ledger), func(e event) bool { return e.Action == "" }))
}
