package repo_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"publish-reconciler/reconciler"
	"publish-reconciler/repo"
	"publish-reconciler/repo/pgtest/pgtestdb"
)

// soon is how long a test waits for what has to happen outside.
const soon = 50 * time.Second

// world is one test's database, seen past the store.
type world struct {
	testing.TB
	store *repo.Store
	url   string
	db    *pgxpool.Pool
}

func newWorld(tb testing.TB) *world {
	tb.Helper()
	store, url := open(tb)
	return &world{TB: tb, store: store, url: url, db: connect(tb, url)}
}

// emptyWorld is a database that nothing has migrated yet; it has no store.
func emptyWorld(tb testing.TB) *world {
	tb.Helper()
	url := pgtestdb.New(tb, nil)
	return &world{TB: tb, url: url, db: connect(tb, url)}
}

func connect(tb testing.TB, url string) *pgxpool.Pool {
	tb.Helper()
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		tb.Fatal(err)
	}
	// A test that waits for itself fails instead of hanging.
	config.ConnConfig.RuntimeParams["statement_timeout"] = soon.String()
	pool, err := pgxpool.NewWithConfig(tb.Context(), config)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(pool.Close)
	return pool
}

func (w *world) exec(sql string, args ...any) {
	w.Helper()
	if _, err := w.db.Exec(w.Context(), sql, args...); err != nil {
		w.Fatalf("%v in %s", err, sql)
	}
}

// column returns the first column of what sql selects.
func column[T any](w *world, sql string, args ...any) []T {
	w.Helper()
	rows, err := w.db.Query(w.Context(), sql, args...)
	if err != nil {
		w.Fatalf("%v in %s", err, sql)
	}
	values, err := pgx.CollectRows(rows, pgx.RowTo[T])
	if err != nil {
		w.Fatalf("%v in %s", err, sql)
	}
	return values
}

// one returns the only value that sql selects.
func one[T any](w *world, sql string, args ...any) T {
	w.Helper()
	values := column[T](w, sql, args...)
	if len(values) != 1 {
		w.Fatalf("%d rows of %s, want 1", len(values), sql)
	}
	return values[0]
}

// publish inserts a log as a publisher does, last updated age ago. Its id is larger than all before.
func (w *world) publish(platform, post, status string, age time.Duration) uuid.UUID {
	w.Helper()
	id := uuid.Must(uuid.NewV7())
	w.exec(`INSERT INTO publish_logs (id, platform, status, external_post_id, updated_at)
	        VALUES ($1, $2, $3, $4, now() - $5::interval)`, id, platform, status, post, age)
	return id
}

// publishMany inserts n logs in processing, posts named post_1 to post_n, a microsecond apart.
func (w *world) publishMany(n int, age time.Duration) []uuid.UUID {
	w.Helper()
	return column[uuid.UUID](w, `
		INSERT INTO publish_logs (platform, status, external_post_id, updated_at)
		SELECT 'instagram', 'processing', 'post_' || n, now() - $2::interval + n * interval '1 microsecond'
		  FROM generate_series(1, $1) n
		RETURNING id`, n, age)
}

// row is what a test wants to know of a publish_logs row; null is empty.
type row struct {
	Status    string
	URL       string
	Error     string
	Published bool
	Retries   int
	Retried   bool
	Metadata  map[string]any
}

func (w *world) row(id uuid.UUID) row {
	w.Helper()
	rows, err := w.db.Query(w.Context(), `
		SELECT status, coalesce(external_url, ''), coalesce(error_message, ''), published_at IS NOT NULL,
		       retry_count, last_retry_at IS NOT NULL, extra_metadata
		  FROM publish_logs WHERE id = $1`, id)
	if err != nil {
		w.Fatal(err)
	}
	r, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[row])
	if err != nil {
		w.Fatalf("log %s: %v", id, err)
	}
	return r
}

// version changes with every write to a row, also with one that changes no value.
func (w *world) version(id uuid.UUID) string {
	w.Helper()
	return one[string](w, `SELECT xmin::text || ' ' || updated_at FROM publish_logs WHERE id = $1`, id)
}

