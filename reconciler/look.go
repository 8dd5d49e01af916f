package reconciler

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// finding is what a look at one log came to.
type finding struct {
	kind     OutcomeKind // Later: nothing was done yet
	err      error       // of a Rejected one
	decision Decision
}

// look reconciles the logs that the checks name, with what is recorded and parked for them, and schedules
// the checks that follow from it. A sweep waits for no log that others hold.
//
// It takes a second transaction for logs whose platform has to be asked first, or looked after, since that is
// not done while rows are locked. The findings are what was committed, also when there is an error.
func (r *Reconciler) look(ctx context.Context, checks []Check, trigger Trigger) ([]finding, error) {
	first := &pass{trigger: trigger, unread: r.unread(ctx)}
	if err := r.pass(ctx, first, checks); err != nil {
		return nil, err
	}
	if len(first.open) == 0 {
		return first.findings, nil
	}
	found, err := r.inquire(ctx, first)
	if err != nil {
		return first.findings, err
	}
	places := make([]int, 0, len(first.open))
	again := make([]Check, 0, len(first.open))
	for i, finding := range first.findings {
		if finding.kind == Later {
			places, again = append(places, i), append(again, checks[i])
		}
	}
	// It is split by itself where the database refuses something: what the first pass did is done.
	err = splitRefused(0, len(again), func(from, to int) error {
		second := &pass{trigger: trigger, unread: first.unread, found: found}
		if err := r.pass(ctx, second, again[from:to]); err != nil {
			return err
		}
		for i, finding := range second.findings {
			first.findings[places[from+i]] = finding
		}
		return nil
	}, func(i int, err error) { first.findings[places[i]] = finding{kind: Rejected, err: err} })
	return first.findings, err
}

// pass is one transaction of a look.
type pass struct {
	trigger Trigger
	unread  *time.Time // see [Question]
	// found is what an inquiry brought; nil: a log that needs one is left open.
	found *found

	findings []finding
	open     []openLog
	rechecks []Recheck
	now      time.Time
}

// openLog is a log that needs an inquiry before it is decided.
type openLog struct {
	log      Log
	question Question
}

// found is what an inquiry brought, by log and by platform.
type found struct {
	probes map[subjectKey]*Probe
	holds  map[string]*Hold
}

// subjectKey is what a platform is asked about: another post of the same log is another question.
type subjectKey struct {
	log  uuid.UUID
	post Post
}

func keyOf(log Log) subjectKey { return subjectKey{log.ID, log.Post} }

// inquire asks the platforms about the logs that the pass left open, and then, where silence would fail
// them, whether their platforms are under a hold.
func (r *Reconciler) inquire(ctx context.Context, first *pass) (*found, error) {
	result := &found{probes: make(map[subjectKey]*Probe, len(first.open))}
	var subjects []Subject
	for _, open := range first.open {
		key := keyOf(open.log)
		if _, twice := result.probes[key]; twice {
			continue
		}
		result.probes[key] = open.question.Probe
		if open.question.Probe != nil {
			continue
		}
		subject := Subject{LogID: open.log.ID, Post: open.log.Post, UpdatedAt: open.log.UpdatedAt, Again: open.log.probed()}
		if first.trigger == TriggerSweep {
			// Sweeps come to a log again and again by themselves.
			subject.Remember = r.policy.Timeout(open.log.Post.Platform)
		}
		subjects = append(subjects, subject)
	}
	if len(subjects) > 0 {
		for i, probe := range r.prober.Probe(ctx, subjects) {
			result.probes[subjectKey{subjects[i].LogID, subjects[i].Post}] = &probe
		}
	}
	due := make(map[string]int)
	for _, open := range first.open {
		open.question.Probe = result.probes[keyOf(open.log)]
		decision := Decide(open.log, open.question, r.policy, first.now)
		if decision.Silent && !open.question.Probe.postponed() {
			due[open.log.Post.Platform]++
		}
	}
	var err error
	result.holds, err = r.holds(ctx, due)
	return result, err
}

// pass decides what it can in one transaction, and schedules what follows.
func (r *Reconciler) pass(ctx context.Context, p *pass, checks []Check) error {
	ids := make([]uuid.UUID, len(checks))
	for i, check := range checks {
		ids[i] = check.LogID
	}
	err := r.transact(ctx, Keys{LogIDs: ids, SkipLocked: p.trigger != TriggerCheck}, len(checks), func(locked Locked) Changes {
		return r.decideAll(p, checks, locked)
	})
	if err != nil {
		return fmt.Errorf("check %d logs: %w", len(checks), err)
	}
	if len(p.rechecks) > 0 {
		if err := r.scheduler.ScheduleChecks(ctx, p.rechecks); err != nil {
			return fmt.Errorf("schedule %d checks: %w", len(p.rechecks), err)
		}
	}
	return nil
}

