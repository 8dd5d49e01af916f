package simulate

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"time"

	"publish-reconciler/reconciler"
	"publish-reconciler/streams"
)

// verdict is what came of comparing a log with its story.
type verdict struct {
	// overtaken tells that the log's deadline passed before JetStream had its webhook.
	overtaken bool
	faults    []string
}

func (v *verdict) fault(format string, args ...any) {
	v.faults = append(v.faults, fmt.Sprintf(format, args...))
}

// want tells of a value that is not as it must be.
func want[T comparable](v *verdict, what string, got, wanted T) {
	if got != wanted {
		v.fault("%s is %s, must be %s", what, shown(got), shown(wanted))
	}
}

func shown(value any) string {
	text := fmt.Sprint(value)
	if text == "" {
		return "empty"
	}
	if len(text) > 200 {
		text = text[:200] + "…"
	}
	return strconv.Quote(text)
}

// judgement is about one log.
type judgement struct {
	*verdict
	s    *Simulation
	log  Log
	post string
	want Outcome
	found
	changes []event
}

// judge compares a log with its story. It asks for nothing that a redelivery, a second replica or a moment's
// delay may change, and for everything else.
func (s *Simulation) judge(log Log, f found) *verdict {
	j := judgement{verdict: &verdict{}, s: s, log: log, post: s.cfg.Run.post(log), want: log.Outcome, found: f}
	for _, e := range f.ledger {
		if e.kind == reconciler.EventReconciled {
			j.changes = append(j.changes, e)
		}
	}
	if late := outcomes[log.Kind].overtaken; late != nil && slices.ContainsFunc(j.changes, byTimeout) {
		j.want, j.overtaken = *late, true
	}
	if f.row == nil {
		j.fault("there is no row")
	} else {
		j.judgeRow()
		j.judgeMetadata()
	}
	j.judgeChanges()
	j.judgeHaste()
	j.judgeOtherEvents()
	j.judgeMail()
	return j.verdict
}

func byTimeout(e event) bool { return e.Reason == reconciler.ReasonWebhookTimeout }

func (j *judgement) judgeRow() {
	r := j.row
	want(j.verdict, "status", r.Status, j.want.Status)
	want(j.verdict, "platform", r.Platform, j.log.Platform)
	want(j.verdict, "external_post_id", r.Post, j.post)
	url := j.s.cfg.Run.fill(j.log.OwnURL, j.log)
	if url == "" && j.want.Status == reconciler.StatusSuccess {
		url = j.s.cfg.Run.fill(j.log.Says.URL, j.log)
	}
	want(j.verdict, "external_url", r.URL, url)
	want(j.verdict, "error_message", r.Error, j.errorMessage())
	want(j.verdict, "published_at is set", r.PublishedAt != nil, j.want.Status == reconciler.StatusSuccess)
	want(j.verdict, "last_retry_at is set", r.RetriedAt != nil, false)
	want(j.verdict, "retry_count", r.RetryCount, 0)
	want(j.verdict, "parked webhooks", j.parked, 0)
}

// errorMessage is what the row must tell of a failure. The patience is a check's, which is the story's, or that
// of a sweep, which is the service's.
func (j *judgement) errorMessage() string {
	switch {
	case j.want.Status != reconciler.StatusFailed:
		return ""
	case j.want.Reason == reconciler.ReasonWebhookRejected:
		return j.log.Says.Error
	}
	patience := j.s.cfg.Plan.Timeout.Minutes()
	if len(j.changes) > 0 {
		if minutes, err := j.changes[0].TimeoutMinutes.Float64(); err == nil {
			patience = minutes
		}
	}
	return fmt.Sprintf("No webhook received after %s minutes", strconv.FormatFloat(patience, 'f', -1, 64))
}

