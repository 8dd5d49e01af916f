package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"publish-reconciler/reconciler"
	"publish-reconciler/repo/pgtest"
	"publish-reconciler/repo/pgtest/pgtestdb"
	"publish-reconciler/streams"
)

const outageBatch = 20

// outage publishes what needs the store while that is away, and expects it done when it is back.
func (w *world) outage(r *replica, lose, restore func()) {
	w.Helper()
	const n = 200
	logs := w.insertLogs("p", n, 0)
	lose()
	w.sendMany(n, publishedMany("p"))
	w.sendMany(n, func(i int) (subject, body string) { return streams.CheckSubject(logs[i]), "" })
	w.send(streams.SubjectSweep, "")
	r.notReady("consumer webhooks: ")
	r.notReady("consumer sweeper: ")

	// What a consumer holds at most may be tried, once; then nothing is fetched.
	const most = 4 * outageBatch
	w.during(*outageFor, func() {
		for _, d := range streams.Consumers() {
			name := d.Config.Durable
			if fetched := w.consumerInfo(name).Delivered.Consumer; fetched > most {
				w.Errorf("%s fetched %d times", name, fetched)
			}
		}
		if r.Ready() == nil {
			w.Error("ready")
		}
	})
	equal(w.T, "dead letters", w.dead(), 0)

	restore()
	w.allSettled()
	r.ready()
	equal(w.T, "logs", w.statuses(), "success 200")
	equal(w.T, "reconciled", w.reconciled(), "200 logs 1 times")
	equal(w.T, "dead letters", w.dead(), 0)
	equal(w.T, "lines on its beginning", len(r.logs.with("fetching stopped")), 1)
	equal(w.T, "lines on its end", len(r.logs.with("fetching again")), 1)
	equal(w.T, "warnings", len(r.logs.with("level=WARN")), 1)
}

func TestPostgresIsAway(t *testing.T) {
	t.Parallel()
	cfg := pgtest.Config{Dir: openDir(t)} // no port that another could take meanwhile
	w, server := setupOn(t, cfg)
	r := w.start(batchSize(outageBatch))
	r.ready()
	w.outage(r, func() {
		if err := server.Stop(); err != nil {
			t.Fatal(err)
		}
	}, func() { startPostgres(t, cfg) })
}

