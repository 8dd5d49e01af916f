package repo

import (
	"context"
	"time"
)

// pruneLedgerSQL goes by ledger_events_timestamp_idx, which has the events of logs alone: others may keep events of their own
// in the table. The ids are an array whose length the planner can't see: a join might be planned as a hash of the whole
// ledger. The times let it leave out partitions.
const pruneLedgerSQL = `
WITH old AS (
    SELECT id FROM ledger_events
     WHERE timestamp < $1 AND entity_type = 'publish_log'
     ORDER BY timestamp
     LIMIT $2
       FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM ledger_events
     WHERE id = ANY (ARRAY(SELECT id FROM old)) AND timestamp < $1 AND entity_type = 'publish_log'
    RETURNING id
)
SELECT count(*) FROM gone`

// PruneLedger deletes events of logs that are older than before, oldest first, at most limit of them in one transaction.
func (s *Store) PruneLedger(ctx context.Context, before time.Time, limit int) (deleted int, err error) {
	return s.prune(ctx, "delete old ledger events", pruneLedgerSQL, before, limit)
}

// pruneParkedSQL leaves alone what a transaction is just handing to its log.
const pruneParkedSQL = `
WITH old AS (
    SELECT id FROM parked_webhooks
     WHERE received_at < $1
     ORDER BY received_at
     LIMIT $2
       FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM parked_webhooks WHERE id = ANY (ARRAY(SELECT id FROM old)) RETURNING id
)
SELECT count(*) FROM gone`

// PruneParked deletes parked webhooks that came before a time, oldest first, at most limit of them in one transaction.
func (s *Store) PruneParked(ctx context.Context, before time.Time, limit int) (deleted int, err error) {
	return s.prune(ctx, "delete old parked webhooks", pruneParkedSQL, before, limit)
}

func (s *Store) prune(ctx context.Context, what, sql string, before time.Time, limit int) (deleted int, err error) {
	ctx, cancel := s.limit(ctx, what)
	defer cancel()
	if err := s.pool.QueryRow(ctx, sql, before, limit).Scan(&deleted); err != nil {
		return 0, translate(ctx, err)
	}
	return deleted, nil
}
