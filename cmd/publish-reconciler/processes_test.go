package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"publish-reconciler/streams"
)

// outageFor is how long outages last. What has to happen then happens within moments, and the pauses in between
// grow to ten seconds at most: so a minute (-outage 1m) shows the same, later.
var outageFor = flag.Duration("outage", 2*time.Second, "how long Postgres and NATS stay away")

// A process is killed twenty times while it works, wherever it is just then.
func TestKilledAtRandomMoments(t *testing.T) {
	t.Parallel()
	l := newWorld(t).load()
	l.ensure()
	for range 20 {
		p := spawn(t, nil, l.args()...)
		if rand.IntN(4) > 0 { // else it may be killed before it is ready
			p.logged("ready")
		}
		l.feed(10)
		l.hasten()
		time.Sleep(rand.N(150 * time.Millisecond))
		p.signal(syscall.SIGKILL)
		p.exits(-1, soon)
	}
	spawn(t, nil, l.args()...).logged("ready")
	l.hasty = true
	l.endsWell()
}

// The statements of a batch and its commit are on their way together: so Postgres commits what a process sent
// that is killed meanwhile, and nobody acknowledges it.
func TestKilledBetweenCommitAndAck(t *testing.T) {
	t.Parallel()
	l := newWorld(t).load()
	p := spawn(t, nil, l.args()...)
	p.logged("ready")
	l.confirm(l.js, "first") // which prepares the statements
	l.exec(`CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS
	        $$ BEGIN IF NEW.external_post_id = 'post' THEN PERFORM pg_sleep(1); END IF; RETURN NEW; END $$`)
	l.exec(`CREATE TRIGGER dawdle BEFORE UPDATE ON publish_logs FOR EACH ROW EXECUTE FUNCTION dawdle()`)
	log := l.publish("post", "processing", `{}`, 0)
	l.send("publish.webhook.instagram", `{"external_post_id":"post","status":"published"}`, "post")
	eventually(t, "the batch is written", func() bool {
		return l.text(`SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'`) == "1"
	})
	p.signal(syscall.SIGKILL)
	p.exits(-1, soon)
	eventually(t, "it is committed", func() bool { return l.status(log) == "success" })
	before := l.history(log)
	if hand := l.inHand(streams.ConsumerWebhooks); hand != 1 {
		t.Fatalf("%d messages are not acknowledged", hand)
	}

	spawn(t, nil, l.args()...).logged("ready")
	l.hasty = true
	l.becomes("messages in hand", "0", func() string { return strconv.Itoa(l.inHand(streams.ConsumerWebhooks)) })
	if after := l.history(log); after != before {
		t.Errorf("it was\n%s\nand is\n%s", before, after)
	}
	eventually(t, "both are told", func() bool { return len(l.events()) == 2 })
}