// event is a ledger event as CONTRACT.md shows it.
type event struct {
	Type     string         `json:"event_type"`
	Severity string         `json:"severity"`
	Metadata map[string]any `json:"metadata"`
}

// history is a log's ledger, oldest first. Within a transaction the ids keep the order. Deadlines are left
// out once it is seen that they are moments.
func (w *world) history(id uuid.UUID) []event {
	w.Helper()
	rows, err := w.db.Query(w.Context(), `
		SELECT event_type, severity, metadata FROM ledger_events
		 WHERE entity_type = 'publish_log' AND entity_id = $1 ORDER BY timestamp, id`, id.String())
	if err != nil {
		w.Fatal(err)
	}
	events, err := pgx.CollectRows(rows, pgx.RowToStructByPos[event])
	if err != nil {
		w.Fatal(err)
	}
	for _, event := range events {
		if deadline, there := event.Metadata["deadline"]; there {
			if _, err := time.Parse(time.RFC3339, deadline.(string)); err != nil {
				w.Error(err)
			}
			delete(event.Metadata, "deadline")
		}
	}
	return events
}

func (w *world) transact(keys reconciler.Keys, decide func(reconciler.Locked) reconciler.Changes) {
	w.Helper()
	if err := w.store.Transact(w.Context(), keys, decide); err != nil {
		w.Fatal(err)
	}
}

// lock returns what the store hands to decide.
func (w *world) lock(keys reconciler.Keys) reconciler.Locked {
	w.Helper()
	var locked reconciler.Locked
	w.transact(keys, func(l reconciler.Locked) reconciler.Changes {
		locked = l
		return reconciler.Changes{}
	})
	return locked
}

// hold runs sql in a transaction of the test's own until the returned function ends it.
func (w *world) hold(sql string, args ...any) (release func()) {
	w.Helper()
	tx, err := w.db.Begin(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	if _, err := tx.Exec(w.Context(), sql, args...); err != nil {
		w.Fatal(err)
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), soon)
		defer cancel()
		if err := tx.Rollback(ctx); err != nil && !errors.Is(err, pgx.ErrTxClosed) {
			w.Error(err)
		}
	}
}

// backends are the process ids of the store's connections that fit the condition.
func (w *world) backends(condition string) []int32 {
	w.Helper()
	return column[int32](w, `SELECT pid FROM pg_stat_activity
		WHERE datname = current_database() AND application_name = 'publish-reconciler' AND `+condition+` ORDER BY pid`)
}

// waiting returns once n of the store's connections wait for a lock.
func (w *world) waiting(n int) {
	w.Helper()
	w.until("the store waits for a lock", func() bool { return len(w.backends(`wait_event_type = 'Lock'`)) == n })
}

func (w *world) until(what string, done func() bool) {
	w.Helper()
	for deadline := time.Now().Add(soon); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.Fatalf("not within %s: %s", soon, what)
		}
	}
}

func decided(changes reconciler.Changes) func(reconciler.Locked) reconciler.Changes {
	return func(reconciler.Locked) reconciler.Changes { return changes }
}

// write changes one row.
func write(change reconciler.RowChange) func(reconciler.Locked) reconciler.Changes {
	return decided(reconciler.Changes{Rows: []reconciler.RowChange{change}})
}

func logIDs(ids ...uuid.UUID) reconciler.Keys { return reconciler.Keys{LogIDs: ids} }

func lockedIDs(locked reconciler.Locked) []uuid.UUID {
	ids := make([]uuid.UUID, len(locked.Logs))
	for i, log := range locked.Logs {
		ids[i] = log.ID
	}
	return ids
}

func object(tb testing.TB, text string) map[string]any {
	tb.Helper()
	var fields map[string]any
	if err := json.Unmarshal([]byte(text), &fields); err != nil {
		tb.Fatalf("%v in %s", err, text)
	}
	return fields
}

func equal(tb testing.TB, what string, got, want any) {
	tb.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		tb.Errorf("%s (-want +got):\n%s", what, diff)
	}
}
