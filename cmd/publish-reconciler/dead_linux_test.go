package main

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Whoever sits at a terminal is asked, and nothing but a y is a yes.
func TestDeadAsks(t *testing.T) {
	t.Parallel()
	g := newGraveyard(t)
	g.webhook("malformed_json")
	for _, test := range []struct {
		typed  string
		status int
	}{
		{"\n", exitFailure},
		{"n\n", exitFailure},
		{"yellow\n", exitFailure},
		{" Y \n", exitOK},
	} {
		keyboard, tty := terminal(t)
		p := &program{TB: t, ended: make(chan struct{})}
		p.cmd = exec.CommandContext(context.Background(), os.Args[0], "dead", "drop", "1", "--nats-url="+g.nats.URL())
		p.cmd.Env = append(os.Environ(), asProgram+"=1")
		p.cmd.Stdin = tty
		p.cmd.Stdout = &p.stdout
		question, err := p.cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := p.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		told := bufio.NewReader(question)
		asked, err := told.ReadString(']')
		if err != nil || asked != "Drop 1 letter? [y/N]" {
			t.Fatalf("it asks %q, %v", asked, err)
		}
		if _, err := io.WriteString(keyboard.(io.Writer), test.typed); err != nil {
			t.Fatal(err)
		}
		rest, err := io.ReadAll(told)
		if said := strings.Contains(string(rest), "publish-reconciler: nothing was dropped\n"); err != nil || said != (test.status != exitOK) {
			t.Errorf("for %q it says %q, %v", test.typed, rest, err)
		}
		_ = p.cmd.Wait() // its status is what counts
		contains(t, p.stdout.String(), "1 letter\n")
		if status := p.cmd.ProcessState.ExitCode(); status != test.status {
			t.Errorf("for %q the status is %d", test.typed, status)
		}
		if left := len(g.left()); (left == 0) != (test.status == exitOK) {
			t.Errorf("after %q there are %d letters", test.typed, left)
		}
	}
}
