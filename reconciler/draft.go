package reconciler

import (
	"maps"
	"time"

	"github.com/google/uuid"
)

// draft gathers what a transaction does to one log: several messages may be about it, each is decided on
// the state the one before left, and the row is written once.
type draft struct {
	log     Log
	parked  []ParkedWebhook
	row     RowChange
	dirty   bool
	events  []Event
	changes []StateChange
	told    map[uuid.UUID]bool // the events that are told once
	sign    Sign
	// observations are what the decisions came to.
	observations []Observation
}

func newDraft(locked LockedLog) *draft {
	return &draft{
		log:    locked.Log,
		parked: locked.Parked,
		row:    RowChange{LogID: locked.ID, Status: locked.Status},
		sign:   Sign{Platform: locked.Post.Platform},
	}
}

// apply carries out what was decided on a question and returns it.
func (d *draft) apply(decision Decision, q Question, now time.Time) Decision {
	d.observe(decision, q.Trigger)
	if decision.Record {
		d.sign.Confirmed = d.sign.Confirmed || q.Webhook.Verdict == Confirmed
		// Not the decision's evidence: that may be a probe's answer.
		d.merge(q.Webhook.Fields, now)
		d.note(d.receivedEvent(*q.Webhook, decision.Reason))
	}
	if decision.Removed {
		d.note(d.removedEvent(*q.Webhook))
	}
	switch {
	case decision.Action != "":
		d.sign.Confirmed = d.sign.Confirmed || decision.Action == MarkedSuccess
		d.sign.Silent = d.sign.Silent || decision.Silent
		from := d.act(decision, q.Trigger, now)
		d.tell(d.reconciledEvent(decision, q), from, decision.Reason, q.Trigger, now)
	case decision.Reason == ReasonProbeUnclear:
		d.merge(map[string]any{
			keyProbeStatus:    orNull(decision.Evidence.Status),
			keyProbeTimestamp: now.UTC().Format(time.RFC3339Nano),
		}, now)
		d.note(d.extendedEvent(decision, q))
	case decision.Reason == ReasonPlatformHold:
		d.note(d.heldEvent(decision, q))
	case decision.Skipped:
		d.note(d.skippedEvent(decision, q))
	}
	return decision
}

// override carries out what an operator said.
func (d *draft) override(o Override, now time.Time) StateChange {
	decision := Decision{Action: MarkedSuccess, Reason: ReasonOverridden, Evidence: d.log.recorded()}
	if o.Status == StatusFailed {
		decision.Action, decision.Error = MarkedFailed, "Marked failed by "+o.Actor
		if o.Note != "" {
			decision.Error += ": " + o.Note
		}
	}
	d.observe(decision, TriggerOverride)
	from := d.act(decision, TriggerOverride, now)
	return d.tell(d.overriddenEvent(o, from), from, decision.Reason, TriggerOverride, now)
}

// act moves the log and returns the status it had.
func (d *draft) act(decision Decision, trigger Trigger, now time.Time) (from Status) {
	from = d.log.Status
	d.log.Status = decision.Action.status()
	d.row.Status = d.log.Status
	switch decision.Action {
	case MarkedSuccess:
		cleared := ""
		d.row.Error = &cleared
		d.row.Published = true
		if d.log.ExternalURL == "" {
			d.row.ExternalURL = decision.Evidence.URL
			d.log.ExternalURL = decision.Evidence.URL
		}
	case MarkedFailed:
		d.row.Error = &decision.Error
	case MarkedRetry:
		d.log.RetryCount++
		d.row.Retried, d.row.RetryCount = true, d.log.RetryCount
	}
	d.merge(map[string]any{
		keyReconciled:   true,
		keyReconciledAt: now.UTC().Format(time.RFC3339Nano),
		keyReason:       string(decision.Reason),
		keyTrigger:      string(trigger),
	}, now)
	return from
}

// tell notes the event of a state change, and the change under its id.
func (d *draft) tell(event Event, from Status, reason Reason, trigger Trigger, now time.Time) StateChange {
	d.note(event)
	change := StateChange{
		ID:             event.ID,
		LogID:          d.log.ID,
		Platform:       cut(d.log.Post.Platform),
		ExternalPostID: cut(d.log.Post.ExternalPostID),
		From:           from,
		To:             d.log.Status,
		Reason:         reason,
		Trigger:        trigger,
		URL:            tellable(d.log.ExternalURL),
		Time:           now.UTC(),
	}
	d.changes = append(d.changes, change)
	return change
}

// merge writes into extra_metadata, both of the row and of the state that the next message is decided on.
func (d *draft) merge(fields map[string]any, now time.Time) {
	d.dirty = true
	d.log.UpdatedAt = now
	if d.row.Metadata == nil {
		d.row.Metadata = make(map[string]any, len(fields))
	}
	if d.log.Metadata == nil {
		d.log.Metadata = make(map[string]any, len(fields))
	}
	maps.Copy(d.row.Metadata, fields)
	maps.Copy(d.log.Metadata, fields)
}

func (d *draft) note(event Event) {
	if event.Once {
		if d.told[event.ID] {
			return
		}
		if d.told == nil {
			d.told = make(map[uuid.UUID]bool, 1)
		}
		d.told[event.ID] = true
	}
	d.events = append(d.events, event)
}