// A server that answers and can't be written to, as after a failover that went wrong.
func TestPostgresIsReadOnly(t *testing.T) {
	t.Parallel()
	w := setup(t)
	r := w.start(batchSize(outageBatch))
	r.ready()
	config, err := pgx.ParseConfig(w.url)
	if err != nil {
		t.Fatal(err)
	}
	admin, err := pgx.Connect(t.Context(), pgtestdb.Shared(t).AdminURL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(context.Background())
	set := func(to string) {
		for _, sql := range []string{
			`ALTER DATABASE ` + config.Database + ` SET default_transaction_read_only = ` + to,
			`SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '` + config.Database + `'`,
		} {
			if _, err := admin.Exec(context.Background(), sql); err != nil {
				t.Error(err)
			}
		}
		w.db.Reset()
	}
	w.outage(r, func() { set("on") }, func() { set("off") })
}

// The store is there, but every sweep fails: that is the sweeper's matter alone.
func TestAConsumerThatFailsLeavesTheOthersAlone(t *testing.T) {
	t.Parallel()
	w := setup(t)
	var failing atomic.Bool
	failing.Store(true)
	r := w.start(sweeping(func(do func() (reconciler.SweepResult, error)) (reconciler.SweepResult, error) {
		if failing.Load() {
			return reconciler.SweepResult{}, errors.New("a page takes too long")
		}
		return do()
	}))
	w.send(streams.SubjectSweep, "")
	r.notReady("consumer sweeper: a page takes too long")
	id := w.insertLog("ig_1", "processing", 0)
	w.send(webhooks, published("ig_1"))
	w.until("webhooks go on", func() bool { return w.status(id) == "success" })
	equal(t, "fetching stopped", r.logs.with("fetching stopped"), []string(nil))
	w.during(time.Second, func() {
		if n := w.consumerInfo(streams.ConsumerSweeper).Delivered.Consumer; n > 20 {
			t.Fatalf("the sweep was tried %d times", n)
		}
	})
	failing.Store(false)
	r.ready()
	w.settled(streams.ConsumerSweeper)
	equal(t, "lines on its beginning", len(r.logs.with("consumer is stuck")), 1)
	equal(t, "lines on its end", len(r.logs.with("consumer works again")), 1)
}

// A publisher's transaction that stays open holds up the log it touched, and nothing else.
func TestALogThatAPublisherHolds(t *testing.T) {
	t.Parallel()
	w := setup(t)
	held := w.insertLog("held", "processing", time.Hour)
	told, checked, swept := w.insertLog("told", "processing", 0), w.insertLog("checked", "processing", 0), w.insertLog("swept", "processing", time.Hour)
	w.exec(`INSERT INTO parked_webhooks (id, platform, external_post_id, payload, received_at)
	        VALUES (gen_random_uuid(), 'instagram', 'held', '{"status":"published"}', now())`)
	release := w.hold(`SELECT FROM publish_logs WHERE id = $1 FOR UPDATE`, held)
	defer release()
	w.send(webhooks, published("held"))
	w.send(webhooks, published("told"))
	w.send(streams.CheckSubject(held), "")
	w.send(streams.CheckSubject(checked), `{"timeout_minutes":0}`)
	w.send(streams.SubjectSweep, "")
	r := w.start()
	for id, status := range map[uuid.UUID]string{told: "success", checked: "failed", swept: "failed"} {
		w.until("a neighbour is closed", func() bool { return w.status(id) == status })
	}
	w.settled(streams.ConsumerSweeper)
	equal(t, "the held one", w.status(held), "processing")
	equal(t, "what is parked for it", w.parked(), 1)
	equal(t, "warnings", r.logs.with("level=WARN"), []string(nil))
	if n := redelivered(w.consumerInfo(streams.ConsumerWebhooks)); n > 5 {
		t.Errorf("its webhook was tried %d times", n)
	}
	release()
	w.until("it is closed too", func() bool { return w.status(held) == "success" })
	w.allSettled()
	// By its webhook or by its check, which finds what is parked: whichever comes first.
	equal(t, "times it was reconciled", strings.Count(w.ledger(held), "marked_success"), 1)
}

// Memory is bounded by bytes, not by messages alone: the next pull is not even asked for.
func TestLargeMessages(t *testing.T) {
	t.Parallel()
	w := setup(t)
	const n, size = 24, 900_000
	w.insertLogs("p", n, 0)
	pad := strings.Repeat("x", size)
	w.sendMany(n, func(i int) (subject, body string) {
		return webhooks, fmt.Sprintf(`{"external_post_id":"p%d","status":"published","pad":%q}`, i+1, pad)
	})
	blocked := newLatch()
	w.start(transacting(func(ctx context.Context, do func() error) error {
		if err := blocked.pass(ctx); err != nil {
			return err
		}
		return do()
	}))
	blocked.await(w)
	const most = 8 << 20 / size // of one pull
	w.during(time.Second, func() {
		if hand := w.backlog(streams.ConsumerWebhooks).InHand; hand > 2*most {
			t.Errorf("%d messages of %d bytes in hand", hand, size)
		}
	})
	blocked.release()
	becomes(w, "logs", fmt.Sprintf("success %d", n), w.statuses)
}

// openDir is a directory that every user can enter: Postgres does not run as root.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "consumer-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// setupOn is a world in a Postgres of its own.
func setupOn(t *testing.T, cfg pgtest.Config) (*world, *pgtest.Server) {
	t.Helper()
	server := startPostgres(t, cfg)
	if err := server.CreateDatabase(t.Context(), "publish"); err != nil {
		t.Fatal(err)
	}
	url := server.URL("publish")
	if err := migrate(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	return setupAt(t, url), server
}

func startPostgres(t *testing.T, cfg pgtest.Config) *pgtest.Server {
	t.Helper()
	server, err := pgtest.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Stop() })
	return server
}
