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
INSERT INTO publish_outbox (id, ids, platforms, outcomes, bodies) VALUES ($1, $2, $3, $4, $5)`

func queueOutbox(batch *pgx.Batch, events []reconciler.OutboxEvent) {
	n := len(events)
	if n == 0 {
		return
	}
	ids, platforms := make([]uuid.UUID, n), make([]string, n)
	outcomes, bodies := make([]string, n), make([]string, n)
	for i, event := range events {
		ids[i], platforms[i], outcomes[i], bodies[i] = event.ID, event.Platform, event.Outcome, string(event.Body)
	}
	batch.Queue(outboxSQL, ids[0], ids, platforms, outcomes, bodies)
}

func outboxEvents(changes []reconciler.StateChange) ([]reconciler.OutboxEvent, error) {
	events := make([]reconciler.OutboxEvent, len(changes))
	for i, change := range changes {
		body, err := json.Marshal(change)
		if err != nil {
			return nil, fmt.Errorf("outcome event of log %s: %w", change.LogID, err)
		}
		events[i] = reconciler.OutboxEvent{ID: change.ID, Platform: change.Platform, Outcome: string(change.To), Body: body}
	}
	return events, nil
}

const (
	lockToldSQL = `
SELECT sequence, batch, strays, cardinality(batch) > 0 OR EXISTS (SELECT FROM publish_outbox)
  FROM publish_outbox_told
   FOR UPDATE`
	readBatchSQL = `
SELECT o.ids, o.platforms, o.outcomes, o.bodies
  FROM publish_outbox_told t
  JOIN publish_outbox o ON o.id = ANY (t.rows)`
	keepBatchSQL = `UPDATE publish_outbox_told SET sequence = $1, strays = $2, batch = $3`
	forgetSQL    = `DELETE FROM publish_outbox o USING publish_outbox_told t WHERE o.id = ANY (t.rows)`
	// forgetOthersSQL takes events out of whatever rows they are in.
	forgetOthersSQL = `
WITH told AS (SELECT unnest($1::uuid[]) AS id),
     touched AS (SELECT DISTINCT o.id FROM publish_outbox o, unnest(o.ids) AS e(id) JOIN told USING (id)),
     rest AS (SELECT o.id, array_agg(e.id ORDER BY place) FILTER (WHERE told.id IS NULL) AS ids,
                     array_agg(platform ORDER BY place) FILTER (WHERE told.id IS NULL) AS platforms,
                     array_agg(outcome ORDER BY place) FILTER (WHERE told.id IS NULL) AS outcomes,
                     array_agg(body ORDER BY place) FILTER (WHERE told.id IS NULL) AS bodies
                FROM touched
                JOIN publish_outbox o USING (id)
               CROSS JOIN unnest(o.ids, o.platforms, o.outcomes, o.bodies) WITH ORDINALITY AS e(id, platform, outcome, body, place)
                LEFT JOIN told ON told.id = e.id
               GROUP BY o.id),
     empty AS (DELETE FROM publish_outbox o USING rest WHERE o.id = rest.id AND rest.ids IS NULL)
UPDATE publish_outbox o
   SET ids = rest.ids, platforms = rest.platforms, outcomes = rest.outcomes, bodies = rest.bodies
  FROM rest
 WHERE o.id = rest.id AND rest.ids IS NOT NULL`
	// planSQL takes the oldest rows into the next batch: the first, and others as long as there is room.
	planSQL = `
UPDATE publish_outbox_told
   SET sequence = $1, strays = $2, (rows, batch) = (
       SELECT coalesce(array_agg(DISTINCT o.id), '{}'), coalesce(array_agg(e.id ORDER BY o.id, e.place), '{}')
         FROM (SELECT id, sum(events) OVER oldest AS events, row_number() OVER oldest AS place
                 FROM (SELECT id, events FROM publish_outbox ORDER BY id LIMIT $3) AS first
               WINDOW oldest AS (ORDER BY id)) AS room
         JOIN publish_outbox o USING (id)
        CROSS JOIN unnest(o.ids) WITH ORDINALITY AS e(id, place)
        WHERE room.place = 1 OR room.events <= $3)
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
	var waiting bool
	var events []reconciler.OutboxEvent
	first := beginBatch()
	first.Queue(lockToldSQL).QueryRow(func(row pgx.Row) error {
		return row.Scan(&plan.sequence, &plan.batch, &plan.strays, &waiting)
	})
	first.Queue(readBatchSQL).Query(func(rows pgx.Rows) (err error) {
		events, err = plan.events(rows)
		return err
	})
	if err := conn.SendBatch(named(ctx, "read the outbox"), first).Close(); err != nil {
		return false, translate(ctx, fmt.Errorf("read the outbox: %w", err))
	}
	if !waiting {
		return false, nil
	}
	plan = plan.of(events)
	told := reconciler.Told{Sequence: uint64(plan.sequence)}
	if len(events) > 0 {
		n := min(limit, len(events))
		if plan.sequence < plan.strays {
			n = 1
		}
		if told, err = tell(ctx, told.Sequence, events[:n]); err != nil {
			return false, err
		}
	}
	second := &pgx.Batch{}
	if others := plan.others(told); len(others) > 0 {
		second.Queue(forgetOthersSQL, others)
	}
	plan = plan.after(told)
	if more = len(plan.batch) > 0; more {
		second.Queue(keepBatchSQL, plan.sequence, plan.strays, plan.batch)
	} else {
		second.Queue(forgetSQL)
		second.Queue(planSQL, plan.sequence, plan.strays, limit).QueryRow(func(row pgx.Row) error { return row.Scan(&more) })
	}
	queueCommit(second)
	if err := conn.SendBatch(named(ctx, "write the outbox"), second).Close(); err != nil {
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

// events are those of the plan that rows of the outbox hold, in their order.
func (p outboxPlan) events(rows pgx.Rows) ([]reconciler.OutboxEvent, error) {
	held := make(map[uuid.UUID]reconciler.OutboxEvent, len(p.batch))
	var ids []uuid.UUID
	var platforms, outcomes []string
	var bodies [][]byte
	_, err := pgx.ForEachRow(rows, []any{&ids, &platforms, &outcomes, &bodies}, func() error {
		for i, id := range ids {
			held[id] = reconciler.OutboxEvent{ID: id, Platform: platforms[i], Outcome: outcomes[i], Body: bodies[i]}
		}
		return nil
	})
	events := make([]reconciler.OutboxEvent, 0, len(p.batch))
	for _, id := range p.batch {
		if event, ok := held[id]; ok {
			events = append(events, event)
		}
	}
	return events, err
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

// others are the events that stand in the stream and not in the plan: where Postgres has gone back to what it was
// before they were told, they may be in the outbox still.
func (p outboxPlan) others(told reconciler.Told) []uuid.UUID {
	planned := make(map[uuid.UUID]bool, len(p.batch))
	for _, id := range p.batch {
		planned[id] = true
	}
	var others []uuid.UUID
	for _, id := range told.Events {
		if !planned[id] {
			others = append(others, id)
		}
	}
	return others
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