func (r *Reconciler) decideAll(p *pass, checks []Check, locked Locked) (changes Changes) {
	p.findings, p.open, p.rechecks, p.now = make([]finding, len(checks)), nil, nil, locked.Now
	held, heldPosts := make(map[uuid.UUID]bool), make(map[Post]bool)
	for _, log := range locked.Held {
		held[log.ID], heldPosts[log.Post] = true, true
	}
	drafts := make(map[uuid.UUID]*draft, len(locked.Logs))
	for _, log := range locked.Logs {
		drafts[log.ID] = newDraft(log)
	}
	for i, check := range checks {
		draft, there := drafts[check.LogID]
		switch {
		case held[check.LogID]:
			p.findings[i].kind = Held
		case !there:
			p.findings[i].kind = NotFound
		case len(draft.parked) > 0:
			p.decided(i, check, r.lookAtParked(draft, check.Timeout, p.trigger, locked.Now))
		default:
			r.lookAt(p, i, check, draft)
		}
	}
	for _, log := range locked.Logs {
		draft := drafts[log.ID]
		if len(draft.parked) > 0 { // another log of the same post
			r.lookAtParked(draft, nil, p.trigger, locked.Now)
		}
		changes.gather(draft)
		// What is parked stays until all logs of its post have seen it.
		if !heldPosts[log.Post] {
			for _, parked := range log.Parked {
				changes.Unpark = append(changes.Unpark, parked.ID)
			}
		}
	}
	return changes
}

// decided notes what a check came to, and the check that follows from it.
func (p *pass) decided(i int, check Check, decision Decision) {
	p.findings[i] = finding{kind: Done, decision: decision}
	if at, again := recheckAt(decision, p.trigger, p.now); again {
		p.rechecks = append(p.rechecks, Recheck{check.LogID, check.Timeout, at, p.now})
	}
}

// lookAt decides a log on what it holds, unless it needs an inquiry.
func (r *Reconciler) lookAt(p *pass, i int, check Check, d *draft) {
	q := Question{Trigger: p.trigger, Timeout: check.Timeout, Unread: p.unread}
	if p.found != nil {
		q.Probe, q.Hold = p.found.probes[keyOf(d.log)], p.found.holds[d.log.Post.Platform]
	}
	if q.Probe == nil {
		q.Probe = r.unasked(d.log.Post.Platform)
	}
	decision := Decide(d.log, q, r.policy, p.now)
	if decision.Ask && q.Probe.postponed() && q.Probe.Wait > 0 {
		p.rechecks = append(p.rechecks, Recheck{check.LogID, check.Timeout, p.now.Add(q.Probe.Wait), p.now})
	}
	switch {
	case decision.Silent && q.Probe.postponed():
		p.findings[i].kind = Done
	case p.found == nil && (decision.Ask && q.Probe == nil || decision.Silent && r.policy.HoldMax > 0):
		p.open = append(p.open, openLog{d.log, q})
	default:
		p.decided(i, check, d.apply(decision, q, p.now))
	}
}

// unasked is what came of a probe where there is no use in asking; nil where there is.
func (r *Reconciler) unasked(platform string) *Probe {
	switch {
	case r.prober == nil:
		return &Probe{}
	case !r.prober.Listens(platform):
		return &Probe{Result: ProbeNoResponder}
	default:
		return nil
	}
}

// lookAtParked decides a log on what is parked for it.
func (r *Reconciler) lookAtParked(d *draft, timeout *time.Duration, trigger Trigger, now time.Time) Decision {
	var telling Decision
	for _, parked := range d.parked {
		evidence := ReadWebhook(parked.Post.Platform, parked.Fields, parked.ReceivedAt)
		decision := r.decide(d, Question{Trigger: trigger, Webhook: &evidence, Timeout: timeout}, now)
		if telling.Action == "" {
			telling = decision
		}
	}
	d.parked = nil
	return telling
}

// unreadAgain is when a check comes again that found webhooks unread.
const unreadAgain = 2 * time.Second

// recheckAt tells whether and when a log has to be checked again. A sweep comes back by itself; only the
// deadline of an automatic retry is worth a check of its own there.
func recheckAt(d Decision, trigger Trigger, now time.Time) (time.Time, bool) {
	switch {
	case d.Action == MarkedRetry:
		return now.Add(d.Timeout), true
	case trigger == TriggerCheck && (d.Reason == ReasonNotDue || d.Reason == ReasonProbeUnclear):
		return d.Deadline, true
	case trigger == TriggerCheck && d.Reason == ReasonWebhooksUnread:
		return now.Add(unreadAgain), true
	default:
		return time.Time{}, false
	}
}
