package reconciler

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Explanation is what an operator wants to know of a log, in plain words.
type Explanation struct {
	// Sentence is one line: the log's state, since when, why, and what happens next and when.
	Sentence string `json:"sentence"`
	// Next is the part of the sentence that tells what happens next.
	Next string `json:"next"`
	// NextAt is when that is. Nil when nothing more happens, and when the time is not known: nobody but the
	// stream knows when the next sweep is.
	NextAt *time.Time `json:"next_at"`
}

// Explain tells why a log is in its state and what becomes of it, from the ledger's receipts and from what
// the rules would do. It is pure and has a sentence for every view: what older releases, or others, left out
// of a receipt is left out of the sentence.
func (p Policy) Explain(v View) Explanation {
	a := newAccount(p, v)
	switch {
	case v.Status == StatusPending:
		a.pending()
	case v.Status.Open():
		a.open()
	case v.Status == StatusSuccess, v.Status == StatusFailed:
		a.closed()
	default:
		a.say(fmt.Sprintf("status %s%s, which the service does not know and counts as final", quote(string(v.Status)), a.since(v.UpdatedAt)))
		a.waiting()
		a.then(unlessOverridden)
	}
	return Explanation{Sentence: strings.Join(a.clauses, "; "), Next: a.next, NextAt: a.nextAt}
}

const unlessOverridden = "only an override would change it"

// account is an explanation in the making.
type account struct {
	View
	policy   Policy
	platform string // in words
	metadata map[string]any
	// decided is the receipt of the decision that closed the log; nil for an open one, and where another
	// writer closed it. Before is the receipt of the decision before.
	decided, before *receipt
	// chapter are the receipts from when the log was opened to its decision, or to now; later are those that
	// came after the decision.
	chapter, later []receipt

	clauses []string
	next    string
	nextAt  *time.Time
}

func newAccount(p Policy, v View) *account {
	a := &account{View: v, policy: p, platform: "the platform", metadata: fieldsOf(v.ExtraMetadata)}
	if v.Platform != "" {
		a.platform = name(v.Platform)
	}
	for _, event := range v.History {
		r := receipt{event, fieldsOf(event.Metadata)}
		a.later = append(a.later, r)
		if r.closes() != "" {
			a.before, a.decided = a.decided, &r
			a.chapter, a.later = a.later, nil
		}
	}
	if a.decided == nil || a.decided.closes() != v.Status {
		if a.decided != nil {
			a.before, a.decided = a.decided, nil
		}
		a.chapter, a.later = a.later, nil
	}
	return a
}

func (a *account) say(clause string) { a.clauses = append(a.clauses, clause) }

// then ends the sentence.
func (a *account) then(next string) {
	a.next = next
	a.say(next)
}

// thenAt ends the sentence of a log that is to be looked at again at a moment.
func (a *account) thenAt(at time.Time, next string) {
	if at = at.UTC(); at.Year() <= 9999 { // what RFC 3339 can say
		a.nextAt = &at
	}
	a.then(next)
}

// atNextSweep ends the sentence of a log that is due.
func (a *account) atNextSweep(does string) {
	if a.NextSweep == nil || a.NextSweep.Before(a.Now) {
		a.then("the next sweep " + does)
		return
	}
	a.thenAt(*a.NextSweep, fmt.Sprintf("the next sweep, at %s, %s", a.clock(*a.NextSweep), does))
}

func (a *account) pending() {
	created := a.CreatedAt
	if created == nil {
		created = a.RequestedAt
	}
	a.say("pending" + a.since(created) + " because its publisher has not started")
	if evidence := a.log().recorded(); evidence.Verdict != NoEvidence {
		a.say("a webhook came already" + inBrackets(evidence.Status) + " and counts from then on")
	}
	a.waiting()
	a.then("nothing happens until it does")
}

// log is what the rules see of the row's evidence.
func (a *account) log() Log { return Log{Status: a.Status, Metadata: a.metadata} }

