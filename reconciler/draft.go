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
}

func newDraft(locked LockedLog) *draft {
	return &draft{
		log:    locked.Log,
		parked: locked.Parked,
		row:    RowChange{LogID: locked.ID, Status: locked.Status},
	}
}

// apply carries out what was decided on a question and returns it.
func (d *draft) apply(decision Decision, q Question, now time.Time) Decision {
	if decision.Record {
		// Not the decision's evidence: that may be a probe's answer.
		d.merge(q.Webhook.Fields, now)
		d.note(d.receivedEvent(*q.Webhook, decision.Reason))
	}
	if decision.Action != "" {
		from := d.log.Status
		d.act(decision, q.Trigger, now)
		event := d.reconciledEvent(decision, q.Trigger)
		d.note(event)
		d.changes = append(d.changes, StateChange{
			ID:             event.ID,
			LogID:          d.log.ID,
			Platform:       d.log.Post.Platform,
			ExternalPostID: d.log.Post.ExternalPostID,
			From:           from,
			To:             d.log.Status,
			Reason:         decision.Reason,
			Trigger:        q.Trigger,
			URL:            tellable(d.log.ExternalURL),
			Time:           now.UTC(),
		})
	}
	if decision.Skipped {
		d.note(d.skippedEvent(decision, q.Trigger))
	}
	return decision
}

func (d *draft) act(decision Decision, trigger Trigger, now time.Time) {
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

func (d *draft) receivedEvent(webhook Evidence, reason Reason) Event {
	event := Event{
		ID:       uuid.Must(uuid.NewV7()),
		LogID:    d.log.ID,
		Type:     EventWebhookReceived,
		Severity: SeverityInfo,
		Metadata: map[string]any{
			"platform":         d.log.Post.Platform,
			"external_post_id": d.log.Post.ExternalPostID,
			"webhook_status":   orNull(webhook.Status),
		},
	}
	if reason == ReasonAlreadyFinal {
		event.Severity = SeverityWarn
		event.Metadata["reason"] = string(reason)
	}
	return event
}

func (d *draft) reconciledEvent(decision Decision, trigger Trigger) Event {
	event := Event{
		ID:       uuid.Must(uuid.NewV7()),
		LogID:    d.log.ID,
		Type:     EventReconciled,
		Severity: SeverityWarn,
		Metadata: map[string]any{
			"platform":         d.log.Post.Platform,
			"external_post_id": orNull(d.log.Post.ExternalPostID),
			"action":           string(decision.Action),
			"reason":           string(decision.Reason),
			"trigger":          string(trigger),
		},
	}
	switch {
	case decision.Action == MarkedSuccess:
		event.Severity = SeverityInfo
	case decision.Evidence.Verdict == NoEvidence:
		event.Metadata["timeout_minutes"] = decision.Timeout.Minutes()
	}
	if decision.Action == MarkedRetry {
		event.Metadata["retry_count"] = d.log.RetryCount
	}
	if decision.Evidence.Verdict != NoEvidence {
		event.Metadata["webhook_status"] = orNull(decision.Evidence.Status)
	}
	return event
}

// skippedEvent has an id made from the log and the status, so that the ledger keeps it once.
func (d *draft) skippedEvent(decision Decision, trigger Trigger) Event {
	return Event{
		ID:       uuid.NewSHA1(d.log.ID, []byte(string(EventSkipped)+" "+decision.Evidence.Status)),
		Once:     true,
		LogID:    d.log.ID,
		Type:     EventSkipped,
		Severity: SeverityWarn,
		Metadata: map[string]any{
			"platform":       d.log.Post.Platform,
			"reason":         string(decision.Reason),
			"webhook_status": orNull(decision.Evidence.Status),
			"trigger":        string(trigger),
		},
	}
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
}
