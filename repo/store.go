package repo

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	pgxuuid "github.com/vgarvardt/pgx-google-uuid/v5"

	"publish-reconciler/reconciler"
)

const (
	// DefaultTimeout limits one transaction or query.
	DefaultTimeout = 10 * time.Second
	// defaultMaxConns is enough for two batches of each consumer, the pages of a sweep, the events, and a few requests of operators. A
	// pool_max_conns in the URL takes its place.
	defaultMaxConns = 10
)

// Store is a [reconciler.Store] in Postgres. Make one with [Open].
type Store struct {
	pool    *pgxpool.Pool
	timeout time.Duration
	outbox  bool
	// outboxed has a token when the outbox may hold something; one is enough to wake its reader.
	outboxed chan struct{}
}

var _ reconciler.Store = (*Store)(nil)

// Config says how to reach Postgres.
type Config struct {
	// URL is a libpq URL or keyword string; pgx's pool_… parameters work in it.
	URL string
	// Timeout limits one transaction or query. Zero: [DefaultTimeout].
	Timeout time.Duration
	// Outbox keeps what is to be told of state changes, for [Store.DrainOutbox].
	Outbox bool
	// Tracer is told of each round trip to Postgres, which [StatementOf] names. Nil: nobody is.
	Tracer pgx.QueryTracer
}

// Open makes a store. It does not connect: the first query does. The error is about the URL.
func Open(cfg Config) (*Store, error) {
	poolConfig, err := pgxpool.ParseConfig(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("database url: %w", err) // pgx leaves the password out
	}
	if !strings.Contains(cfg.URL, "pool_max_conns") {
		poolConfig.MaxConns = defaultMaxConns
	}
	poolConfig.ConnConfig.Tracer = cfg.Tracer
	params := poolConfig.ConnConfig.RuntimeParams
	if params["application_name"] == "" {
		params["application_name"] = "publish-reconciler"
	}
	// A replica that hangs between its two round trips must not hold its row locks for ever.
	if params["idle_in_transaction_session_timeout"] == "" {
		params["idle_in_transaction_session_timeout"] = "30s"
	}
	// Whoever holds a log for longer than this holds up that log alone.
	if params["lock_timeout"] == "" {
		params["lock_timeout"] = "500ms"
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	// Else pgx has their Value and Scan write and read them as text.
	poolConfig.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		pgxuuid.Register(conn.TypeMap())
		return nil
	}
	// NewWithConfig uses its context only for connecting ahead, which MinConns = 0 does not.
	pool, err := pgxpool.NewWithConfig(context.Background(), poolConfig)
	if err != nil {
		return nil, fmt.Errorf("database pool: %w", err)
	}
	return &Store{pool: pool, timeout: cfg.Timeout, outbox: cfg.Outbox, outboxed: make(chan struct{}, 1)}, nil
}

// PoolState is how the connections to Postgres are used.
type PoolState struct {
	// Acquired are in use, Idle are open and not, and Max is the most of both.
	Acquired, Idle, Max int
	// Waits counts how often somebody had to wait for a connection, and Waited for how long, all together.
	Waits  int64
	Waited time.Duration
}

// Pool is how the connections are used now.
func (s *Store) Pool() PoolState {
	stat := s.pool.Stat()
	return PoolState{
		Acquired: int(stat.AcquiredConns()), Idle: int(stat.IdleConns()), Max: int(stat.MaxConns()),
		Waits: stat.EmptyAcquireCount(), Waited: stat.EmptyAcquireWaitTime(),
	}
}

// Close closes all connections; it waits for queries under way.
func (s *Store) Close() { s.pool.Close() }

const nowSQL = `SELECT now(), current_setting('transaction_read_only')::bool`

// errReadOnly is what a standby, or a server that was set so, answers to writes (SQLSTATE 25006).
var errReadOnly = errors.New("postgres is read-only")

// Now is the database's clock. It serves to see whether Postgres answers and can be written to, too: a
// server that is read-only, as after a failover that went wrong, is an error.
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	ctx, cancel := s.limit(ctx, "ask postgres for its time")
	defer cancel()
	var now time.Time
	var readOnly bool
	if err := s.pool.QueryRow(ctx, nowSQL).Scan(&now, &readOnly); err != nil {
		return time.Time{}, translate(ctx, err)
	}
	if readOnly {
		return time.Time{}, errReadOnly
	}
	return now, nil
}