func (a *account) open() {
	a.opening()
	evidence := a.log().recorded()
	deadline, dated := a.deadline()
	due := !dated || !a.Now.Before(deadline)
	switch {
	case a.Parked > 0:
		a.probes()
		a.waiting()
		a.next = a.clauses[len(a.clauses)-1]
	case evidence.Verdict == Confirmed || evidence.Verdict == Refused:
		outcome := "makes it a success"
		if evidence.Verdict == Refused {
			outcome = "fails it"
		}
		a.say("its row holds the platform's word already" + inBrackets(evidence.Status))
		if due {
			a.atNextSweep(outcome)
		} else {
			a.thenAt(deadline, fmt.Sprintf("its check at %s %s", a.clock(deadline), outcome))
		}
	case evidence.Verdict == Unclear || a.log().probed():
		a.unclear(evidence, deadline, due)
	default:
		a.silent(deadline, dated, due)
	}
}

// opening tells the state of an open log.
func (a *account) opening() {
	if a.Status == StatusRetry {
		for _, r := range slices.Backward(a.chapter) {
			if r.action() == MarkedRetry {
				n, of := r.count("retry_count"), ""
				if n == 0 {
					n = a.RetryCount
				}
				if all := a.retries(); all >= n {
					of = fmt.Sprintf(" of %d", all)
				}
				a.say(fmt.Sprintf("in retry%s because no webhook came%s (automatic retry %d%s)", a.since(r.at()), r.patience(), n, of))
				return
			}
		}
	}
	state := string(a.Status)
	if a.Status == StatusRetry {
		state = "in retry"
	}
	if a.UpdatedAt != nil {
		state += " since its last update at " + a.clock(*a.UpdatedAt)
	}
	a.say(state)
}

// unclear is about a log whose platform has spoken and settled nothing. Silence can't fail it any more.
func (a *account) unclear(evidence Evidence, deadline time.Time, due bool) {
	if evidence.Verdict == Unclear {
		at := ""
		if received := a.log().recordedAt(); !received.IsZero() {
			at = " at " + a.clock(received)
		}
		a.say("the webhook" + at + " is unclear" + inBrackets(evidence.Status))
	}
	a.unclearProbe()
	a.probes()
	if due {
		a.then(fmt.Sprintf("it stays open until a clear webhook, a clear answer of %s or an override comes", a.platform))
		return
	}
	a.thenAt(deadline, fmt.Sprintf("it waits for a clear webhook, and from %s on %s is asked", a.clock(deadline), a.platform))
}

// silent is about a log that nothing clear or unclear is recorded of.
func (a *account) silent(deadline time.Time, dated, due bool) {
	a.probes()
	sweep, fate := "closes it", "it fails"
	if all := a.retries(); a.RetryCount < all {
		sweep, fate = "looks at it", fmt.Sprintf("it is retried (automatic retry %d of %d)", a.RetryCount+1, all)
	}
	if a.Hold != nil && a.RetryCount >= a.retries() && a.Hold.Until.After(a.Now) && (!dated || a.Hold.Until.After(deadline)) {
		a.say(fmt.Sprintf("held since %s, until %s at the latest, because %s confirms nothing",
			a.clock(a.Hold.Since), a.clock(a.Hold.Until), a.platform))
		deadline, dated, due = a.Hold.Until, true, false
	}
	switch {
	case !due:
		a.thenAt(deadline, fmt.Sprintf("if no webhook comes by %s and %s has no answer then, %s", a.clock(deadline), a.platform, fate))
		return
	case dated:
		a.say("its deadline passed at " + a.clock(deadline))
	default:
		a.say("it has no time of update and counts as due")
	}
	a.atNextSweep(fmt.Sprintf("%s: without an answer of %s %s", sweep, a.platform, fate))
}

// retries is how often the log may be retried in all.
func (a *account) retries() int { return min(a.policy.Retries[a.Platform], a.MaxRetries) }