// A replica hangs between its two round trips, for longer than its messages wait for it. Postgres ends its
// transaction, another replica does its work, and an operator goes on from there. What it writes when it comes
// back is refused.
func TestAReplicaThatHangs(t *testing.T) {
	t.Parallel()
	l := newWorld(t).load()
	hanging := spawn(t, nil, l.args("--database-url="+l.database+"&lock_timeout=30s&idle_in_transaction_session_timeout=1s")...)
	hangingURL := "http://" + hanging.logged("ready")["http"].(string)
	log := l.publish("post", "processing", `{}`, 0)
	lock, err := l.db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Rollback(context.Background())
	if _, err := lock.Exec(t.Context(), `SELECT FROM publish_logs WHERE id = $1 FOR UPDATE`, log); err != nil {
		t.Fatal(err)
	}
	l.send("publish.webhook.instagram", `{"external_post_id":"post","status":"published"}`, "post")
	eventually(t, "its batch waits for the lock", func() bool {
		return l.text(`SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) == "1"
	})
	hanging.freeze()
	if err := lock.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}

	other := spawn(t, nil, l.args()...)
	otherServed := served{other, "http://" + other.logged("ready")["http"].(string)}
	l.hasty = true
	l.becomes("the log, by another replica", "success", func() string { return l.status(log) })
	if got := otherServed.ask("POST", "/publishing/logs/"+log+"/override", `{"status":"failed","actor":"ana"}`); got.status != http.StatusOK {
		t.Fatalf("%+v", got)
	}
	before := l.history(log)

	hanging.signal(syscall.SIGCONT)
	eventually(t, "it has come back", func() bool { return len(hanging.lines("consumer is stuck"))+len(hanging.lines("fetching stopped")) > 0 })
	eventually(t, "it is ready again", func() bool { status, _ := readiness(t, hangingURL); return status == http.StatusOK })
	other.signal(syscall.SIGTERM)
	other.exits(exitOK, soon)
	l.confirm(l.js, "next") // by itself
	if after := l.history(log); after != before {
		t.Errorf("it was\n%s\nand is\n%s", before, after)
	}
	eventually(t, "all are told", func() bool { return len(l.events()) == 3 })
}

// One replica after the other is replaced, under load, and nothing that it had in hand has to wait for it.
func TestRollingRestarts(t *testing.T) {
	t.Parallel()
	for _, replicas := range []int{2, 4} {
		t.Run(fmt.Sprint(replicas), func(t *testing.T) {
			t.Parallel()
			l := newWorld(t).load()
			var running []*program
			start := func() {
				running = append(running, spawn(t, nil, l.args()...))
				running[len(running)-1].logged("ready")
			}
			for range replicas {
				start()
			}
			for range 2 * replicas {
				l.feed(15)
				running[0].signal(syscall.SIGTERM)
				l.feed(5)
				running[0].exits(exitOK, soon)
				running = running[1:]
				start()
			}
			ending := time.Now()
			l.endsWell()
			if took := time.Since(ending); took >= streams.AckWait {
				t.Errorf("it took %s: what a replica left waited for its ack wait", took)
			}
			for _, p := range running {
				if warned := strings.Count(p.stderr.String(), `"level":"WARN"`); warned > 0 {
					t.Errorf("%d warnings:\n%s", warned, p.stderr.String())
				}
			}
		})
	}
}

// The probes, the memory and the log of a service while Postgres is killed, and then while NATS is away.
func TestOutagesAsAnOperatorSeesThem(t *testing.T) {
	t.Parallel()
	w, dir, server, start := ownPostgres(t)
	l := w.load()
	p := spawn(t, nil, l.args()...)
	url := "http://" + p.logged("ready")["http"].(string)
	l.feed(20)
	eventually(t, "some are done", func() bool { return l.done() > 0 })

	pid := postmaster(t, dir)
	if err := syscall.Kill(pid, syscall.SIGQUIT); err != nil { // pg_ctl stop -m immediate
		t.Fatal(err)
	}
	<-server.Exited()
	_ = server.Stop()
	// A backlog larger than the memory that the service may take; the race detector would take a minute for it.
	backlog := 2000
	if raced() {
		backlog /= 5
	}
	pad := strings.Repeat("x", 100<<10)
	for i := range backlog {
		if _, err := l.js.PublishAsync("publish.webhook.tiktok", fmt.Appendf(nil, `{"external_post_id":"%d","pad":%q}`, i, pad), jetstream.WithStallWait(soon)); err != nil {
			t.Fatal(err)
		}
	}
	<-l.js.PublishAsyncComplete()
	l.away(p, url, "postgres")
	start()
	w.db.Reset()
	eventually(t, "ready", func() bool { status, _ := readiness(t, url); return status == http.StatusOK })
	l.becomes("webhooks, parked and in hand", fmt.Sprint(backlog, " 0"), func() string {
		l.bounded(p)
		return l.text(`SELECT count(*)::text FROM parked_webhooks WHERE platform = 'tiktok'`) + " " + strconv.Itoa(l.inHand(streams.ConsumerWebhooks))
	})
	l.exec(`DELETE FROM parked_webhooks WHERE platform = 'tiktok'`)
	l.feed(20)
	l.endsWell()
	l.once(p, "fetching stopped")
	l.once(p, "fetching again")

	l.hasty = true // for what was on its way
	l.nats.Halt()
	l.away(p, url, "nats")
	if err := l.nats.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "ready", func() bool { status, _ := readiness(t, url); return status == http.StatusOK })
	l.feed(20)
	l.endsWell()
	l.once(p, "connection to nats lost")
	l.once(p, "connected to nats again")
	l.bounded(p)
	l.quiet(p, 2)
	p.signal(syscall.SIGTERM)
	p.exits(exitOK, soon)
}

// away wants the truth from the probes for as long as a part is.
func (l *load) away(p *program, url, part string) {
	l.Helper()
	eventually(l, "not ready", func() bool { status, _ := readiness(l, url); return status == http.StatusServiceUnavailable })
	for end := time.Now().Add(*outageFor); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if status, body := readiness(l, url); status != http.StatusServiceUnavailable || strings.Contains(body, `"`+part+`":"ok"`) {
			l.Fatalf("it says %d, %s", status, body)
		}
		if status, body := get(l, url+"/healthz"); status != http.StatusOK {
			l.Fatalf("it is ill: %d, %s", status, body)
		}
		l.bounded(p)
	}
}

// bounded wants the service's memory below a fixed bound. In hand are four batches of at most 4 MB for each of three
// consumers; decoded they are a few times as large, and Go's collector takes as much again. The race detector takes
// five to ten times as much (go.dev/doc/articles/race_detector).
func (l *load) bounded(p *program) {
	l.Helper()
	most := 160 << 10
	if raced() {
		most *= 5
	}
	if kb := residentKB(l, p.cmd.Process.Pid); kb > most {
		l.Fatalf("it has %d KB in memory", kb)
	}
}

// freeze stops a process, and returns once all of its threads stand still, as far as the system tells (Linux does).
func (p *program) freeze() {
	p.Helper()
	p.signal(syscall.SIGSTOP)
	tasks := fmt.Sprintf("/proc/%d/task/*/stat", p.cmd.Process.Pid)
	eventually(p, "the process stands still", func() bool {
		files, err := filepath.Glob(tasks)
		if err != nil {
			p.Fatal(err)
		}
		return !slices.ContainsFunc(files, func(file string) bool {
			stat, err := os.ReadFile(file)
			return err == nil && !strings.Contains(string(stat), ") T ") // a thread that ended is no thread
		})
	})
}

// raced tells whether the race detector is at work, here and in the processes that are spawned.
func raced() bool {
	build, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(build.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// residentKB is a process's memory, 0 where the system has no /proc.
func residentKB(tb interface{ Fatal(...any) }, pid int) int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if errors.Is(err, os.ErrNotExist) {
		return 0
	}
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if size, found := strings.CutPrefix(line, "VmRSS:"); found {
			kb, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(size), " kB"))
			if err != nil {
				tb.Fatal(err)
			}
			return kb
		}
	}
	return 0
}

func (l *load) once(p *program, message string) {
	l.Helper()
	if n := len(p.lines(message)); n != 1 {
		l.Errorf("it said %d times: %s\n%s", n, message, p.stderr.String())
	}
}

// quiet wants that no warning comes more often than there were outages, of each consumer.
func (l *load) quiet(p *program, outages int) {
	l.Helper()
	times := make(map[string]int)
	for text := range strings.Lines(p.stderr.String()) {
		var line struct{ Level, Msg, Consumer string }
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			l.Errorf("%v in %s", err, text)
		}
		if line.Level == "WARN" {
			times[line.Msg+line.Consumer]++
		}
	}
	for what, n := range times {
		if n > outages {
			l.Errorf("it said %d times: %s\n%s", n, what, p.stderr.String())
		}
	}
}

func readiness(tb testing.TB, url string) (status int, body string) {
	tb.Helper()
	return get(tb, url+"/readyz")
}

func get(tb testing.TB, url string) (status int, body string) {
	tb.Helper()
	request, err := http.NewRequestWithContext(tb.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		tb.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		tb.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// postmaster is the process id of the Postgres in a directory.
func postmaster(t *testing.T, dir string) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "pgdata", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.Fields(string(text))[0])
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// history is all there is of a log, to the last bit.
func (w *world) history(log string) string {
	w.Helper()
	return w.text(`
		SELECT l::text || E'\n' || (SELECT string_agg(e::text, E'\n' ORDER BY e.id) FROM ledger_events e WHERE e.entity_id = l.id::text)
		  FROM publish_logs l WHERE id = $1`, log)
}

// inHand is how many messages of a consumer are not acknowledged.
func (l *load) inHand(name string) int {
	l.Helper()
	consumer, err := l.js.Consumer(l.Context(), streams.StreamWebhooks, name)
	if err != nil {
		l.Fatal(err)
	}
	return consumer.CachedInfo().NumAckPending
}

// ensure makes the streams before a service has.
func (l *load) ensure() {
	l.Helper()
	if err := streams.Ensure(l.Context(), l.js, streams.Config{}); err != nil {
		l.Fatal(err)
	}
}
