package pgtest_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"publish-reconciler/repo/pgtest"
)

func TestPostgresEndsWithItsParent(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		return // the package comment says so: only Linux can tie a child to its parent
	}
	dir := newDir(t)
	cmd, in, line := startParent(t, dir)
	defer in.Close()
	if line != "serving" {
		t.Fatal(line)
	}
	pid := pidIn(t, dir)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	waitUntil(t, "its postgres is gone", func() bool { return !alive(pid) })
}

func TestStartWaitsForTheEndOfAKilledServer(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	if err := start(t, pgtest.Config{Dir: dir}).Stop(); err != nil {
		t.Fatal(err)
	}
	// Another server plays the one that has yet to end.
	old := start(t, pgtest.Config{})
	pid := fmt.Sprintf("%d\n", pidIn(t, dirOf(t, old)))
	write(t, filepath.Join(dir, "pgdata", "postmaster.pid"), pid, 0o644)

	done := make(chan error, 1)
	go func() {
		s, err := pgtest.Start(t.Context(), pgtest.Config{Dir: dir})
		if err == nil {
			err = s.Stop()
		}
		done <- err
	}()
	waitUntil(t, "the new postgres was refused", func() bool {
		if len(done) > 0 {
			t.Fatalf("the start did not wait: %v", <-done)
		}
		text, _ := os.ReadFile(filepath.Join(dir, "postgres.log"))
		return strings.Contains(string(text), `"postmaster.pid" already exists`)
	})
	if err := old.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestKilledPostgres(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	s := start(t, pgtest.Config{Dir: dir})
	if err := syscall.Kill(pidIn(t, dir), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.Exited():
	case <-time.After(20 * time.Second):
		t.Fatal("Exited is still open")
	}
	if err := s.Stop(); err != nil {
		t.Errorf("stop after the end: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "pgdata", "postmaster.pid")); err != nil {
		t.Fatalf("this test wants a stale lock file: %v", err)
	}
	s = start(t, pgtest.Config{Dir: dir})
	query[int](t, s.URL("postgres"), `SELECT 1`)
}

func TestCallersVariablesAreForAnotherServer(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	cmd, in, line := startParent(t, dir, "PGDATA=/nowhere", "PGPORT=1", "PGHOST=/nowhere", "PGUSER=nobody",
		"PGDATABASE=nothing", "PGOPTIONS=-c nonsense=1", "PGTZ=Nowhere/Land", "PGTARGETSESSIONATTRS=standby",
		"PGSSLMODE=verify-full", "TZ=Asia/Tokyo", "LC_ALL=xx_XX")
	if line != "serving" {
		t.Error(line)
	}
	_ = in.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestEnvironmentOfPrograms(t *testing.T) {
	t.Setenv("PGDATA", "/nowhere")
	dir := newDir(t)
	c, err := pgtest.StartChild(dir, "/usr/bin/env")
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Ended() // never nil
	text, err := os.ReadFile(filepath.Join(dir, "postgres.log"))
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Fields(string(text))
	slices.Sort(got)
	want := []string{"LC_ALL=C", "PATH=/usr/bin:/usr/bin:/bin", "TZ=UTC"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestStopInsists(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ script, want string }{
		"ends when asked": {`echo begun; exec sleep 60`, "interrupt"},
		"ignores SIGINT":  {`trap "" INT; echo begun; exec sleep 60`, "quit"},
		"ignores SIGQUIT": {`trap "" INT QUIT; echo begun; exec sleep 60`, "killed"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := newDir(t)
			c, err := pgtest.StartChild(dir, "/bin/sh", "-c", tt.script)
			if err != nil {
				t.Fatal(err)
			}
			waitUntil(t, "the script has begun", func() bool {
				text, _ := os.ReadFile(filepath.Join(dir, "postgres.log"))
				return len(text) > 0
			})
			if err := c.Stop(200 * time.Millisecond); err != nil {
				t.Error(err)
			}
			if got := c.Ended().Error(); !strings.Contains(got, tt.want) {
				t.Errorf("ended by %q, want %q", got, tt.want)
			}
		})
	}
}
