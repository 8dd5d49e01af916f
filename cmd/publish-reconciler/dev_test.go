package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// dev is the dev command in a process of its own, ready.
type dev struct {
	*program
	nats, postgres, http string
	insert, look         string // commands to paste
	subject, payload     string // what the third one publishes
}

var (
	places  = regexp.MustCompile(`(?s)NATS +(\S+)\n +Postgres +(\S+)\n +HTTP +(\S+)\n +Data +([^\n]+)\n`)
	pastes  = regexp.MustCompile(`(?m)^  (psql .*)\n\n  .*nats\S* pub -s (\S+) (\S+) '(.*)'\n\n  (psql .*)$`)
	readyIn = regexp.MustCompile(`Ctrl-C ends it`)
)

func spawnDev(t *testing.T, env []string, args ...string) *program {
	t.Helper()
	return spawn(t, append([]string{"TMPDIR=" + openDir(t)}, env...), append([]string{"dev"}, args...)...)
}

func (p *program) banner() dev {
	p.Helper()
	began := time.Now()
	eventually(p, "dev is ready", func() bool {
		select {
		case <-p.ended:
			p.Fatalf("it ended with %d:\n%s", p.status, p.stderr.String())
		default:
		}
		return readyIn.MatchString(p.stdout.String())
	})
	p.Logf("ready after %s", time.Since(began))
	where, paste := places.FindStringSubmatch(p.stdout.String()), pastes.FindStringSubmatch(p.stdout.String())
	if where == nil || paste == nil || paste[2] != where[1] {
		p.Fatalf("banner is\n%s", p.stdout.String())
	}
	d := dev{program: p, nats: where[1], postgres: where[2], http: where[3], insert: paste[1], subject: paste[3], payload: paste[4], look: paste[5]}
	return d
}

// tmp is the program's temporary directory, and nobody else's.
func (p *program) tmp() (dir string) {
	for _, variable := range p.cmd.Env {
		if value, found := strings.CutPrefix(variable, "TMPDIR="); found {
			dir = value
		}
	}
	return dir
}

func (d dev) shell(command string) string {
	d.Helper()
	out, err := exec.CommandContext(d.Context(), "sh", "-c", command).CombinedOutput()
	if err != nil {
		d.Fatalf("%s: %v: %s", command, err, out)
	}
	return string(out)
}

func (d dev) jetstream() jetstream.JetStream {
	d.Helper()
	nc, err := nats.Connect(d.nats)
	if err != nil {
		d.Fatal(err)
	}
	d.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		d.Fatal(err)
	}
	return js
}

// endsClean wants no process and no file left.
func (d dev) endsClean(end func(), status int) {
	d.Helper()
	children := d.processes()
	if len(children) < 2 {
		d.Fatalf("its processes are %v", children)
	}
	end()
	d.exits(status, 10*time.Second)
	if left := alive(children); len(left) > 0 {
		d.Errorf("processes %v are left", left)
	}
	if left, err := os.ReadDir(d.tmp()); err != nil || len(left) > 0 {
		d.Errorf("files are left: %v, %v", left, err)
	}
}

// processes are all below dev's own: Postgres and its children.
func (d dev) processes() (below []int) {
	d.Helper()
	parents := map[int]bool{d.cmd.Process.Pid: true}
	for found := true; found; {
		found = false
		for pid, parent := range everyProcess(d) {
			if parents[parent] && !parents[pid] {
				parents[pid], found = true, true
				below = append(below, pid)
			}
		}
	}
	return below
}

// everyProcess has the parent of each process that is no zombie.
func everyProcess(d interface{ Fatal(...any) }) map[int]int {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || len(stats) == 0 {
		d.Fatal("no /proc", err)
	}
	parents := make(map[int]int)
	for _, path := range stats {
		text, _ := os.ReadFile(path) // it may have ended since
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		var state string
		var parent int
		if _, err := fmt.Sscan(string(text[strings.LastIndex(string(text), ")")+1:]), &state, &parent); err == nil && state != "Z" {
			parents[pid] = parent
		}
	}
	return parents
}

func alive(pids []int) []int {
	return slices.DeleteFunc(slices.Clone(pids), func(pid int) bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err != nil || strings.Contains(string(stat), ") Z ")
	})
}

// openDir is a directory of the test's own that the user whom Postgres runs as can enter.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "publish-cmd-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // see above
		t.Fatal(err)
	}
	return dir
}