// deadline is when an open log is due; false for a row that has no time of update, which is due at once.
func (a *account) deadline() (time.Time, bool) {
	if a.UpdatedAt == nil {
		return time.Time{}, false
	}
	// A receipt counts until the row is written again.
	if last := a.last(); last != nil && last.Type == EventExtended && !last.Timestamp.Before(*a.UpdatedAt) {
		if extended := last.time("deadline"); !extended.IsZero() {
			return extended, true
		}
	}
	return a.UpdatedAt.Add(a.policy.Timeout(a.Platform)), true
}

// last is the newest receipt about an open log; nil when there is none.
func (a *account) last() *receipt {
	for _, r := range slices.Backward(a.chapter) {
		switch r.Type {
		case EventReconciled, EventSkipped, EventExtended:
			return &r
		}
	}
	return nil
}

// unclearProbe tells of the platform's last answer, which settled nothing.
func (a *account) unclearProbe() {
	var at time.Time
	var status string
	if last := a.last(); last != nil && last.probe() == ProbeAnswered && last.Type != EventReconciled {
		at, status = last.Timestamp, last.text(keyProbeStatus)
	} else if a.log().probed() {
		at, status = parseTime(text(a.metadata, keyProbeTimestamp)), text(a.metadata, keyProbeStatus)
	} else {
		return
	}
	asked := ""
	if !at.IsZero() {
		asked = " at " + a.clock(at)
	}
	a.say(fmt.Sprintf("%s was asked%s and gave no clear answer%s", a.platform, asked, inBrackets(status)))
}

// probes counts the questions that went unanswered. Where nobody listens nobody was asked.
func (a *account) probes() {
	n := 0
	for _, r := range a.chapter {
		if probe := r.probe(); probe == ProbeNoAnswer || probe == ProbeBroken {
			n++
		}
	}
	if n > 0 {
		a.say(counted(n, "probe", "probes") + " unanswered")
	}
}

// waiting tells of the parked webhooks.
func (a *account) waiting() {
	switch {
	case a.Parked == 1:
		a.say("1 parked webhook of its post waits, and the next check or sweep reads it")
	case a.Parked > 1:
		a.say(fmt.Sprintf("%d parked webhooks of its post wait, and the next check or sweep reads them", a.Parked))
	}
}

func (a *account) closed() {
	reason := Reason(text(a.metadata, keyReason))
	switch {
	case a.decided != nil && a.decided.Type == EventOverridden:
		reason = ReasonOverridden
	case a.decided != nil && a.decided.reason() != "":
		reason = a.decided.reason()
	}
	forgotten := a.before == nil && (reasonOf[reason] == a.Status || reason == ReasonOverridden)
	if a.decided == nil && !forgotten {
		a.closedByAnother()
	} else {
		a.say(fmt.Sprintf("%s%s %s", a.Status, a.closedAt(), a.why(reason)))
	}
	if reason == ReasonWebhookTimeout && a.Status == StatusFailed {
		retried := 0
		for _, r := range a.chapter {
			if r.action() == MarkedRetry {
				retried++
			}
		}
		if retried > 0 {
			a.say(counted(retried, "automatic retry", "automatic retries") + " used up")
		}
		a.probes()
	}
	for _, r := range slices.Backward(a.later) {
		if r.Type == EventWebhookReceived && r.reason() == ReasonAlreadyFinal {
			at := ""
			if r.at() != nil {
				at = " at " + a.clock(r.Timestamp)
			}
			a.say("a webhook" + at + " changed nothing" + inBrackets(r.text("webhook_status")))
			break
		}
	}
	if a.Status == StatusSuccess {
		a.removed()
	}
	a.waiting()
	if a.log().failedByTimeout() && !a.policy.IgnoreLate {
		a.then("a late webhook would still correct it")
	} else {
		a.then(unlessOverridden)
	}
}

