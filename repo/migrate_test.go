package repo_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"publish-reconciler/reconciler"
	"publish-reconciler/repo"
)

const (
	latest   = 8 // the version of the newest migration
	released = 7 // that of the release before this one: what it needs has to stay until the next
)

func (w *world) migrate() {
	w.Helper()
	if err := migrate(w.Context(), w.url); err != nil {
		w.Fatal(err)
	}
}

func (w *world) tables() []string {
	w.Helper()
	return column[string](w, `SELECT tablename::text FROM pg_tables WHERE schemaname = 'public' ORDER BY 1`)
}

// indexes are the valid ones.
func (w *world) indexes(table string) []string {
	w.Helper()
	return column[string](w, `SELECT c.relname::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
		WHERE i.indrelid = $1::text::regclass AND i.indisvalid ORDER BY 1`, table)
}

func TestMigrateFreshAndAgain(t *testing.T) {
	t.Parallel()
	w := emptyWorld(t)
	for i, want := range [][2]int64{{0, latest}, {latest, latest}} {
		schema, err := repo.Migrate(t.Context(), w.url)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "versions", [2]int64{schema.Found, schema.Needed}, want)
		if i == 0 {
			w.exec(`INSERT INTO publish_logs (platform) VALUES ('instagram')`)
		}
	}
	equal(t, "tables", w.tables(), []string{"ledger_events", "parked_webhooks", "publish_logs", "publish_outbox", "publish_outbox_told", "publish_platform_silence", "publish_platforms", "publish_reconciler_migrations", "publish_reconciler_schema"})
	equal(t, "indexes", w.indexes("publish_logs"), []string{
		"publish_logs_created_idx", "publish_logs_open_idx", "publish_logs_pkey", "publish_logs_post_idx",
	})
	equal(t, "rows after migrating again", one[int](w, `SELECT count(*) FROM publish_logs`), 1)
}

