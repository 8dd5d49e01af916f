package main

import (
	"context"
	"fmt"
	"strconv"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"publish-reconciler/repo"
	"publish-reconciler/repo/pgtest/pgtestdb"
)

const latestSchema = 8

// migratedBy pretends that a later release has migrated the schema, which works with programs of oldest and later.
func (w *world) migratedBy(version, oldest int) {
	w.Helper()
	w.exec(`INSERT INTO publish_reconciler_migrations (version_id, is_applied) VALUES ($1, true)`, version)
	w.exec(`UPDATE publish_reconciler_schema SET oldest_program = $1`, oldest)
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	database := pgtestdb.New(t, nil)
	w := &world{TB: t, database: database, db: connect(t, database)}
	says := func(status int, want string) {
		t.Helper()
		p := begin(t, "migrate", "--database-url", database)
		p.exits(status, soon)
		contains(t, p.stdout.String()+p.stderr.String(), want)
	}
	says(exitOK, fmt.Sprintf("schema migrated from version 0 to %d\n", latestSchema))
	says(exitOK, fmt.Sprintf("schema is up to date at version %d\n", latestSchema))
	w.migratedBy(latestSchema+1, latestSchema)
	says(exitOK, fmt.Sprintf("schema is version %d, newer than this program's %d, which works with it: nothing to do\n", latestSchema+1, latestSchema))
	w.migratedBy(999, 999)
	says(exitFailure, fmt.Sprintf("the database schema is version 999, newer than this program's %d", latestSchema))
}

// A replica that restarts after a later release has migrated, as in a rolling upgrade or after a rollback, goes on working.
func TestRunOnANewerSchema(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	running := w.serve()
	w.migratedBy(latestSchema+1, latestSchema)
	running.stop()
	running.exits(exitOK, soon)
	if lines := running.lines(newerSchema); len(lines) > 0 {
		t.Errorf("it was said before it was so: %v", lines)
	}

	restarted := w.serve()
	line := restarted.logged(newerSchema)
	if line["schema"] != float64(latestSchema+1) || line["program"] != float64(latestSchema) || line["level"] != "INFO" {
		t.Errorf("it says %v", line)
	}
	w.confirm(w.nats.JetStream(t), "post")
	w.doctor(exitOK).tells("schema", levelOK, fmt.Sprintf("it is version %d, newer than the program's %d, which works with it", latestSchema+1, latestSchema))
}

// Whoever is killed while it migrates leaves the lock and whole steps behind.
func TestMigrateIsKilled(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ held, waits string }{
		"within a transaction":     {`LOCK TABLE publish_logs IN ACCESS SHARE MODE`, `wait_event_type = 'Lock'`},
		"while it builds an index": {`SELECT`, `query LIKE 'CREATE INDEX CONCURRENTLY %' AND wait_event_type = 'Lock'`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			database := pgtestdb.New(t, nil)
			w := &world{TB: t, database: database, db: connect(t, database)}
			w.exec(`CREATE TABLE publish_logs (id uuid PRIMARY KEY, platform text NOT NULL, status text NOT NULL, external_post_id text)`)
			w.exec(`INSERT INTO publish_logs SELECT gen_random_uuid(), 'instagram', 'success', 'post' FROM generate_series(1, 10)`)
			tx, err := w.db.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
			if err != nil {
				t.Fatal(err)
			}
			defer tx.Rollback(context.Background())
			if _, err := tx.Exec(t.Context(), tt.held); err != nil {
				t.Fatal(err)
			}
			p := spawn(t, nil, "migrate", "--database-url", database+"&lock_timeout=1min")
			eventually(t, "it waits", func() bool {
				return w.text(`SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() AND `+tt.waits) == "1"
			})
			p.signal(syscall.SIGKILL)
			p.exits(-1, soon)
			if err := tx.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
			next := begin(t, "migrate", "--database-url", database)
			next.exits(exitOK, soon)
			contains(t, next.stdout.String(), "to "+strconv.Itoa(latestSchema))
			if _, err := repo.CheckSchema(t.Context(), database); err != nil {
				t.Error(err)
			}
			if rows := w.text(`SELECT count(*)::text FROM publish_logs`); rows != "10" {
				t.Errorf("%s rows are left", rows)
			}
			if invalid := w.text(`SELECT count(*)::text FROM pg_index WHERE NOT indisvalid`); invalid != "0" {
				t.Errorf("%s indexes are not valid", invalid)
			}
		})
	}
}