// removed tells of a success that the platform took down since.
func (a *account) removed() {
	for _, r := range slices.Backward(a.later) {
		if r.Type == EventRemoved {
			at := ""
			if r.at() != nil {
				at = " at " + a.clock(r.Timestamp)
			}
			a.say(a.platform + " removed it" + at)
			return
		}
	}
}

// reasonOf is the status that a reason leads to, for logs whose ledger does not reach back to the decision.
var reasonOf = map[Reason]Status{
	ReasonWebhookConfirmed: StatusSuccess,
	ReasonProbeConfirmed:   StatusSuccess,
	ReasonWebhookLate:      StatusSuccess,
	ReasonWebhookRejected:  StatusFailed,
	ReasonProbeRejected:    StatusFailed,
	ReasonWebhookTimeout:   StatusFailed,
}

func (a *account) closedByAnother() {
	at := a.UpdatedAt
	if a.Status == StatusSuccess && a.PublishedAt != nil {
		at = a.PublishedAt
	}
	a.say(fmt.Sprintf("%s%s because another writer made it so: the ledger has no such decision", a.Status, a.since(at)))
	if words := a.words(); words != "" && a.Status == StatusFailed {
		a.say("its error is " + quote(words))
	}
}

// closedAt is when the service closed the log.
func (a *account) closedAt() string {
	if a.decided != nil && a.decided.at() != nil {
		return " at " + a.clock(a.decided.Timestamp)
	}
	if at := parseTime(text(a.metadata, keyReconciledAt)); !at.IsZero() {
		return " at " + a.clock(at)
	}
	return ""
}

// words are what the row holds as its error.
func (a *account) words() string {
	if a.ErrorMessage == nil {
		return ""
	}
	return *a.ErrorMessage
}

// why is the clause about a decision of the service's.
func (a *account) why(reason Reason) string {
	var decided receipt // of nothing, where the ledger does not reach back
	if a.decided != nil {
		decided = *a.decided
	}
	heard := cmp.Or(decided.text("webhook_status"), text(a.metadata, keyStatus))
	asked := cmp.Or(decided.text(keyProbeStatus), text(a.metadata, keyProbeStatus), decided.text("webhook_status"))
	switch reason {
	case ReasonWebhookConfirmed:
		return "because a webhook confirmed it" + inBrackets(heard)
	case ReasonProbeConfirmed:
		return fmt.Sprintf("because %s confirmed it when asked%s", a.platform, inBrackets(asked))
	case ReasonWebhookLate:
		after := ""
		if a.before != nil && a.before.closes() == StatusFailed && a.before.at() != nil {
			after = ", after it had failed at " + a.clock(a.before.Timestamp)
		}
		return "because a late webhook confirmed it" + inBrackets(heard) + after
	case ReasonWebhookRejected:
		return fmt.Sprintf("because %s rejected it%s", a.platform, afterColon(cmp.Or(a.words(), heard)))
	case ReasonProbeRejected:
		return fmt.Sprintf("because %s rejected it when asked%s", a.platform, afterColon(cmp.Or(a.words(), asked)))
	case ReasonWebhookTimeout:
		return "because no webhook came" + decided.patience()
	case ReasonOverridden:
		actor, from := "an operator", ""
		if words := decided.text("actor"); words != "" {
			actor = name(words)
		}
		if words := decided.text("from"); words != "" {
			from = " from " + name(words)
		}
		return fmt.Sprintf("because %s overrode it%s%s", actor, from, inBrackets(decided.text("note")))
	case "":
		return "for a reason that was not written down"
	default:
		return "for the reason " + quote(string(reason))
	}
}

// since is empty for a moment that is not known.
func (a *account) since(at *time.Time) string {
	if at == nil {
		return ""
	}
	return " since " + a.clock(*at)
}

// clock has the date too when it isn't today's.
func (a *account) clock(t time.Time) string {
	t = t.UTC()
	if t.Format(time.DateOnly) == a.Now.UTC().Format(time.DateOnly) {
		return t.Format("15:04:05 UTC")
	}
	return t.Format("2006-01-02 15:04:05 UTC")
}