func (j *judgement) judgeMetadata() {
	wanted := j.s.ownMetadata(j.log)
	status := any(nil)
	if says := j.heard(); says != nil {
		for name, value := range says.Fields {
			if text, ok := value.(string); ok {
				value = j.s.cfg.Run.fill(text, j.log)
			}
			if name != "status" { // which has a place of its own
				wanted[name] = value
			}
		}
		status = says.Status
		wanted["webhook_received"], wanted["webhook_platform"] = true, j.log.Platform
		want(j.verdict, "webhook_timestamp is a time", isTime(j.row.Metadata["webhook_timestamp"]), true)
	} else {
		wanted["webhook_received"] = nil
	}
	wanted["webhook_status"] = status
	wanted["reconciled"], wanted["reconciliation_reason"], wanted["reconciliation_trigger"] = nil, nil, nil
	if n := len(j.want.Changes); n > 0 {
		wanted["reconciled"], wanted["reconciliation_reason"] = true, string(j.want.Reason)
		delete(wanted, "reconciliation_trigger")
		if m := len(j.changes); m > 0 {
			wanted["reconciliation_trigger"] = string(j.changes[m-1].Trigger)
		}
		want(j.verdict, "reconciled_at is a time", isTime(j.row.Metadata["reconciled_at"]), true)
	}
	for name, value := range wanted {
		if got := j.row.Metadata[name]; !reflect.DeepEqual(asJSON(got), asJSON(value)) {
			j.fault("extra_metadata.%s is %s, must be %s", name, shown(got), shown(value))
		}
	}
}

// heard is the webhook that the row must hold in the end; nil for none.
func (j *judgement) heard() *Says {
	if j.log.Kind == Unclear {
		vague := review()
		return &vague
	}
	return j.log.Says
}

// asJSON makes values comparable that were read from JSON, or are to be.
func asJSON(value any) any {
	text, err := json.Marshal(value)
	if err != nil {
		return value
	}
	var same any
	_ = json.Unmarshal(text, &same) // it was just made
	return same
}

func isTime(value any) bool {
	text, _ := value.(string)
	_, err := time.Parse(time.RFC3339Nano, text)
	return err == nil
}

// judgeChanges wants exactly the moves of the story, in their order.
func (j *judgement) judgeChanges() {
	moves := make([]Change, len(j.changes))
	for i, e := range j.changes {
		moves[i] = Change{e.Action, e.Reason}
	}
	if !slices.Equal(moves, j.want.Changes) {
		j.fault("the ledger tells the state changes %v, must be %v", moves, j.want.Changes)
		return
	}
	for i, e := range j.changes {
		what := fmt.Sprintf("of state change %d the ", i+1)
		severity, triggers := reconciler.SeverityInfo, []reconciler.Trigger{reconciler.TriggerWebhook}
		if e.Action != reconciler.MarkedSuccess {
			severity = reconciler.SeverityWarn
		}
		unasked := []reconciler.Trigger{reconciler.TriggerCheck, reconciler.TriggerSweep, reconciler.TriggerAPI}
		switch {
		case e.Reason == reconciler.ReasonWebhookTimeout:
			triggers = unasked
			j.judgeDeadline(what, e)
		case j.log.Kind == BeforeRow:
			triggers = append(triggers, unasked...) // its webhook may be delivered once more
		}
		want(j.verdict, what+"severity", e.severity, severity)
		want(j.verdict, what+"platform", e.Platform, j.log.Platform)
		want(j.verdict, what+"external_post_id", e.Post, j.post)
		if !slices.Contains(triggers, e.Trigger) {
			j.fault("%strigger is %s, must be one of %v", what, shown(e.Trigger), triggers)
		}
	}
}

// judgeDeadline wants nobody to lose patience too early.
func (j *judgement) judgeDeadline(what string, e event) {
	if e.Deadline.IsZero() || e.at.Before(e.Deadline) {
		j.fault("%sdeadline is %s, must not be after the change at %s", what, e.Deadline.Format(time.RFC3339Nano), e.at.UTC().Format(time.RFC3339Nano))
	}
	if e.Trigger != reconciler.TriggerCheck {
		return
	}
	timeout := j.s.cfg.Plan.Timeout
	minutes, err := e.TimeoutMinutes.Float64()
	if err != nil || minutes != timeout.Minutes() {
		j.fault("%stimeout_minutes is %s, must be %v", what, shown(e.TimeoutMinutes), timeout.Minutes())
	}
	if j.row == nil || j.row.CreatedAt == nil {
		return
	}
	if waited := e.at.Sub(*j.row.CreatedAt); waited < timeout {
		j.fault("%stime is %s after the row's, must be %s at least", what, waited, timeout)
	}
}

