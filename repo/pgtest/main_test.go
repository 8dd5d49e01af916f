package pgtest_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"publish-reconciler/repo/pgtest"
)

// parentDir makes this binary a process that runs a server in that directory until its input ends.
const parentDir = "PGTEST_PARENT_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(parentDir); dir != "" {
		if err := parent(dir); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(ownTemp{m})
}

// ownTemp gives the tests a temporary directory of their own, since the library that downloads leaves a file
// there each time.
type ownTemp struct{ m *testing.M }

func (o ownTemp) Run() int {
	dir, err := os.MkdirTemp("", "pgtest-")
	if err == nil {
		err = errors.Join(os.Chmod(dir, 0o755), os.Setenv("TMPDIR", dir))
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	code := o.m.Run()
	if err := os.RemoveAll(dir); err != nil {
		fmt.Println(err)
		return 1
	}
	return code
}

func parent(dir string) error {
	s, err := pgtest.Start(context.Background(), pgtest.Config{Dir: dir})
	if err != nil {
		return err
	}
	fmt.Println("serving")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return s.Stop()
}

// startParent starts such a process and waits for its first line.
func startParent(t *testing.T, dir string, env ...string) (*exec.Cmd, io.Closer, string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(append(os.Environ(), parentDir+"="+dir), env...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	return cmd, in, strings.TrimSpace(line)
}

// newDir is like t.TempDir, but every user can enter it.
func newDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pgtest-test-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func start(t *testing.T, cfg pgtest.Config) *pgtest.Server {
	t.Helper()
	s, err := pgtest.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	stopAfter(t, s)
	return s
}

func stopAfter(t *testing.T, s *pgtest.Server) {
	t.Helper()
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
}

// dirOf is the directory of a server, which for a temporary one only its URL tells.
func dirOf(t *testing.T, s *pgtest.Server) string {
	t.Helper()
	return filepath.Dir(socketDir(t, s))
}

func socketDir(t *testing.T, s *pgtest.Server) string {
	t.Helper()
	u, err := url.Parse(s.AdminURL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	return u.Query().Get("host")
}

func pidIn(t *testing.T, dir string) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "pgdata", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func alive(pid int) bool { return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

func waitUntil(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); {
		if time.Now().After(deadline) {
			t.Fatalf("still not so after 20 s: %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// query returns the one value that sql gives.
func query[T any](t *testing.T, url, sql string) T {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var v T
	if err := conn.QueryRow(t.Context(), sql).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not tell %q: %v", part, err)
		}
	}
	if strings.Count(err.Error(), "\n") > 0 {
		t.Errorf("the error is more than one line: %v", err)
	}
}
