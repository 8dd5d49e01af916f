package consumer_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"publish-reconciler/reconciler"
	"publish-reconciler/streams"
)

// through has a replica reach Postgres by a URL of its own.
func through(url string) func(*parts) { return func(p *parts) { p.store.URL = url } }

// behind has a replica reach NATS through a proxy. It notices within a second that nobody answers, as the
// service does within thirty.
func (w *world) behind(p *proxy) func(*parts) {
	return func(parts *parts) {
		parts.connect = func() (*nats.Conn, error) {
			return nats.Connect("nats://"+p.addr, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond),
				nats.PingInterval(300*time.Millisecond), nats.MaxPingsOutstanding(2), nats.Timeout(time.Second),
				nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
		}
	}
}

// load is a webhook and a check for each of n logs. A check alone would find them silent and not due.
func (w *world) load(n int) {
	w.Helper()
	logs := w.insertLogs("p", n, 0)
	w.sendMany(n, publishedMany("p"))
	w.sendMany(n, func(i int) (subject, body string) { return streams.CheckSubject(logs[i]), "" })
}

// done counts the logs that are.
func (w *world) done() int {
	w.Helper()
	return one[int](w, `SELECT count(*) FROM publish_logs WHERE status = 'success'`)
}

// endsWell waits until n logs have succeeded and nothing is left to do, and wants that it happened once.
func (w *world) endsWell(n int) {
	w.Helper()
	w.until("all are done", func() bool { return w.done() == n })
	w.allSettled()
	equal(w, "logs with one state change", one[int](w, `
		SELECT count(*) FROM (SELECT FROM ledger_events WHERE event_type = 'publish_reconciled'
		                       GROUP BY entity_id HAVING count(*) = 1) l`), n)
	equal(w, "state changes", one[int](w, `SELECT count(*) FROM ledger_events WHERE event_type = 'publish_reconciled'`), n)
	equal(w, "parked", w.parked(), 0)
	equal(w, "dead letters", w.dead(), 0)
}

// setupForLosses is a world in which messages that were lost in hand come again within the test.
func setupForLosses(t *testing.T) *world {
	t.Helper()
	w := setup(t)
	w.shortenAckWait(streams.ConsumerWebhooks)
	w.shortenAckWait(streams.ConsumerChecks)
	return w
}

func TestPostgresConnectionsThatAreReset(t *testing.T) {
	t.Parallel()
	w := setup(t)
	proxy, url := postgresBehind(t, w.url)
	proxy.delay.Store(int64(3 * time.Millisecond)) // so that a reset finds a batch under way
	w.load(1000)
	r := w.start(batchSize(20), through(url))
	const resets = 20
	for i := range resets {
		w.until("it goes on", func() bool { return w.done() > 40*i })
		proxy.reset()
	}
	w.endsWell(1000)
	if w.redelivered(streams.ConsumerWebhooks)+w.redelivered(streams.ConsumerChecks) == 0 {
		t.Error("no reset met a batch")
	}
	// Each has a beginning for each consumer at most, and none is of a single message.
	if lines := r.logs.with("level=WARN"); len(lines) > 3*resets {
		t.Errorf("%d warnings: %q", len(lines), lines)
	}
}

// redelivered counts the deliveries of a consumer beyond one for each message.
func (w *world) redelivered(name string) int {
	w.Helper()
	info := w.consumerInfo(name)
	if name == streams.ConsumerWebhooks {
		return redelivered(info)
	}
	return max(0, int(info.Delivered.Consumer)-1000)
}

