package pgtest_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"publish-reconciler/repo/pgtest"
)

func TestStopLeavesNothing(t *testing.T) {
	t.Parallel()
	s := start(t, pgtest.Config{})
	dir := dirOf(t, s)
	pid := pidIn(t, dir)
	if got := query[string](t, s.AdminURL("postgres"), `SELECT current_user::text`); got != "postgres" {
		t.Errorf("admin is %q", got)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if alive(pid) {
		t.Errorf("process %d is left", pid)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("directory %s is left: %v", dir, err)
	}
	select {
	case <-s.Exited():
	default:
		t.Error("Exited is still open")
	}
	if err := s.Stop(); err != nil {
		t.Errorf("stop again: %v", err)
	}
}

func TestDirKeepsTheCluster(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(newDir(t), "made by start")
	s := start(t, pgtest.Config{Dir: dir})
	for range 2 { // the second finds it there
		if err := s.CreateDatabase(t.Context(), `kept "1"`); err != nil {
			t.Fatal(err)
		}
	}
	execute(t, s.URL(`kept "1"`), `CREATE TABLE notes AS SELECT 7 AS n`)
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}

	s = start(t, pgtest.Config{Dir: dir})
	if got := query[int](t, s.URL(`kept "1"`), `SELECT n FROM notes`); got != 7 {
		t.Errorf("got %d", got)
	}
	owner := query[string](t, s.AdminURL("postgres"), `SELECT pg_get_userbyid(datdba)::text FROM pg_database WHERE datname LIKE 'kept%'`)
	if owner != "publish" {
		t.Errorf("the database belongs to %q", owner)
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		cfg  pgtest.Config
		want map[string]string
	}{
		"throw-away": {
			want: map[string]string{"fsync": "off", "TimeZone": "UTC", "server_encoding": "UTF8", "listen_addresses": ""},
		},
		"durable": {
			cfg:  pgtest.Config{Durable: true, Settings: map[string]string{"work_mem": "7MB"}},
			want: map[string]string{"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "work_mem": "7MB"},
		},
		"own against ours": {
			cfg:  pgtest.Config{Settings: map[string]string{"autovacuum": "on", "listen_addresses": "*"}},
			want: map[string]string{"autovacuum": "on", "listen_addresses": ""},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, tt.cfg)
			for setting, want := range tt.want {
				if got := query[string](t, s.URL("postgres"), `SELECT current_setting('`+setting+`')`); got != want {
					t.Errorf("%s is %q, want %q", setting, got, want)
				}
			}
		})
	}
}

func TestTCPIsForTheRolePublishOnly(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	s := start(t, pgtest.Config{Port: port})
	if want := fmt.Sprintf("127.0.0.1:%d", port); !strings.Contains(s.URL("postgres"), want) {
		t.Fatalf("%s does not use %s", s.URL("postgres"), want)
	}
	if query[bool](t, s.URL("postgres"), `SELECT rolsuper FROM pg_roles WHERE rolname = current_user`) {
		t.Error("publish is a superuser")
	}

	asSuperuser := strings.Replace(s.URL("postgres"), "publish@", "postgres@", 1)
	conn, err := pgx.Connect(t.Context(), asSuperuser)
	if err == nil {
		_ = conn.Close(t.Context())
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); !ok || pgErr.Code != "28000" {
		t.Errorf("the superuser over TCP: %v, want a refusal (28000)", err)
	}
}

func TestTakenPort(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp4", "127.0.0.1:0") //nolint:noctx // a test's
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	_, err = pgtest.Start(t.Context(), pgtest.Config{Port: port})
	wantError(t, err, fmt.Sprint(port), "is taken")
	if !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("error is %v", err)
	}
}

// freePort stays below the ports that the system gives to other tests' connections.
func freePort(t *testing.T) int {
	t.Helper()
	for range 100 {
		port := 20000 + rand.IntN(10000)
		l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port)) //nolint:noctx // a test's
		if err == nil {
			_ = l.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

func TestInvalidConfig(t *testing.T) {
	t.Parallel()
	_, err := pgtest.Start(t.Context(), pgtest.Config{Port: 70000, Settings: map[string]string{"a=b": "c"}})
	if err == nil || !strings.Contains(err.Error(), "70000") || !strings.Contains(err.Error(), `"a=b"`) {
		t.Errorf("got %v, want both faults", err)
	}
}

func TestDirInUse(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	start(t, pgtest.Config{Dir: dir})
	_, err := pgtest.Start(t.Context(), pgtest.Config{Dir: dir})
	wantError(t, err, dir, "in use")
}

func TestPostgresRefuses(t *testing.T) {
	t.Parallel()
	_, err := pgtest.Start(t.Context(), pgtest.Config{Settings: map[string]string{"work_mem": "much"}})
	if err == nil || !strings.Contains(err.Error(), `invalid value for parameter "work_mem"`) {
		t.Errorf("got %v, want the end of Postgres's log", err)
	}
}

func TestClusterOfAnotherVersion(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	write(t, filepath.Join(dir, "pgdata", "PG_VERSION"), "9.6\n", 0o644)
	_, err := pgtest.Start(t.Context(), pgtest.Config{Dir: dir})
	wantError(t, err, dir, "Postgres 9.6", "install Postgres 9.6")
}

func TestDirUnfitForASocket(t *testing.T) {
	t.Parallel()
	for _, name := range []string{strings.Repeat("long", 30), "a,b"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, pgtest.Config{Dir: filepath.Join(newDir(t), name)})
			query[int](t, s.URL("postgres"), `SELECT 1`)
			socket := socketDir(t, s)
			if err := s.Stop(); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(socket); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("directory %s is left", socket)
			}
		})
	}
}

func TestStartIsCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	dir := newDir(t)
	done := make(chan error, 1)
	go func() {
		_, err := pgtest.Start(ctx, pgtest.Config{Dir: dir})
		done <- err
	}()
	waitUntil(t, "initdb has begun", func() bool {
		_, err := os.Stat(filepath.Join(dir, "pgdata.new", "PG_VERSION"))
		return err == nil
	})
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "pgdata")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("initdb was left to finish: %v", err)
	}
	// What it left behind is in nobody's way.
	start(t, pgtest.Config{Dir: dir})
}

func TestSweepOfTemporaryDirectories(t *testing.T) {
	t.Parallel()
	parent := newDir(t)
	dirs := map[string]string{}
	for _, name := range []string{"left", "young", "else"} {
		dirs[name] = filepath.Join(parent, pgtest.TempPrefix+name)
	}
	dirs["else"] = filepath.Join(parent, "something-else")
	for name, dir := range dirs {
		write(t, filepath.Join(dir, "postgres.log"), "", 0o600)
		if name != "young" {
			old := time.Now().Add(-time.Hour)
			if err := os.Chtimes(dir, old, old); err != nil {
				t.Fatal(err)
			}
		}
	}
	pgtest.Sweep(parent)
	for name, dir := range dirs {
		_, err := os.Stat(dir)
		if gone := errors.Is(err, os.ErrNotExist); gone != (name == "left") {
			t.Errorf("%s: gone is %t", name, gone)
		}
	}
}

func execute(t *testing.T, url, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}
