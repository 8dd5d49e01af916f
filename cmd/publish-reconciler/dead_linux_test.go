package main

import (
	"bufio"
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
		var stdout buffer
		cmd := exec.CommandContext(t.Context(), os.Args[0], "dead", "drop", "1", "--nats-url="+g.nats.URL())
		cmd.Env = append(os.Environ(), asProgram+"=1")
		cmd.Stdin = tty
		cmd.Stdout = &stdout
		question, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
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
		_ = cmd.Wait() // its status is what counts
		contains(t, stdout.String(), "1 letter\n")
		if status := cmd.ProcessState.ExitCode(); status != test.status {
			t.Errorf("for %q the status is %d", test.typed, status)
		}
		if left := len(g.left()); (left == 0) != (test.status == exitOK) {
			t.Errorf("after %q there are %d letters", test.typed, left)
		}
	}
}