// judgeHaste wants nobody to give up on a log whose webhook JetStream had in time. The clocks of its server and of
// Postgres may differ by a second, or a fifth of the patience.
func (j *judgement) judgeHaste() {
	if !j.overtaken || j.row == nil {
		return
	}
	tolerance := min(time.Second, j.s.cfg.Plan.Timeout/5)
	text, _ := j.row.Metadata["webhook_timestamp"].(string)
	stored, err := time.Parse(time.RFC3339Nano, text)
	if deadline := j.changes[slices.IndexFunc(j.changes, byTimeout)].Deadline; err == nil && stored.Before(deadline.Add(-tolerance)) {
		j.fault("it has failed at its deadline, %s, and its webhook had been stored at %s", deadline.Format(time.RFC3339Nano), text)
	}
}

// judgeOtherEvents wants each webhook recorded once, and each unclear one told once.
func (j *judgement) judgeOtherEvents() {
	received, skipped := make(map[string]int), make(map[string]int)
	for _, e := range j.ledger {
		switch e.kind {
		case reconciler.EventReconciled:
		case reconciler.EventWebhookReceived:
			received[e.WebhookStatus]++
		case reconciler.EventSkipped:
			skipped[e.WebhookStatus]++
			want(j.verdict, "the reason of the skip", e.Reason, reconciler.ReasonWebhookUnclear)
		default:
			j.fault("the ledger has an event %s, which nothing called for", shown(e.kind))
		}
	}
	vague, skips := received[vagueStatus], skipped[vagueStatus]
	delete(received, vagueStatus)
	delete(skipped, vagueStatus)
	least, most := 0, 0
	switch j.log.Kind {
	case Unclear, Reviewed:
		least, most = 1, 1
	case Reordered: // nothing is recorded of it once the clear one was read
		most = 1
	case Confirmed, Rejected, Duplicate, Late, Lost, BeforeRow, Malformed:
	}
	if vague < least || vague > most {
		j.fault("the unclear webhook was recorded %d times, must be from %d to %d", vague, least, most)
	}
	wantedSkips := vague
	if j.overtaken {
		wantedSkips = 0 // it had failed already
	}
	want(j.verdict, "the number of skips that the ledger tells", skips, wantedSkips)
	if j.log.Says != nil {
		want(j.verdict, "the number of webhooks that the ledger tells with status "+shown(j.log.Says.Status), received[j.log.Says.Status], 1)
		delete(received, j.log.Says.Status)
	}
	for status, n := range received {
		j.fault("the ledger tells %d webhooks with status %s, which nobody sent", n, shown(status))
	}
	for status, n := range skipped {
		j.fault("the ledger tells %d skips for status %s, which nobody sent", n, shown(status))
	}
}

// judgeMail wants a dead letter for what is broken, an outcome event for each change, and nothing else.
func (j *judgement) judgeMail() {
	for _, subject := range j.left {
		j.fault("a message is left on %s", subject)
	}
	seen := make(map[string]bool)
	for _, l := range j.letters {
		switch {
		case l.kind != streams.KindWebhook || l.reason != j.log.Dead || l.body != j.brokenBody():
			j.fault("there is a dead letter on %s with reason %s: %s", streams.DeadSubject(l.kind), shown(l.reason), shown(l.body))
		case seen[l.original]:
			j.fault("there are two dead letters of the message at sequence %s", l.original)
		}
		seen[l.original] = true
	}
	if j.log.Dead != "" && len(j.letters) == 0 {
		j.fault("there is no dead letter of its broken webhook, must be one with reason %s", shown(j.log.Dead))
	}
	if !j.s.cfg.Events {
		return
	}
	for _, e := range j.changes {
		if !j.told[e.id] {
			j.fault("there is no outcome event of the change that the ledger has as %s", e.id)
		}
	}
	for id := range j.told {
		if !slices.ContainsFunc(j.changes, func(e event) bool { return e.id == id }) {
			j.fault("there is an outcome event %s of a change that the ledger does not have", id)
		}
	}
}

func (j *judgement) brokenBody() string {
	for _, step := range j.log.Steps {
		if step.Do == Broken {
			return j.s.cfg.Run.fill(step.Body, j.log)
		}
	}
	return ""
}
