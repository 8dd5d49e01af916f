package reconciler

import (
	"fmt"
	"strconv"
	"time"
)

// DefaultTimeout is how long a platform may stay silent when nothing else is said.
const DefaultTimeout = 10 * time.Minute

// Policy is what an operator can set about the rules.
type Policy struct {
	// DefaultTimeout is the patience with a platform that Timeouts does not name. Zero means none at all.
	DefaultTimeout time.Duration
	// Timeouts is the patience with single platforms.
	Timeouts map[string]time.Duration
	// Retries is how often a log of a platform waits once more before it fails, bounded by the log's own
	// max_retries. Platforms that are not named: never.
	Retries map[string]int
	// IgnoreLate leaves a log failed that a platform confirms after its deadline.
	IgnoreLate bool
	// HoldMax is how long the logs of a platform that confirms nothing at all are held instead of failed.
	// Zero: they are failed.
	HoldMax time.Duration
}

// Timeout is the patience with a platform.
func (p Policy) Timeout(platform string) time.Duration {
	if timeout, found := p.Timeouts[platform]; found {
		return timeout
	}
	return p.DefaultTimeout
}

// Question is why a log is looked at, and what is new about it.
type Question struct {
	Trigger Trigger
	// Webhook is new evidence: a webhook's message, or one that was parked. Nil: nothing new, only what the
	// log holds already counts.
	Webhook *Evidence
	// Probe is what came of asking the platform. Nil: it was not asked yet.
	Probe *Probe
	// Hold is the hold that the platform is under. Nil: none.
	Hold *Hold
	// Unread is when the oldest webhook was stored that nobody has read yet. Nil: all are read.
	Unread *time.Time
	// Timeout takes the place of the policy's for this look. Nil: the policy's.
	Timeout *time.Duration
}

// Action is a state change; the zero value is none.
type Action string

// The actions.
const (
	MarkedSuccess Action = "marked_success"
	MarkedFailed  Action = "marked_failed"
	MarkedRetry   Action = "marked_retry"
)

// status is the log's status after the action.
func (a Action) status() Status {
	switch a {
	case MarkedSuccess:
		return StatusSuccess
	case MarkedFailed:
		return StatusFailed
	case MarkedRetry:
		return StatusRetry
	default:
		panic("no status after action " + a)
	}
}

// Decision is what becomes of a log.
type Decision struct {
	Action Action
	Reason Reason
	// Record tells that the question's webhook is new and has to be written into the log.
	Record bool
	// Removed tells that the platform took down what it had confirmed: the log stays a success, and its ledger tells.
	Removed bool
	// Skipped tells that the log stays open past its deadline, or because its evidence is unclear.
	Skipped bool
	// Ask tells that the platform's word would count: the deadline has passed, and no webhook was clear.
	Ask bool
	// Silent tells that the deadline has passed and the platform has never said a word.
	Silent bool
	// Evidence is what the decision rests on, and Probed tells that it is a probe's answer.
	Evidence Evidence
	Probed   bool
	// Timeout is the patience in force, and Deadline when it ends; where the reason is
	// [ReasonProbeUnclear], the new one.
	Timeout  time.Duration
	Deadline time.Time
	// Error is the log's error message when it fails.
	Error string
}

// Decide is the one place where a log's fate is decided: the table of "How it decides" in the README, with
// an answer for every input. It reads no clock: now is the database's.
func Decide(log Log, q Question, policy Policy, now time.Time) Decision {
	timeout := policy.Timeout(log.Post.Platform)
	if q.Timeout != nil {
		timeout = *q.Timeout
	}
	d := Decision{
		Timeout:  timeout,
		Deadline: log.UpdatedAt.Add(timeout),
		Evidence: log.recorded(),
	}
	if q.Webhook != nil {
		// The post is out and that is recorded: whatever is said afterwards adds nothing to a success.
		d.Record = (log.Status == StatusPending || log.Status == StatusFailed || log.Status.Open()) && q.Webhook.adds(log)
		if d.Record {
			d.Evidence = *q.Webhook
		}
		// One that came before what is recorded, or is what is recorded, was told of then, and is delivered again.
		d.Removed = log.Status == StatusSuccess && q.Webhook.removed() && q.Webhook.ReceivedAt.After(log.recordedAt())
	}
	switch {
	case log.Status == StatusPending:
		d.Reason = ReasonNotStarted
	case log.Status.Open():
		d.closeOpen(log, q, policy, now)
	case log.failedByTimeout() && d.Evidence.Verdict == Confirmed && (!policy.IgnoreLate || log.inTime(d.Evidence)):
		d.Action, d.Reason = MarkedSuccess, ReasonWebhookLate
	default:
		d.Reason = ReasonAlreadyFinal
	}
	return d
}

// closeOpen decides a log in processing or retry.
func (d *Decision) closeOpen(log Log, q Question, policy Policy, now time.Time) {
	due := !now.Before(d.Deadline)
	if due && d.Evidence.Verdict == NoEvidence && q.Unread != nil && !q.Unread.After(d.Deadline) {
		d.Reason = ReasonWebhooksUnread
		return
	}
	if due && !d.Evidence.clear() {
		d.Ask = true
		if d.weigh(log, q.Probe); d.Probed && d.Evidence.Verdict == Unclear && !log.probed() {
			d.Reason, d.Skipped = ReasonProbeUnclear, true
			d.Deadline = now.Add(max(d.Timeout, policy.Timeout(log.Post.Platform)))
			return
		}
	}
	switch d.Evidence.Verdict {
	case Confirmed:
		d.Action, d.Reason = MarkedSuccess, ReasonWebhookConfirmed
		if d.Probed {
			d.Reason = ReasonProbeConfirmed
		}
	case Refused:
		d.Action, d.Reason = MarkedFailed, ReasonWebhookRejected
		if d.Probed {
			d.Reason = ReasonProbeRejected
		}
		d.Error = d.Evidence.Error
		if d.Error == "" {
			d.Error = fmt.Sprintf("The platform reported %q and gave no reason", d.Evidence.Status)
		}
	case Unclear:
		d.Reason, d.Skipped = ReasonWebhookUnclear, true
	case NoEvidence:
		if !due {
			d.Reason = ReasonNotDue
			return
		}
		d.Silent = true
		switch {
		case max(log.RetryCount, 0) < min(policy.Retries[log.Post.Platform], log.MaxRetries):
			d.Action, d.Reason = MarkedRetry, ReasonRetryBeforeFail
		case q.Hold != nil:
			d.Reason, d.Skipped = ReasonPlatformHold, true
		default:
			d.Action, d.Reason = MarkedFailed, ReasonWebhookTimeout
			d.Error = fmt.Sprintf("No webhook received after %s minutes", minutes(d.Timeout))
		}
	}
}

// weigh takes a probe's answer for the evidence: it is the platform's latest word. An unclear one counts again
// later, when nobody answers any more.
func (d *Decision) weigh(log Log, probe *Probe) {
	switch {
	case probe != nil && probe.Evidence.Verdict != NoEvidence:
		d.Evidence, d.Probed = probe.Evidence, true
	case log.probed() && d.Evidence.Verdict == NoEvidence:
		status, _ := scalarText(log.Metadata[keyProbeStatus])
		d.Evidence, d.Probed = Evidence{Verdict: Unclear, Status: status}, true
	}
}

func minutes(d time.Duration) string {
	return strconv.FormatFloat(d.Minutes(), 'f', -1, 64)
}