func TestDevBannerWorks(t *testing.T) {
	t.Parallel()
	secret := "postgres://u:hush@127.0.0.1:1/x"
	p := spawnDev(t, []string{"DATABASE_URL=" + secret, "NATS_URL=nats://u:hush@127.0.0.1:1", "LOG_FORMAT=json"})
	d := p.banner()
	if n := len(d.lines("dev brings its own nats and postgres: NATS_URL and DATABASE_URL are not used")); n != 1 {
		t.Errorf("it warned %d times:\n%s", n, d.stderr.String())
	}
	s := served{d.program, d.http}
	if got := s.ask("GET", "/readyz", ""); got.status != 200 {
		t.Errorf("not ready: %+v", got)
	}
	if out := d.shell(d.insert); !strings.Contains(out, "INSERT 0 1") {
		t.Errorf("psql says %s", out)
	}
	if _, err := d.jetstream().Publish(t.Context(), d.subject, []byte(d.payload)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the row is closed", func() bool {
		out := d.shell(d.look)
		return strings.Contains(out, "success") && strings.Contains(out, "webhook_confirmed") && strings.Contains(out, "https://instagram.com/p/ABC/")
	})
	d.endsClean(func() { d.signal(syscall.SIGINT) }, exitOK)
	if strings.Contains(d.stdout.String()+d.stderr.String(), "hush") {
		t.Error("it tells a password")
	}
}

func TestDevsAtTheSameTime(t *testing.T) {
	t.Parallel()
	first, second := spawnDev(t, nil), spawnDev(t, nil)
	a, b := first.banner(), second.banner()
	if a.nats == b.nats || a.postgres == b.postgres || a.http == b.http {
		t.Errorf("they share an address:\n%s%s", a.stdout.String(), b.stdout.String())
	}
	b.endsClean(func() { b.signal(syscall.SIGTERM) }, exitOK)
	// A Postgres that ends takes dev along.
	a.endsClean(func() {
		for _, pid := range a.processes() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}, exitFailure)
	a.says("publish-reconciler: the private postgres ended")
}

func TestDevKeepsItsData(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(openDir(t), "data")
	d := spawnDev(t, nil, "--data-dir", dir).banner()
	contains(t, d.stdout.String(), "Data      "+dir)
	d.shell(d.insert)
	if _, err := d.jetstream().Publish(t.Context(), d.subject, []byte(d.payload)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the row is closed", func() bool { return strings.Contains(d.shell(d.look), "success") })

	second := spawnDev(t, nil, "--data-dir", dir)
	second.exits(exitFailure, soon)
	second.says("is in use by another Postgres")
	served{d.program, d.http}.ask("POST", "/publishing/reconcile", "") // unharmed
	if _, err := os.Stat(filepath.Join(dir, "nats")); err != nil {
		t.Error(err)
	}

	d.endsClean(func() { d.signal(syscall.SIGINT) }, exitOK)
	d = spawnDev(t, []string{"DATA_DIR=" + dir}).banner()
	if out := d.shell(d.look); !strings.Contains(out, "success") {
		t.Errorf("after the restart: %s", out)
	}
	stream, err := d.jetstream().Stream(t.Context(), "PUBLISH_WEBHOOKS")
	if err != nil {
		t.Fatal(err)
	}
	if n := stream.CachedInfo().State.Msgs; n != 1 {
		t.Errorf("%d webhooks are left", n)
	}
}

func TestKilledDevLeavesNoProcess(t *testing.T) {
	t.Parallel()
	d := spawnDev(t, nil).banner()
	children := d.processes()
	d.signal(syscall.SIGKILL)
	d.exits(-1, soon)
	eventually(t, "its processes are gone", func() bool { return len(alive(children)) == 0 })
}

func TestDevIsStoppedBeforeItIsReady(t *testing.T) {
	t.Parallel()
	p := spawnDev(t, nil)
	tmp := p.tmp()
	eventually(t, "it makes its cluster", func() bool {
		found, _ := filepath.Glob(filepath.Join(tmp, "publish-reconciler-pg-*", "pgdata.new", "*"))
		return len(found) > 0
	})
	p.signal(syscall.SIGINT)
	p.exits(exitOK, 10*time.Second)
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 || p.stderr.String() != "" {
		t.Errorf("left are %v, %v; it says %s", left, err, p.stderr.String())
	}
}
