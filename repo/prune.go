package repo

import (
	"context"
	"time"

	"github.com/google/uuid"
)

// pruneLedgerSQL goes by ledger_events_timestamp_idx. Others may keep events of their own in the table: they are left.
// The ids are an array whose length the planner can't see: a join might be planned as a hash of the whole ledger.
const pruneLedgerSQL = `
WITH old AS (
    SELECT id, timestamp FROM ledger_events
     WHERE timestamp >= $1 AND timestamp < $2 AND entity_type = 'publish_log'
     ORDER BY timestamp
     LIMIT $3
), gone AS (
    DELETE FROM ledger_events WHERE id = ANY (ARRAY(SELECT id FROM old))
)
SELECT count(*), coalesce(max(timestamp), $2) FROM old`

// PruneLedger deletes events of logs that are older than before, oldest first, at most limit of them in one transaction.
// From is the time from which on it looks; next is that of the call after this one.
func (s *Store) PruneLedger(ctx context.Context, from, before time.Time, limit int) (deleted int, next time.Time, err error) {
	ctx, cancel := s.limit(ctx, "delete old ledger events")
	defer cancel()
	if err := s.pool.QueryRow(ctx, pruneLedgerSQL, from, before, limit).Scan(&deleted, &next); err != nil {
		return 0, from, translate(ctx, err)
	}
	return deleted, next, nil
}

const pruneParkedSQL = `
WITH page AS (
    SELECT id, received_at FROM parked_webhooks WHERE id > $1 ORDER BY id LIMIT $3
), gone AS (
    DELETE FROM parked_webhooks p USING page WHERE p.id = page.id AND page.received_at < $2 RETURNING p.id
)
SELECT (SELECT count(*) FROM gone), (SELECT id FROM page ORDER BY id DESC LIMIT 1)`

// PruneParked looks at limit parked webhooks in the order of their ids, from beyond after, and deletes those that came
// before a time. Last is the last one looked at; uuid.Nil when there was none.
func (s *Store) PruneParked(ctx context.Context, after uuid.UUID, before time.Time, limit int) (deleted int, last uuid.UUID, err error) {
	ctx, cancel := s.limit(ctx, "delete old parked webhooks")
	defer cancel()
	var found *uuid.UUID
	if err := s.pool.QueryRow(ctx, pruneParkedSQL, after, before, limit).Scan(&deleted, &found); err != nil {
		return 0, after, translate(ctx, err)
	}
	if found == nil {
		return deleted, uuid.Nil, nil
	}
	return deleted, *found, nil
}
