package main

// Stand-ins for what is being built elsewhere. All of this file goes in the merge:
//
//   - pendingStore: the service's *repo.Store has View and List
//   - pendingRules: *reconciler.Reconciler has Override
//   - explanation, explain: reconciler.Explanation, reconciler.Policy.Explain
//   - nextSweep, service.nextSweep: consumer.NextSweep, (*consumer.Scheduler).NextSweep

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"publish-reconciler/reconciler"
)

type explanation struct {
	Sentence string     `json:"sentence"`
	Next     string     `json:"next"`
	NextAt   *time.Time `json:"next_at"`
}

func explain(_ reconciler.Policy, v reconciler.View) explanation {
	return explanation{Sentence: fmt.Sprintf("The log is in %s.", v.Status), Next: "nothing"}
}

type nextSweep struct {
	At     time.Time `json:"at"`
	Delay  string    `json:"delay"`
	Reason string    `json:"reason"`
}

func (*service) nextSweep(ctx context.Context) (nextSweep, error) {
	return nextSweep{time.Now().Add(time.Minute), "1m0s", "idle"}, ctx.Err()
}

type pendingStore struct{ url string }

func pendingQuery[T any](ctx context.Context, url, sql string, args ...any) (all []T, err error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	rows, err := conn.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	texts, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil {
		return nil, err
	}
	for _, text := range texts {
		var value T
		if err := json.Unmarshal(text, &value); err != nil {
			return nil, err
		}
		all = append(all, value)
	}
	return all, nil
}

const pendingRow = `SELECT to_jsonb(l) || jsonb_build_object('reason', coalesce(extra_metadata->>'reconciliation_reason', '')) FROM publish_logs l `

func (s pendingStore) View(ctx context.Context, id uuid.UUID) (reconciler.View, error) {
	rows, err := pendingQuery[reconciler.Row](ctx, s.url, pendingRow+`WHERE id = $1`, id)
	if err == nil && len(rows) == 0 {
		err = reconciler.ErrNotFound
	}
	if err != nil {
		return reconciler.View{}, err
	}
	history, err := pendingQuery[reconciler.HistoryEvent](ctx, s.url, `SELECT to_jsonb(e) FROM ledger_events e WHERE entity_type = 'publish_log' AND entity_id = $1 ORDER BY timestamp, id`, id.String())
	return reconciler.View{Row: rows[0], History: history, Now: time.Now()}, err
}

func (s pendingStore) List(ctx context.Context, f reconciler.Filter) ([]reconciler.Row, bool, error) {
	before := f.Before
	if before.IsZero() {
		before = time.Date(9000, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	last := uuid.Nil
	if f.BeforeID != uuid.Nil {
		view, err := s.View(ctx, f.BeforeID)
		if err != nil {
			return nil, false, fmt.Errorf("before: %w", err)
		}
		before, last = *view.CreatedAt, f.BeforeID
	}
	rows, err := pendingQuery[reconciler.Row](ctx, s.url, pendingRow+`WHERE ($1 = '' OR status = $1) AND ($2 = '' OR platform = $2)
		AND ($3 = '' OR extra_metadata->>'reconciliation_reason' = $3) AND (created_at, id) < ($4, $5) ORDER BY created_at DESC, id DESC LIMIT $6`,
		f.Status, f.Platform, f.Reason, before, last, f.Limit+1)
	if len(rows) > f.Limit {
		return rows[:f.Limit], true, err
	}
	return rows, false, err
}

type pendingRules struct {
	*reconciler.Reconciler
	url string
}

func (r pendingRules) Override(ctx context.Context, o reconciler.Override) (reconciler.StateChange, error) {
	conn, err := pgx.Connect(ctx, r.url)
	if err != nil {
		return reconciler.StateChange{}, fmt.Errorf("postgres: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	change := reconciler.StateChange{LogID: o.LogID, To: o.Status, Time: time.Now().UTC()}
	return change, pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SET LOCAL lock_timeout = '500ms'`); err != nil {
			return err
		}
		err := tx.QueryRow(ctx, `SELECT status FROM publish_logs WHERE id = $1 FOR UPDATE`, o.LogID).Scan(&change.From)
		var locked *pgconn.PgError
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return reconciler.ErrNotFound
		case errors.As(err, &locked) && locked.Code == "55P03":
			return fmt.Errorf("%w: %w", reconciler.ErrLocked, err)
		case err != nil:
			return err
		case change.From == o.Status:
			return fmt.Errorf("%w: it is %s", reconciler.ErrNoChange, o.Status)
		}
		if _, err := tx.Exec(ctx, `UPDATE publish_logs SET status = $2 WHERE id = $1`, o.LogID, o.Status); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO ledger_events (event_type, severity, entity_type, entity_id, metadata) VALUES ('publish_overridden', 'warn', 'publish_log', $1,
			jsonb_build_object('from', $2::text, 'to', $3::text, 'actor', $4::text, 'note', $5::text, 'trigger', 'override'))`, o.LogID.String(), change.From, o.Status, o.Actor, o.Note)
		return err
	})
}
