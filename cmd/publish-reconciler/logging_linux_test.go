package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestLogFormat(t *testing.T) {
	pipe := func(t *testing.T) (io.Reader, *os.File) {
		t.Helper()
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Close(); _ = w.Close() })
		return r, w
	}
	const colour = "\x1b["
	for name, tt := range map[string]struct {
		format, noColor  string
		open             func(*testing.T) (io.Reader, *os.File)
		json, wantColour bool
	}{
		"pipe":                 {open: pipe, json: true},
		"pipe, text":           {format: "text", open: pipe},
		"terminal":             {open: terminal, wantColour: true},
		"terminal, text":       {format: "text", open: terminal, wantColour: true},
		"terminal, json":       {format: "json", open: terminal, json: true},
		"terminal, NO_COLOR":   {noColor: "1", open: terminal},
		"pipe, text, NO_COLOR": {format: "text", noColor: "1", open: pipe},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("NO_COLOR", tt.noColor)
			r, w := tt.open(t)
			logConfig{format: tt.format}.logger(w).Warn("hello", "key", "value")
			line := make([]byte, 1000)
			n, err := r.Read(line)
			if err != nil {
				t.Fatal(err)
			}
			text := string(line[:n])
			if strings.HasPrefix(text, "{") != tt.json || strings.Contains(text, colour) != tt.wantColour {
				t.Errorf("it says %q", text)
			}
		})
	}
}

// terminal is what a program writes to when somebody looks, and the somebody's end.
func terminal(t *testing.T) (io.Reader, *os.File) {
	t.Helper()
	r, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	if err := unix.IoctlSetPointerInt(int(r.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(r.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	w, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return r, w
}
