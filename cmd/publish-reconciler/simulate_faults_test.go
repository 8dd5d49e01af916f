package main

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"publish-reconciler/repo/pgtest"
	"publish-reconciler/streams"
	"publish-reconciler/streams/streamstest"
)

// Publishers and platforms go on while something breaks, and every log ends as it must.
func TestSimulateThroughFaults(t *testing.T) {
	t.Parallel()
	for name, breaks := range map[string]func(*world, *load){
		"killed twenty times": func(w *world, l *load) {
			for range 20 {
				p := spawn(w, nil, l.args()...)
				p.logged("ready")
				l.hasten()
				time.Sleep(rand.N(150 * time.Millisecond)) // anywhere in its work
				p.signal(syscall.SIGKILL)
				p.exits(-1, soon)
			}
			spawn(w, nil, l.args()...).logged("ready")
			l.hasten()
		},
		"rolling restarts of two replicas": func(w *world, l *load) {
			running := []*program{spawn(w, nil, l.args()...), spawn(w, nil, l.args()...)}
			for range 4 {
				running[1].logged("ready")
				running[0].signal(syscall.SIGTERM)
				running[0].exits(exitOK, soon)
				running = []*program{running[1], spawn(w, nil, l.args()...)}
			}
		},
		"a replica hangs": func(w *world, l *load) {
			hanging := spawn(w, nil, l.args()...)
			hanging.logged("ready")
			spawn(w, nil, l.args()...).logged("ready")
			l.hasten()
			hanging.freeze()
			time.Sleep(2 * time.Second) // longer than the ack wait
			hanging.signal(syscall.SIGCONT)
		},
		// A service that lags: the deadlines pass while the webhooks lie there.
		"webhooks are read late": func(w *world, l *load) {
			if _, err := l.js.PauseConsumer(w.Context(), streams.StreamWebhooks, streams.ConsumerWebhooks, time.Now().Add(10*time.Second)); err != nil {
				w.Fatal(err)
			}
			spawn(w, nil, l.args()...).logged("ready")
		},
		"connections are cut": func(w *world, l *load) {
			spawn(w, nil, l.args()...).logged("ready")
			for range 10 {
				w.exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`)
				time.Sleep(rand.N(150 * time.Millisecond))
			}
			l.hasten()
		},
		"NATS is restarted": func(w *world, l *load) {
			spawn(w, nil, l.args()...).logged("ready")
			w.nats.Halt()
			time.Sleep(*outageFor)
			if err := w.nats.Restart(context.Background()); err != nil {
				w.Fatal(err)
			}
			eventually(w, "the ack wait is shortened", func() bool {
				ctx, cancel := context.WithTimeout(w.Context(), time.Second)
				defer cancel()
				_, err := l.js.Stream(ctx, streams.StreamWebhooks)
				return err == nil
			})
			l.hasten()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.provesTrue(breaks)
		})
	}
	t.Run("Postgres is killed", func(t *testing.T) {
		t.Parallel()
		w, dir, server, start := ownPostgres(t)
		w.provesTrue(func(w *world, l *load) {
			spawn(w, nil, l.args()...).logged("ready")
			if err := syscall.Kill(postmaster(t, dir), syscall.SIGQUIT); err != nil { // pg_ctl stop -m immediate
				t.Fatal(err)
			}
			<-server.Exited()
			_ = server.Stop()
			time.Sleep(*outageFor)
			start()
			l.hasten()
		})
	})
}

// provesTrue has a simulation play while something breaks.
func (w *world) provesTrue(breaks func(*world, *load)) {
	w.Helper()
	l := w.load()
	l.ensure()
	p := begin(w, "simulate", "--database-url="+w.database, "--nats-url="+w.nats.URL(), "--logs=400", "--rate=80", "--timeout=3s", "--json")
	eventually(w, "logs are inserted", func() bool { return w.text(`SELECT count(*)::text FROM publish_logs`) != "0" })
	breaks(w, l)
	p.exits(exitOK, simulated)
	var result struct {
		OK           bool
		Logs, Wrong  int
		StateChanges struct{ Expected, Found int } `json:"state_changes"`
	}
	if err := json.Unmarshal([]byte(p.stdout.String()), &result); err != nil || !result.OK || result.Logs != 400 || result.Wrong != 0 || result.StateChanges.Found != result.StateChanges.Expected {
		w.Errorf("%v: %s", err, p.stdout.String())
	}
}

// ownPostgres is a world whose Postgres may be killed; start brings it back where it was.
func ownPostgres(t *testing.T) (w *world, dir string, server *pgtest.Server, start func() *pgtest.Server) {
	t.Helper()
	dir = openDir(t)
	start = func() *pgtest.Server {
		server, err := pgtest.Start(t.Context(), pgtest.Config{Dir: dir, Durable: true}) // what it has told survives
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = server.Stop() })
		return server
	}
	server = start()
	if err := server.CreateDatabase(t.Context(), "publish"); err != nil {
		t.Fatal(err)
	}
	w = &world{TB: t, database: server.URL("publish"), nats: streamstest.New(t)}
	if err := migrate(t.Context(), w.database); err != nil {
		t.Fatal(err)
	}
	w.db = connect(t, w.database)
	return w, dir, server, start
}