// Nobody answers and nobody says so: only a time limit ends that.
func TestPostgresInABlackHole(t *testing.T) {
	t.Parallel()
	w := setup(t)
	proxy, url := postgresBehind(t, w.url)
	w.load(1000)
	// What is in the hole holds its locks until Postgres ends its transaction, by default after 30 s.
	url += "&idle_in_transaction_session_timeout=1s"
	r := w.start(batchSize(20), through(url), func(p *parts) { p.store.Timeout = 2 * time.Second })
	w.until("some are done", func() bool { return w.done() > 0 })
	proxy.hole.Store(true)
	r.notReady("no answer from postgres within 2s")
	w.during(time.Second, func() {
		if r.Ready() == nil {
			t.Error("ready")
		}
	})
	proxy.hole.Store(false)
	w.endsWell(1000)
	r.ready()
	stopped, again := len(r.logs.with("fetching stopped")), len(r.logs.with("fetching again"))
	equal(t, "lines on its end", again, stopped)
	if stopped == 0 || stopped > 3 { // on a busy machine two seconds may be short for a batch, too
		t.Errorf("%d lines on its beginning", stopped)
	}
}

func TestNATSConnectionsThatAreReset(t *testing.T) {
	t.Parallel()
	w := setupForLosses(t)
	proxy := natsBehind(w)
	w.load(1000)
	w.start(batchSize(20), unrestored, w.behind(proxy))
	for i := range 20 {
		w.until("it goes on", func() bool { return w.done() > 40*i })
		proxy.reset()
	}
	w.endsWell(1000)
}

func TestNATSInABlackHole(t *testing.T) {
	t.Parallel()
	w := setupForLosses(t)
	proxy := natsBehind(w)
	w.load(1000)
	r := w.start(batchSize(20), unrestored, w.behind(proxy))
	w.until("some are done", func() bool { return w.done() > 0 })
	proxy.hole.Store(true)
	r.notReady("disconnected")
	w.during(2*time.Second, func() {
		if r.Ready() == nil {
			t.Error("ready")
		}
	})
	proxy.hole.Store(false)
	w.endsWell(1000)
	r.ready()
}

// Far away and cut now and then, on both sides.
func TestABadNetwork(t *testing.T) {
	t.Parallel()
	w := setupForLosses(t)
	broker := natsBehind(w)
	postgres, url := postgresBehind(t, w.url)
	broker.delay.Store(int64(20 * time.Millisecond))
	postgres.delay.Store(int64(30 * time.Millisecond))
	w.load(1000)
	for range 2 {
		w.start(batchSize(50), unrestored, w.behind(broker), through(url))
	}
	for i := range 5 {
		w.until("it goes on", func() bool { return w.done() > 50*i })
		broker.reset()
		w.until("it goes on", func() bool { return w.done() > 50*i+25 })
		postgres.reset()
	}
	w.endsWell(1000)
}

// What is lost between us and NATS is no silence of the platform's, though the connection seems to stand.
func TestAProbeThatIsLost(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(*proxy){
		"in a black hole":         func(p *proxy) { p.hole.Store(true) },
		"with a connection's end": func(p *proxy) { p.reset() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setupForLosses(t)
			proxy := natsBehind(w)
			id := w.insertLog("ig_1", "processing", time.Hour)
			lost := make(chan struct{})
			var asked *atomic.Int64
			asked = answer(t, w.nats, "instagram", func(*nats.Msg) *nats.Msg {
				if <-lost; asked.Load() == 1 {
					return nil // nobody would hear it
				}
				return &nats.Msg{Data: []byte(`{"status":"published"}`)}
			})
			r := w.start(unrestored, w.behind(proxy), func(p *parts) { p.probe.Timeout = 300 * time.Millisecond })
			r.ready()
			w.send(streams.CheckSubject(id), "")
			w.until("it is asked about", func() bool { return asked.Load() > 0 })
			lose(proxy)
			close(lost)
			w.during(time.Second, func() {
				if w.status(id) == "failed" {
					t.Error("it failed")
				}
			})
			proxy.hole.Store(false)
			w.send(streams.SubjectSweep, "") // the next one, which comes by itself
			w.until("it is asked again", func() bool { return w.status(id) == "success" })
			if got := w.ledger(id); strings.Count(got, "publish_reconciled") != 1 || !strings.Contains(got, string(reconciler.ReasonProbeConfirmed)) {
				t.Errorf("ledger: %s", got)
			}
		})
	}
}
