// Package pgtestdb gives every test a Postgres database of its own.
//
// A test binary has one server (see package pgtest), started by the first test that needs it. It runs
// without fsync, in memory when there is room, and is stopped by Main:
//
//	func TestMain(m *testing.M) { pgtestdb.Main(m) }
//
//	func TestX(t *testing.T) {
//		t.Parallel()
//		pool, err := pgxpool.New(t.Context(), pgtestdb.New(t, repo.Migrate))
//		…
//	}
package pgtestdb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"publish-reconciler/repo/pgtest"
)

// limit is for each thing done to the shared server, so that a test fails instead of hanging.
const limit = time.Minute

const template = "pgtestdb_template"

// binary is what all tests of the test binary share. Tests that come after a failed start or migration fail
// at once with the same error: trying again would cost every one of them the time limit.
var binary = struct {
	server   func() (*pgtest.Server, error)
	started  atomic.Bool
	migrate  sync.Once
	migrated error
	names    atomic.Int64
}{
	server: sync.OnceValues(func() (*pgtest.Server, error) {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		return pgtest.Start(ctx, pgtest.Config{})
	}),
}

// Shared returns the server of this test binary, for tests that need its AdminURL. It starts it when needed,
// and fails tb when that is not possible. Stopping it is Main's business.
func Shared(tb testing.TB) *pgtest.Server {
	tb.Helper()
	binary.started.Store(true)
	server, err := binary.server()
	if err != nil {
		tb.Fatalf("start the Postgres that tests share: %v", err)
	}
	return server
}

// New makes a database for tb alone and returns its URL, for the role publish, which owns it. It fails tb
// when that is not possible, and never skips. The database is dropped after tb, connected or not.
//
// The first migrate that is not nil makes a template, once for the test binary; it gets the template's URL
// and closes the connections it makes. All databases with a migrate are copies of it, so a test binary has
// one kind of migrated database. A nil migrate gives an empty database.
func New(tb testing.TB, migrate func(ctx context.Context, url string) error) string {
	tb.Helper()
	server := Shared(tb)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()

	source := "template1"
	if migrate != nil {
		source = template
		binary.migrate.Do(func() { binary.migrated = makeTemplate(ctx, server, migrate) })
		if binary.migrated != nil {
			tb.Fatalf("migrate the template of test databases: %v", binary.migrated)
		}
	}

	name := "test_" + strconv.FormatInt(binary.names.Add(1), 10)
	if err := asAdmin(ctx, server, func(conn *pgx.Conn) error { return create(ctx, conn, name, source) }); err != nil {
		tb.Fatalf("create test database: %v", err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		err := asAdmin(ctx, server, func(conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, `DROP DATABASE `+name+` WITH (FORCE)`)
			return err
		})
		if err != nil {
			tb.Errorf("drop test database: %v", err)
		}
	})
	return server.URL(name)
}

func create(ctx context.Context, conn *pgx.Conn, name, source string) error {
	sql := `CREATE DATABASE ` + name + ` OWNER publish TEMPLATE ` + source
	var version int
	if err := conn.QueryRow(ctx, `SELECT current_setting('server_version_num')::int`).Scan(&version); err != nil {
		return err
	}
	if version >= 150000 { // before, copying files was the only way
		sql += ` STRATEGY file_copy`
	}
	_, err := conn.Exec(ctx, sql)
	return err
}

func makeTemplate(ctx context.Context, server *pgtest.Server, migrate func(context.Context, string) error) error {
	if err := server.CreateDatabase(ctx, template); err != nil {
		return err
	}
	if err := migrate(ctx, server.URL(template)); err != nil {
		return err
	}
	return asAdmin(ctx, server, func(conn *pgx.Conn) error {
		// Postgres copies no database that somebody is connected to, and looks again only every 100 ms.
		if _, err := conn.Exec(ctx, `ALTER DATABASE `+template+` ALLOW_CONNECTIONS false`); err != nil {
			return err
		}
		_, err := conn.Exec(ctx, `SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = $1`, template)
		return err
	})
}

func asAdmin(ctx context.Context, server *pgtest.Server, do func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, server.AdminURL("postgres"))
	if err != nil {
		return err
	}
	return errors.Join(do(conn), conn.Close(ctx))
}

// Main runs the tests, stops the shared server if one was started, looks for goroutines that passing tests
// left behind, and exits. The options are for that look.
func Main(m *testing.M, opts ...goleak.Option) {
	goleak.VerifyTestMain(stopAfter{m}, opts...)
}

type stopAfter struct{ m *testing.M }

func (s stopAfter) Run() int {
	code := s.m.Run()
	if !binary.started.Load() {
		return code
	}
	server, err := binary.server()
	if err != nil {
		return code // which the tests that wanted it have reported
	}
	if err := server.Stop(); err != nil {
		fmt.Fprintf(os.Stderr, "stop the Postgres that tests share: %v\n", err)
		return max(code, 1)
	}
	return code
}
