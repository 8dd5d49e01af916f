package repo

import (
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"publish-reconciler/reconciler"
)

const updateSQL = `
UPDATE publish_logs l
   SET status         = c.status,
       error_message  = CASE WHEN c.error IS NULL THEN l.error_message ELSE nullif(c.error, '') END,
       external_url   = CASE WHEN coalesce(l.external_url, '') = '' AND c.url <> '' THEN c.url ELSE l.external_url END,
       published_at   = CASE WHEN c.published THEN $9 ELSE l.published_at END,
       retry_count    = CASE WHEN c.retried THEN c.retry_count ELSE l.retry_count END,
       last_retry_at  = CASE WHEN c.retried THEN $9 ELSE l.last_retry_at END,
       extra_metadata = CASE jsonb_typeof(l.extra_metadata) WHEN 'object' THEN l.extra_metadata ELSE '{}' END || c.metadata,
       updated_at     = $9::timestamptz
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bool[], $6::bool[], $7::int[], $8::jsonb[])
       AS c(id, status, error, url, published, retried, retry_count, metadata)
 WHERE l.id = c.id`

// ledgerSQL leaves out an event that is told once and stands in the log's history already. The row lock on
// the log keeps two transactions from telling it at the same time. NOT EXISTS may be planned as a hash of the whole
// ledger; a scalar sub-select never is.
const ledgerSQL = `
INSERT INTO ledger_events (id, timestamp, event_type, severity, entity_type, entity_id, metadata)
SELECT e.id, $7::timestamptz, e.type, e.severity, 'publish_log', e.entity, e.metadata
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bool[], $6::jsonb[])
       AS e(id, type, severity, entity, once, metadata)
 WHERE NOT e.once
    OR (SELECT old.id FROM ledger_events old
         WHERE old.entity_type = 'publish_log' AND old.entity_id = e.entity AND old.id = e.id LIMIT 1) IS NULL`

// parkSQL inserts in the order of the ids: two transactions that park the same webhooks hold no log's lock,
// and wait for each other's rows.
const parkSQL = `
INSERT INTO parked_webhooks (id, platform, external_post_id, payload, received_at)
SELECT *
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::jsonb[], $5::timestamptz[])
       AS p(id, platform, external_post_id, payload, received_at)
 ORDER BY p.id
    ON CONFLICT (id) DO NOTHING`

const unparkSQL = `DELETE FROM parked_webhooks WHERE id = ANY ($1::uuid[])`

func queueChanges(batch *pgx.Batch, changes reconciler.Changes, now time.Time) error {
	if err := queueUpdate(batch, changes, now); err != nil {
		return err
	}
	if err := queueLedger(batch, changes, now); err != nil {
		return err
	}
	if err := queuePark(batch, changes); err != nil {
		return err
	}
	events, err := outboxEvents(changes.Outbox)
	if err != nil {
		return err
	}
	queueOutbox(batch, events)
	if len(changes.Unpark) > 0 {
		batch.Queue(unparkSQL, changes.Unpark)
	}
	queueSigns(batch, changes) // last: all batches of a platform write the same row
	return nil
}

func queueUpdate(batch *pgx.Batch, changes reconciler.Changes, now time.Time) (err error) {
	n := len(changes.Rows)
	if n == 0 {
		return nil
	}
	ids, statuses := make([]uuid.UUID, n), make([]string, n)
	errorTexts, urls := make([]*string, n), make([]string, n)
	published, retried, retryCounts := make([]bool, n), make([]bool, n), make([]int, n)
	metadata := make([]string, n)
	var text encoder
	for i, row := range changes.Rows {
		ids[i], statuses[i] = row.LogID, string(row.Status)
		errorTexts[i], urls[i] = row.Error, row.ExternalURL
		published[i], retried[i], retryCounts[i] = row.Published, row.Retried, row.RetryCount
		if metadata[i], err = text.object(row.Metadata); err != nil {
			return fmt.Errorf("metadata of log %s: %w", row.LogID, err)
		}
	}
	batch.Queue(updateSQL, ids, statuses, errorTexts, urls, published, retried, retryCounts, metadata, now)
	return nil
}

func queueLedger(batch *pgx.Batch, changes reconciler.Changes, now time.Time) (err error) {
	n := len(changes.Ledger)
	if n == 0 {
		return nil
	}
	ids, types, severities := make([]uuid.UUID, n), make([]string, n), make([]string, n)
	entities, once, metadata := make([]string, n), make([]bool, n), make([]string, n)
	var text encoder
	for i, event := range changes.Ledger {
		ids[i], types[i], severities[i] = event.ID, string(event.Type), string(event.Severity)
		entities[i], once[i] = event.LogID.String(), event.Once
		if metadata[i], err = text.object(event.Metadata); err != nil {
			return fmt.Errorf("ledger event of log %s: %w", event.LogID, err)
		}
	}
	batch.Queue(ledgerSQL, ids, types, severities, entities, once, metadata, now)
	return nil
}

func queuePark(batch *pgx.Batch, changes reconciler.Changes) (err error) {
	n := len(changes.Park)
	if n == 0 {
		return nil
	}
	ids, platforms, posts := make([]uuid.UUID, n), make([]string, n), make([]string, n)
	payloads, received := make([]string, n), make([]time.Time, n)
	var text encoder
	for i, webhook := range changes.Park {
		ids[i], received[i] = webhook.ID, webhook.ReceivedAt
		platforms[i], posts[i] = webhook.Post.Platform, webhook.Post.ExternalPostID
		if payloads[i], err = text.object(webhook.Fields); err != nil {
			return fmt.Errorf("payload of a webhook for %s: %w", webhook.Post.ExternalPostID, err)
		}
	}
	batch.Queue(parkSQL, ids, platforms, posts, payloads, received)
	return nil
}
