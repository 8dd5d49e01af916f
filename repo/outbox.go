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
	lockToldSQL = `
SELECT sequence, batch, strays, EXISTS (SELECT FROM publish_outbox) FROM publish_outbox_told FOR UPDATE`
	readBatchSQL = `
SELECT o.id, o.platform, o.outcome, o.body
  FROM publish_outbox_told t, unnest(t.batch) WITH ORDINALITY AS b(id, place)
  JOIN publish_outbox o ON o.id = b.id
 ORDER BY b.place`
	forgetSQL = `DELETE FROM publish_outbox WHERE id = ANY ($1::uuid[])`
	// toldSQL plans the next batch where nothing is left of the one before.
	toldSQL = `
UPDATE publish_outbox_told
   SET sequence = $1, strays = $2,
       batch = CASE WHEN cardinality($3::uuid[]) > 0 THEN $3
                    ELSE ARRAY(SELECT id FROM publish_outbox ORDER BY id LIMIT $4) END
RETURNING cardinality(batch) > 0`
)

// DrainOutbox hands a batch of the oldest events, at most limit, to tell, with the sequence of the stream
// behind which they stand, forgets what tell found told, and plans the next batch. More says that there is
// one. Tell's error leaves all as it was. One drains at a time: whoever waits for another too long gets
// [reconciler.ErrLocked].
//
// An event's place is committed before it is told, and who tells it again tells it for the same place: so a
// stream that takes an event for its place alone can't take it twice. Its place changes only when something
// else has taken the places before it; then events are handed out one by one, until the stream has passed all
// the old places, for which somebody may still be late.
func (s *Store) DrainOutbox(ctx context.Context, limit int, tell reconciler.Tell) (more bool, err error) {
	ctx, cancel := s.limit(ctx, "drain the outbox")
	defer cancel()
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return false, translate(ctx, err)
	}
	defer conn.Release()
	defer rollback(conn) // what is not committed

	var plan outboxPlan
	var some bool
	var events []reconciler.OutboxEvent
	first := beginBatch()
	first.Queue(lockToldSQL).QueryRow(func(row pgx.Row) error {
		return row.Scan(&plan.sequence, &plan.batch, &plan.strays, &some)
	})
	first.Queue(readBatchSQL).Query(func(rows pgx.Rows) (err error) {
		events, err = pgx.CollectRows(rows, pgx.RowToStructByPos[reconciler.OutboxEvent])
		return err
	})
	if err := conn.SendBatch(ctx, first).Close(); err != nil {
		return false, translate(ctx, fmt.Errorf("read the outbox: %w", err))
	}
	if !some {
		return false, nil
	}
	plan = plan.of(events)
	told := reconciler.Told{Sequence: uint64(plan.sequence)}
	if len(events) > 0 {
		if plan.sequence < plan.strays {
			events = events[:1]
		}
		if told, err = tell(ctx, told.Sequence, events); err != nil {
			return false, err
		}
	}
	plan = plan.after(told)
	second := &pgx.Batch{}
	second.Queue(forgetSQL, told.Events)
	second.Queue(toldSQL, plan.sequence, plan.strays, plan.batch, limit).QueryRow(func(row pgx.Row) error { return row.Scan(&more) })
	queueCommit(second)
	if err := conn.SendBatch(ctx, second).Close(); err != nil {
		return false, translate(ctx, fmt.Errorf("forget what is told: %w", err))
	}
	return more, nil
}

// outboxPlan says which events stand next in the stream, and where.
type outboxPlan struct {
	sequence int64
	batch    []uuid.UUID
	strays   int64
}

// of is the plan without what is not in the outbox any more, because somebody took it out.
func (p outboxPlan) of(events []reconciler.OutboxEvent) outboxPlan {
	if len(events) < len(p.batch) {
		p.strays = max(p.strays, p.sequence+int64(len(p.batch)))
	}
	p.batch = make([]uuid.UUID, len(events))
	for i, event := range events {
		p.batch[i] = event.ID
	}
	return p
}

// after is what is left of the plan.
func (p outboxPlan) after(told reconciler.Told) outboxPlan {
	found := make(map[uuid.UUID]bool, len(told.Events))
	for _, id := range told.Events {
		found[id] = true
	}
	next := outboxPlan{sequence: int64(told.Sequence), strays: p.strays, batch: make([]uuid.UUID, 0, len(p.batch))}
	inPlace := next.sequence == p.sequence+int64(len(told.Events))
	for i, id := range p.batch {
		if !found[id] {
			next.batch = append(next.batch, id)
		}
		inPlace = inPlace && found[id] == (i < len(told.Events))
	}
	switch {
	case next.sequence < p.sequence:
		next.strays = 0 // a new stream, of which the old places say nothing
	case !inPlace:
		next.strays = max(p.strays, p.sequence+int64(len(p.batch)))
	}
	return next
}

// Outboxed has a token when this store wrote to the outbox since the last one was taken.
func (s *Store) Outboxed() <-chan struct{} { return s.outboxed }

func (s *Store) wakeOutbox() {
	select {
	case s.outboxed <- struct{}{}:
	default:
	}
}
