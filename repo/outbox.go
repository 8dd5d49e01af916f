package repo

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"publish-reconciler/reconciler"
)

const outboxSQL = `
INSERT INTO publish_outbox (id, platform, outcome, body)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[])`

func queueOutbox(batch *pgx.Batch, changes reconciler.Changes) error {
	n := len(changes.Outbox)
	if n == 0 {
		return nil
	}
	ids, platforms := make([]uuid.UUID, n), make([]string, n)
	outcomes, bodies := make([]string, n), make([]string, n)
	for i, change := range changes.Outbox {
		body, err := json.Marshal(change)
		if err != nil {
			return fmt.Errorf("outcome event of log %s: %w", change.LogID, err)
		}
		ids[i], platforms[i], outcomes[i], bodies[i] = change.ID, change.Platform, string(change.To), string(body)
	}
	batch.Queue(outboxSQL, ids, platforms, outcomes, bodies)
	return nil
}

const (
	lockOutboxSQL = `
SELECT id, platform, outcome, body FROM publish_outbox ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED`
	drainOutboxSQL = `DELETE FROM publish_outbox WHERE id = ANY ($1::uuid[])`
)

// DrainOutbox hands the oldest events, at most limit, to publish, and deletes them when that returns nil;
// it returns how many there were. A crash in between hands them out again: publish must be safe to repeat.
// Several may drain at once; each event is in the hands of one.
func (s *Store) DrainOutbox(ctx context.Context, limit int, publish func(context.Context, []reconciler.OutboxEvent) error) (n int, err error) {
	ctx, cancel := s.limit(ctx, "drain the outbox")
	defer cancel()
	var untold error
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, lockOutboxSQL, limit)
		if err != nil {
			return err
		}
		events, err := pgx.CollectRows(rows, pgx.RowToStructByPos[reconciler.OutboxEvent])
		if err != nil || len(events) == 0 {
			return err
		}
		if untold = publish(ctx, events); untold != nil {
			return untold
		}
		ids := make([]uuid.UUID, len(events))
		for i, event := range events {
			ids[i] = event.ID
		}
		n = len(events)
		_, err = tx.Exec(ctx, drainOutboxSQL, ids)
		return err
	})
	switch {
	case untold != nil:
		return 0, untold
	case err != nil:
		return 0, translate(ctx, err)
	}
	return n, nil
}

// Outboxed has a token when this store wrote to the outbox since the last one was taken.
func (s *Store) Outboxed() <-chan struct{} { return s.outboxed }

func (s *Store) wakeOutbox() {
	select {
	case s.outboxed <- struct{}{}:
	default:
	}
}