// event is a new line of the log's history.
func (d *draft) event(kind EventType, severity Severity, metadata map[string]any) Event {
	return Event{ID: uuid.Must(uuid.NewV7()), LogID: d.log.ID, Type: kind, Severity: severity, Metadata: metadata}
}

// eventOnce has an id made from the log and a key, so that the ledger keeps it once for each.
func (d *draft) eventOnce(kind EventType, key string, severity Severity, metadata map[string]any) Event {
	event := d.event(kind, severity, metadata)
	event.ID, event.Once = uuid.NewSHA1(d.log.ID, []byte(string(kind)+" "+key)), true
	return event
}

// receipt is what every decision's event tells of how it came about: the evidence, and the patience in force.
func (d *draft) receipt(decision Decision, q Question) map[string]any {
	receipt := map[string]any{
		"platform": d.log.Post.Platform,
		"reason":   string(decision.Reason),
		"trigger":  string(q.Trigger),
	}
	if decision.Reason != ReasonWebhookLate { // that log's deadline is in the receipt of its failure
		receipt["timeout_minutes"] = decision.Timeout.Minutes()
		receipt["deadline"] = decision.Deadline.UTC().Format(time.RFC3339Nano)
	}
	if decision.Evidence.Verdict != NoEvidence && !decision.Probed {
		receipt["webhook_status"] = orNull(decision.Evidence.Status)
		if at := decision.Evidence.ReceivedAt; !at.IsZero() {
			receipt[keyTimestamp] = at.UTC().Format(time.RFC3339Nano)
		}
	}
	if q.Probe != nil && q.Probe.Result != "" {
		receipt["probe"] = string(q.Probe.Result)
	}
	if decision.Probed {
		receipt[keyProbeStatus] = orNull(decision.Evidence.Status)
	}
	return receipt
}

func (d *draft) receivedEvent(webhook Evidence, reason Reason) Event {
	severity, metadata := SeverityInfo, map[string]any{
		"platform":         d.log.Post.Platform,
		"external_post_id": d.log.Post.ExternalPostID,
		"webhook_status":   orNull(webhook.Status),
	}
	if reason == ReasonAlreadyFinal {
		severity = SeverityWarn
		metadata["reason"] = string(reason)
	}
	return d.event(EventWebhookReceived, severity, metadata)
}

// removedEvent is told once for each event that the platform names; where it names none, once.
func (d *draft) removedEvent(webhook Evidence) Event {
	id, _ := scalarText(webhook.Fields[fieldEventID])
	return d.eventOnce(EventRemoved, id, SeverityWarn, map[string]any{
		"platform":         d.log.Post.Platform,
		"external_post_id": d.log.Post.ExternalPostID,
		"webhook_status":   webhook.Status,
		"event_id":         orNull(id),
		keyTimestamp:       webhook.ReceivedAt.UTC().Format(time.RFC3339Nano),
	})
}

func (d *draft) reconciledEvent(decision Decision, q Question) Event {
	severity, metadata := SeverityWarn, d.receipt(decision, q)
	metadata["external_post_id"] = orNull(d.log.Post.ExternalPostID)
	metadata["action"] = string(decision.Action)
	if decision.Action == MarkedSuccess {
		severity = SeverityInfo
	}
	if decision.Action == MarkedRetry {
		metadata["retry_count"] = d.log.RetryCount
	}
	return d.event(EventReconciled, severity, metadata)
}

// skippedEvent is told once for each status that the platform names.
func (d *draft) skippedEvent(decision Decision, q Question) Event {
	return d.eventOnce(EventSkipped, decision.Evidence.Status, SeverityWarn, d.receipt(decision, q))
}

// heldEvent is told once for each hold.
func (d *draft) heldEvent(decision Decision, q Question) Event {
	receipt := d.receipt(decision, q)
	since := q.Hold.Since.UTC().Format(time.RFC3339Nano)
	receipt["hold_since"], receipt["hold_until"] = since, q.Hold.Until.UTC().Format(time.RFC3339Nano)
	return d.eventOnce(EventSkipped, string(ReasonPlatformHold)+" "+since, SeverityWarn, receipt)
}

func (d *draft) extendedEvent(decision Decision, q Question) Event {
	return d.event(EventExtended, SeverityInfo, d.receipt(decision, q))
}

func (d *draft) overriddenEvent(o Override, from Status) Event {
	metadata := map[string]any{
		"from":    string(from),
		"to":      string(o.Status),
		"actor":   o.Actor,
		"trigger": string(TriggerOverride),
	}
	if o.Note != "" {
		metadata["note"] = o.Note
	}
	return d.event(EventOverridden, SeverityWarn, metadata)
}

// tellable leaves out what is no address but a publisher's mistake, and could be too large for a message.
func tellable(address string) string {
	if len(address) > MaxFieldBytes {
		return ""
	}
	return address
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// gather adds what the draft came to.
func (c *Changes) gather(d *draft) {
	if d.dirty {
		c.Rows = append(c.Rows, d.row)
	}
	c.Ledger = append(c.Ledger, d.events...)
	c.Outbox = append(c.Outbox, d.changes...)
	c.observations = append(c.observations, d.observations...)
	if d.sign.Confirmed || d.sign.Silent {
		c.Signs = append(c.Signs, d.sign)
	}
}