// dueSQL pages through the open logs past their deadline by the partial index publish_logs_open_idx: $2 is
// the latest update that can be due for any platform and bounds the scan, the platform's own filters. A
// join in place of the sub-select may be hashed, and then every page sorts the whole backlog.
const dueSQL = `
SELECT l.id, l.updated_at
  FROM publish_logs l
 WHERE l.status IN ('processing', 'retry')
   AND l.updated_at <= $2
   AND l.updated_at <= coalesce((SELECT p.latest
                                   FROM unnest($3::text[], $4::timestamptz[]) AS p(platform, latest)
                                  WHERE p.platform = l.platform), $1)
   AND (l.updated_at, l.id) > ($5, $6)
 ORDER BY l.updated_at, l.id
 LIMIT $7`

// DueLogs is one page of the open logs past their deadline, oldest update first; before all others come
// those without an update time.
func (s *Store) DueLogs(ctx context.Context, due reconciler.Due) ([]reconciler.DueLog, error) {
	ctx, cancel := s.limit(ctx, "page through due logs")
	defer cancel()
	if due.After.UpdatedAt.IsZero() {
		undated, err := s.dueLogs(ctx, undatedSQL, due.After.ID, due.Limit)
		if err != nil || len(undated) > 0 {
			return undated, err
		}
		due.After.ID = uuid.Nil
	}
	return s.dueLogs(ctx, dueSQL, dueArgs(due)...)
}

func dueArgs(due reconciler.Due) []any {
	latest := due.Now.Add(-due.Timeout)
	platforms := make([]string, 0, len(due.Timeouts))
	latests := make([]time.Time, 0, len(due.Timeouts))
	bound := latest
	for platform, timeout := range due.Timeouts {
		at := due.Now.Add(-timeout)
		platforms, latests = append(platforms, platform), append(latests, at)
		if at.After(bound) {
			bound = at
		}
	}
	return []any{latest, bound, platforms, latests, due.After.UpdatedAt, due.After.ID, due.Limit}
}

// undatedSQL finds what has no place in the order of updates, in a publishers' own table: it is due, and comes
// before the first page, which begins at Go's zero time.
const undatedSQL = `
SELECT id, '0001-01-01 00:00:00Z'::timestamptz
  FROM publish_logs
 WHERE status IN ('processing', 'retry') AND (updated_at IS NULL OR updated_at < '0001-01-01 00:00:00Z' OR updated_at = 'infinity')
   AND id > $1
 ORDER BY id
 LIMIT $2`

func (s *Store) dueLogs(ctx context.Context, sql string, args ...any) ([]reconciler.DueLog, error) {
	rows, err := s.pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, translate(ctx, err)
	}
	logs, err := pgx.CollectRows(rows, pgx.RowToStructByPos[reconciler.DueLog])
	if err != nil {
		return nil, translate(ctx, err)
	}
	return logs, nil
}

const parkedSQL = `
SELECT p.id, l.id
  FROM (SELECT id, platform, external_post_id FROM parked_webhooks WHERE id > $1 ORDER BY id LIMIT $2) p
  LEFT JOIN publish_logs l ON l.platform = p.platform AND l.external_post_id = p.external_post_id
 ORDER BY p.id`

// ParkedLogs looks at limit parked webhooks in the order of their ids, from beyond after, and returns the
// logs of their posts. Last is the last webhook looked at; uuid.Nil when there was none.
func (s *Store) ParkedLogs(ctx context.Context, after uuid.UUID, limit int) (logs []uuid.UUID, last uuid.UUID, err error) {
	ctx, cancel := s.limit(ctx, "page through parked webhooks")
	defer cancel()
	rows, err := s.pool.Query(ctx, parkedSQL, after, limit)
	if err != nil {
		return nil, uuid.Nil, translate(ctx, err)
	}
	seen := make(map[uuid.UUID]bool)
	var log *uuid.UUID
	_, err = pgx.ForEachRow(rows, []any{&last, &log}, func() error {
		if log != nil && !seen[*log] {
			seen[*log] = true
			logs = append(logs, *log)
		}
		return nil
	})
	if err != nil {
		return nil, uuid.Nil, translate(ctx, err)
	}
	return logs, last, nil
}

// limit bounds an operation, and names it, also in the error when the time is up.
func (s *Store) limit(ctx context.Context, operation string) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(named(ctx, operation), s.timeout, &timeoutError{operation, s.timeout})
}
