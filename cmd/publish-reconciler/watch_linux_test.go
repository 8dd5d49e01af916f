package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A terminal has one screen that is drawn again in its place, cut to its size, until Ctrl-C.
func TestWatchOnATerminal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve()
	screen, tty := terminal(t)
	if err := unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 12, Col: 40}); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "status", "--watch", "--every=100ms", "--nats-url="+w.nats.URL())
	cmd.Env = append(os.Environ(), asProgram+"=1")
	cmd.Stdout = tty
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	const home, below = "\x1b[H", "\x1b[J"
	var text bytes.Buffer
	for strings.Count(text.String(), below) < 3 {
		if _, err := io.CopyN(&text, screen, 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || stderr.Len() > 0 {
		t.Errorf("it ended with %v and %q", err, stderr.String())
	}
	frames := strings.Split(text.String(), home)
	if frames[0] != "\x1b[2J" || len(frames) != 4 {
		t.Errorf("%d frames, after %q", len(frames)-1, frames[0])
	}
	for _, frame := range frames[1:] {
		lines := strings.Split(strings.TrimSuffix(frame, below), "\r\n")
		for i, line := range lines[:len(lines)-1] {
			var erased bool
			if lines[i], erased = strings.CutPrefix(line, "\x1b[K"); !erased { // behind a full line it erases its end
				t.Errorf("not erased before: %q", line)
			}
		}
		if len(lines) != 12 || !strings.Contains(lines[0], "Z  status every 100") || !strings.HasPrefix(lines[2], "consumers ") {
			t.Errorf("%d lines: %q", len(lines), lines)
		}
		for _, line := range lines {
			if len([]rune(line)) > 40 {
				t.Errorf("too wide: %q", line)
			}
		}
	}
}
