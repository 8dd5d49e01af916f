package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"net/http"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"publish-reconciler/repo/pgtest/pgtestdb"
)

const (
	// asProgram is set where the test binary is to be the program itself: for real signals and statuses.
	asProgram = "PUBLISH_RECONCILER_TEST_AS_PROGRAM"
	// soon is how long a test waits for what takes moments on an idle machine.
	soon = time.Minute
)

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	for _, variable := range variables(reflect.TypeFor[devCommand]()) {
		_ = os.Unsetenv(variable) // the caller's are for another service
	}
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "OTEL_") {
			_ = os.Unsetenv(name)
		}
	}
	for _, role := range roles {
		_ = os.Setenv(role.variable(), role.password())
	}
	// The tests wait much more than they work: more of them at once than there are processors.
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
	pgtestdb.Main(m)
}

// variables are the names that a command's settings have in the environment.
func variables(command reflect.Type) (all []string) {
	for field := range command.Fields() {
		if _, embedded := field.Tag.Lookup("embed"); embedded {
			all = append(all, variables(field.Type)...)
		} else {
			all = append(all, field.Tag.Get("env"))
		}
	}
	return all
}

// program is a command under way: in this process, or in one of its own.
type program struct {
	testing.TB
	stdout, stderr buffer
	stop           context.CancelFunc // in this process
	cmd            *exec.Cmd          // in its own
	ended          chan struct{}
	status         int // once ended
}

// begin calls run in this process; it is stopped when the test ends.
func begin(tb testing.TB, args ...string) *program {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p := &program{TB: tb, stop: cancel, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		p.status = run(ctx, args, &p.stdout, &p.stderr)
	}()
	tb.Cleanup(func() { cancel(); <-p.ended })
	return p
}

// spawn runs the program in a process of its own, with these variables; it is killed when the test ends.
func spawn(tb testing.TB, env []string, args ...string) *program {
	tb.Helper()
	return spawnFile(tb, os.Args[0], append([]string{asProgram + "=1"}, env...), args...)
}

// spawnFile is spawn of a binary.
func spawnFile(tb testing.TB, file string, env []string, args ...string) *program {
	tb.Helper()
	p := &program{TB: tb, ended: make(chan struct{})}
	p.cmd = exec.CommandContext(context.Background(), file, args...)
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	if err := p.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // its status is what counts
		p.status = p.cmd.ProcessState.ExitCode()
	}()
	tb.Cleanup(func() { _ = p.cmd.Process.Kill(); <-p.ended })
	return p
}

func (p *program) signal(sig syscall.Signal) {
	p.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.Fatal(err)
	}
}

// exits wants the program to end within limit.
func (p *program) exits(status int, limit time.Duration) {
	p.Helper()
	select {
	case <-p.ended:
	case <-time.After(limit):
		p.Fatalf("still running after %s:\n%s", limit, p.stderr.String())
	}
	if p.status != status {
		p.Errorf("exit status is %d, want %d:\n%s", p.status, status, p.stderr.String())
	}
}

// logged waits for a JSON log line with this message and returns it.
func (p *program) logged(message string) (line map[string]any) {
	p.Helper()
	eventually(p, "log says "+message, func() bool {
		if all := p.lines(message); len(all) > 0 {
			line = all[0]
			return true
		}
		select {
		case <-p.ended:
			p.Fatalf("it ended with %d before it said %q:\n%s", p.status, message, p.stderr.String())
		default:
		}
		return false
	})
	return line
}

// lines are the JSON log lines with this message, so far.
func (p *program) lines(message string) (found []map[string]any) {
	for text := range strings.Lines(p.stderr.String()) {
		var line map[string]any
		if json.Unmarshal([]byte(text), &line) == nil && line["msg"] == message {
			found = append(found, line)
		}
	}
	return found
}

func (p *program) says(text string) {
	p.Helper()
	contains(p, p.stderr.String(), text)
}

// parse reads arguments and variables as run does.
func parse(tb testing.TB, args ...string) commands {
	tb.Helper()
	var cli commands
	parser, err := kong.New(&cli, tagVariables())
	if err != nil {
		tb.Fatal(err)
	}
	parsed, err := parser.Parse(args)
	if err != nil {
		tb.Fatal(err)
	}
	emptyIsDefault(parsed)
	return cli
}

func contains(tb testing.TB, text, part string) {
	tb.Helper()
	if !strings.Contains(text, part) {
		tb.Errorf("no %q in:\n%s", part, text)
	}
}

func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(soon); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatalf("not within %s: %s", soon, what)
		}
	}
}

// client leaves no connections behind.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: soon}

// buffer is written by the program while the test reads it.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