func TestMigrateFiveAtOnce(t *testing.T) {
	t.Parallel()
	w := emptyWorld(t)
	var group errgroup.Group
	var migrated atomic.Int32
	for range 5 {
		group.Go(func() error {
			found, err := repo.Migrate(t.Context(), w.url)
			if found.Found == 0 {
				migrated.Add(1)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	equal(t, "how many say that they migrated", int(migrated.Load()), 1)
	if _, err := repo.CheckSchema(t.Context(), w.url); err != nil {
		t.Error(err)
	}
	equal(t, "each migration is recorded once", one[string](w, `
		SELECT concat_ws(' ', count(*) = count(DISTINCT version_id), max(version_id)) FROM publish_reconciler_migrations`),
		fmt.Sprintf("t %d", latest))
}

func TestMigrateWaitsForWhoeverMigrates(t *testing.T) {
	t.Parallel()
	w := emptyWorld(t)
	defer w.hold(`SELECT pg_advisory_xact_lock($1)`, int64(repo.MigrationsLock))()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := migrate(ctx, w.url); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want DeadlineExceeded", err)
	}
	equal(t, "there are logs", slices.Contains(w.tables(), "publish_logs"), false)
}

// Publishers at work don't queue up behind a migration that waits for one of them.
func TestMigrateGivesWay(t *testing.T) {
	t.Parallel()
	w := emptyWorld(t)
	w.exec(`CREATE TABLE publish_logs (id uuid PRIMARY KEY, platform text NOT NULL, status text NOT NULL, external_post_id text)`)
	release := w.hold(`SELECT FROM publish_logs`)
	if err := migrate(t.Context(), w.url); !errors.Is(err, repo.ErrBusy) {
		t.Errorf("error %v, want ErrBusy", err)
	}
	release()
	w.migrate()
}

// An index is built as long as that takes: nobody waits for it.
func TestMigrateWaitsToBuildAnIndex(t *testing.T) {
	t.Parallel()
	w := emptyWorld(t)
	old, err := w.db.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		t.Fatal(err)
	}
	defer old.Rollback(context.Background())
	if _, err := old.Exec(t.Context(), `SELECT`); err != nil { // from now on it sees things as they are now
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- migrate(context.WithoutCancel(t.Context()), withParam(w.url, "lock_timeout=100ms")) }()
	w.until("the index waits for who came before, for ten times the lock_timeout", func() bool {
		select {
		case err := <-done:
			t.Fatalf("it did not wait: %v", err)
		default:
		}
		return one[bool](w, `
			SELECT EXISTS (SELECT FROM pg_stat_progress_create_index JOIN pg_stat_activity USING (pid, datname)
			                WHERE datname = current_database() AND phase LIKE 'waiting for %' AND clock_timestamp() - query_start > interval '1 second')`)
	})
	w.exec(`INSERT INTO publish_logs (platform) VALUES ('instagram')`)
	if err := old.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	equal(t, "the index is built", slices.Contains(w.indexes("publish_logs"), "publish_logs_open_idx"), true)
}

func TestPublisherInsertsOnlyWhatItKnows(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := uuid.New()
	w.exec(`INSERT INTO publish_logs (id, platform, status, external_post_id) VALUES ($1, 'tiktok', 'processing', 'x')`, id)
	equal(t, "row", w.row(id), row{Status: "processing", Metadata: map[string]any{}})
	equal(t, "defaults", one[bool](w, `
		SELECT retry_count = 0 AND max_retries = 3 AND requested_at = created_at AND created_at = updated_at
		       AND abs(extract(epoch FROM now() - updated_at)) < 60
		  FROM publish_logs`), true)
}

func TestMigrateRebuildsAnInterruptedIndex(t *testing.T) {
	t.Parallel()
	w := emptyWorld(t)
	w.exec(`CREATE TABLE publish_logs (id uuid PRIMARY KEY, platform text NOT NULL, status text NOT NULL, external_post_id text)`)
	w.exec(`INSERT INTO publish_logs SELECT gen_random_uuid(), 'instagram', 'processing', 'same' FROM generate_series(1, 2)`)
	// What fails half-way is left behind just as what was interrupted.
	for _, index := range []string{"publish_logs_post_idx", "publish_logs_created_idx"} {
		if _, err := w.db.Exec(t.Context(), `CREATE UNIQUE INDEX CONCURRENTLY `+index+` ON publish_logs (platform, external_post_id)`); err == nil {
			t.Fatal("a unique index over duplicates was built")
		}
	}
	equal(t, "valid indexes before", w.indexes("publish_logs"), []string{"publish_logs_pkey"})
	w.migrate()
	equal(t, "valid indexes after", w.indexes("publish_logs"), []string{
		"publish_logs_created_idx", "publish_logs_open_idx", "publish_logs_pkey", "publish_logs_post_idx",
	})
	equal(t, "unique", one[int](w, `SELECT count(*) FROM pg_index WHERE indrelid = 'publish_logs'::regclass AND indisunique`), 1)
}

// What waits in an outbox of one row for each event is told, in its order and for its places.
func TestMigrateKeepsTheOutbox(t *testing.T) {
	t.Parallel()
	w := newOutboxWorld(t)
	w.exec(`
		DELETE FROM publish_reconciler_migrations WHERE version_id >= 7;
		ALTER TABLE publish_outbox_told DROP COLUMN rows;
		DROP TABLE publish_outbox;
		CREATE TABLE publish_outbox (id uuid PRIMARY KEY, platform text NOT NULL, outcome text NOT NULL, body text NOT NULL)`)
	ids := column[uuid.UUID](w, `
		INSERT INTO publish_outbox
		SELECT ('00000000-0000-7000-8000-00000000000' || n)::uuid, 'instagram', 'failed', '{"n":' || n || '}' FROM generate_series(1, 4) n
		RETURNING id`)
	w.exec(`UPDATE publish_outbox_told SET sequence = 10, strays = 3, batch = $1`, ids[:3])
	w.migrate()
	var told telling
	var bodies []string
	if err := w.drain(10, func(ctx context.Context, after uint64, events []reconciler.OutboxEvent) (reconciler.Told, error) {
		for _, event := range events {
			bodies = append(bodies, event.Platform+" "+event.Outcome+" "+string(event.Body))
		}
		return told.tell(ctx, after, events)
	}); err != nil {
		t.Fatal(err)
	}
	equal(t, "events", told.ids, ids)
	equal(t, "batches behind", told.after, []uint64{10, 13})
	equal(t, "told", bodies, []string{`instagram failed {"n":1}`, `instagram failed {"n":2}`, `instagram failed {"n":3}`, `instagram failed {"n":4}`})
}

func TestPoolParametersInTheURL(t *testing.T) {
	t.Parallel()
	w := emptyWorld(t)
	w.url = withParam(w.url, "pool_max_conns=1")
	w.migrate()
	if _, err := repo.CheckSchema(t.Context(), w.url); err != nil {
		t.Error(err)
	}
	store := openStore(t, repo.Config{URL: w.url})
	err := store.Transact(t.Context(), logIDs(uuid.New()), func(reconciler.Locked) reconciler.Changes {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, err := store.Now(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a second connection: %v", err)
		}
		return reconciler.Changes{}
	})
	if err != nil {
		t.Error(err)
	}
}

func TestErrorsAboutAURLHoldNoPassword(t *testing.T) {
	t.Parallel()
	urls := map[string]string{
		"bad port":      "postgres://ana:s3cr3t@localhost:none/db",
		"bad parameter": "postgres://ana:s3cr3t@localhost/db?pool_max_conns=many",
		"bad host":      "postgres://ana:s3cr3t@%zz/db",
		"bad keywords":  "host=localhost password=s3cr3t sslmode=maybe",
		"no such host":  "postgres://ana:s3cr3t@127.0.0.1:1/db",
	}
	for name, url := range urls {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			doors := map[string]func() error{
				"migrate": func() error { return migrate(t.Context(), url) },
				"check": func() error {
					_, err := repo.CheckSchema(t.Context(), url)
					return err
				},
				"open": func() error {
					store, err := repo.Open(repo.Config{URL: url})
					if err != nil {
						return err
					}
					defer store.Close()
					_, err = store.Now(t.Context())
					return err
				},
			}
			for door, try := range doors {
				if err := try(); err == nil || strings.Contains(err.Error(), "s3cr3t") {
					t.Errorf("%s: %v", door, err)
				}
			}
		})
	}
}

// withParam adds a parameter to a URL.
func withParam(url, param string) string {
	if strings.Contains(url, "?") {
		return url + "&" + param
	}
	return url + "?" + param
}
