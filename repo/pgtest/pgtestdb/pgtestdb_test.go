package pgtestdb_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"publish-reconciler/repo/pgtest/pgtestdb"
)

func TestMain(m *testing.M) { pgtestdb.Main(m) }

func migrate(ctx context.Context, url string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, `CREATE TABLE notes (text text)`)
	return err
}

func TestParallelDatabasesAreSeparate(t *testing.T) {
	t.Parallel()
	for i := range 20 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			conn := connect(t, pgtestdb.New(t, migrate))
			var before int
			if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM notes`).Scan(&before); err != nil {
				t.Fatal(err)
			}
			if before != 0 {
				t.Errorf("a new database has %d notes of somebody else's", before)
			}
			if _, err := conn.Exec(t.Context(), `INSERT INTO notes VALUES ('mine')`); err != nil {
				t.Error(err)
			}
		})
	}
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func TestWithoutMigrate(t *testing.T) {
	t.Parallel()
	conn := connect(t, pgtestdb.New(t, nil))
	var tables int
	if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_class WHERE relname = 'notes'`).Scan(&tables); err != nil {
		t.Fatal(err)
	}
	if tables != 0 {
		t.Error("an empty database has the template's table")
	}
}

func TestDatabaseIsDroppedThoughConnected(t *testing.T) {
	t.Parallel()
	var name string
	outer := t
	t.Run("user", func(t *testing.T) {
		url := pgtestdb.New(t, migrate)
		conn := connect(outer, url) // outlives this test
		name = conn.Config().Database
		var role string
		if err := conn.QueryRow(t.Context(), `SELECT current_user::text`).Scan(&role); err != nil || role != "publish" {
			t.Errorf("the role is %q, %v", role, err)
		}
	})
	admin := connect(t, pgtestdb.Shared(t).AdminURL("postgres"))
	var left int
	if err := admin.QueryRow(t.Context(), `SELECT count(*) FROM pg_database WHERE datname = $1`, name).Scan(&left); err != nil {
		t.Fatal(err)
	}
	if left != 0 {
		t.Errorf("database %s is left", name)
	}
}

// A migration need not wait until the server has noticed that its connection is closed.
func TestTemplateHasNoConnections(t *testing.T) {
	t.Parallel()
	pgtestdb.New(t, migrate)
	admin := connect(t, pgtestdb.Shared(t).AdminURL("postgres"))
	var open bool
	if err := admin.QueryRow(t.Context(), `SELECT datallowconn FROM pg_database WHERE datname LIKE '%template' AND datname LIKE 'pgtestdb%'`).Scan(&open); err != nil {
		t.Fatal(err)
	}
	if open {
		t.Error("anybody can connect to the template")
	}
}

func BenchmarkNew(b *testing.B) {
	pgtestdb.New(b, migrate)
	for b.Loop() {
		pgtestdb.New(b, migrate)
	}
}
