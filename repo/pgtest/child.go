package pgtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// command is a program of Postgres's in an environment of our own: PGDATA, PGPORT, LC_* and the like of the
// caller are for another server. It is a process group of its own, or Ctrl-C in a terminal would reach it
// before Stop does.
func command(ctx context.Context, lay layout, as *account, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = lay.dir
	cmd.Env = []string{"LC_ALL=C", "TZ=UTC", "PATH=" + filepath.Dir(name) + ":/usr/bin:/bin"}
	cmd.SysProcAttr = ownGroup(as)
	return cmd
}

// child is a program that ends with this process.
type child struct {
	process *os.Process
	ended   chan struct{}
	ok      bool  // whether it ended with status 0; read it and err after ended is closed
	err     error // how it ended, never nil
}

// startChild starts a program whose output goes to the log file, which it empties first.
func startChild(lay layout, as *account, name string, args ...string) (*child, error) {
	log, err := create(lay.log(), 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close() //nolint:errcheck // the child writes it, not we

	cmd := command(context.Background(), lay, as, name, args...)
	cmd.Stdout, cmd.Stderr = log, log
	dieWithParent(cmd.SysProcAttr)

	c := &child{ended: make(chan struct{})}
	started := make(chan error)
	go func() {
		// Linux sends the death signal when the thread that started the child ends, not the process: hold
		// on to the thread for as long as the child lives.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()

		err := cmd.Start()
		c.process = cmd.Process
		started <- err
		if err != nil {
			return
		}
		c.err = cmd.Wait()
		if c.err == nil {
			c.ok, c.err = true, errors.New("exit status 0")
		}
		close(c.ended)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("run %s%s: %w", name, as, err)
	}
	return c, nil
}

// stop asks ever less politely, each time waiting for grace: fast shutdown, abort, kill.
func (c *child) stop(grace time.Duration, logger *slog.Logger) error {
	for i, sig := range []os.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGKILL} {
		if i > 0 {
			logger.Warn("postgres is slow to stop", "pid", c.process.Pid, "signal", sig.String())
		}
		_ = c.process.Signal(sig) // fails only when it has ended
		select {
		case <-c.ended:
			return nil
		case <-time.After(grace):
		}
	}
	return fmt.Errorf("stop postgres: process %d is still there after it was killed", c.process.Pid)
}

// create makes a file anew, never following or reusing what lies there, which may be another user's.
func create(path string, mode os.FileMode) (*os.File, error) {
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, mode)
}

// tail is the end of the log, for an error.
func tail(path string) string {
	const lines = 20
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(text)), "\n")
	return "  " + strings.Join(all[max(0, len(all)-lines):], "\n  ")
}
