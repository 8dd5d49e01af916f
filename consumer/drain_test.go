package consumer_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"publish-reconciler/streams"
)

// The batch in hand and the one on its way are finished; what comes after is left for others.
func TestStopFinishesWhatIsInHand(t *testing.T) {
	t.Parallel()
	w := setup(t)
	const batch, all = 50, 200
	w.insertLogs("p", all, 0)
	w.sendMany(all, publishedMany("p"))
	blocked := newLatch()
	r := w.start(batchSize(batch), transacting(func(ctx context.Context, do func() error) error {
		if err := blocked.pass(ctx); err != nil {
			return err
		}
		return do()
	}))
	blocked.await(w)
	w.until("a batch is in hand", func() bool { return w.backlog(streams.ConsumerWebhooks).InHand >= batch })
	r.cancel()
	w.until("draining", func() bool { return len(r.logs.with("draining")) == 1 })
	blocked.release()
	start := time.Now()
	r.stop()
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("it took %s", took)
	}
	if r.Ready() == nil {
		t.Error("ready after its end")
	}
	finished := one[int](w, `SELECT count(*) FROM publish_logs WHERE status = 'success'`)
	if finished < batch || finished > 4*batch {
		t.Errorf("%d are finished, want one to four batches", finished)
	}
	becomes(w, "backlog", backlog{Waiting: all - finished}, func() backlog { return w.backlog(streams.ConsumerWebhooks) })
	equal(t, "redelivered", redelivered(w.consumerInfo(streams.ConsumerWebhooks)), 0)
}

func TestStopOfAnIdleConsumer(t *testing.T) {
	t.Parallel()
	w := setup(t)
	r := w.start()
	r.ready()
	start := time.Now()
	r.stop()
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("it took %s", took)
	}
	equal(t, "warnings", r.logs.with("level=WARN"), []string(nil))
	w.insertLogs("p", 1, 0)
	w.sendMany(1, publishedMany("p"))
	becomes(w, "backlog", backlog{Waiting: 1}, func() backlog { return w.backlog(streams.ConsumerWebhooks) })
}

func TestStopWithAStoreThatNeverAnswers(t *testing.T) {
	t.Parallel()
	w := setup(t)
	logs := w.insertLogs("p", 100, 0)
	w.sendMany(100, publishedMany("p"))
	w.sendMany(100, func(i int) (subject, body string) { return streams.CheckSubject(logs[i]), "" })
	const drain = 500 * time.Millisecond
	r := w.start(batchSize(50), func(p *parts) { p.cfg.DrainTimeout = drain },
		transacting(func(ctx context.Context, _ func() error) error {
			<-ctx.Done()
			return ctx.Err()
		}))
	becomes(w, "in hand", 100, func() int { return w.backlog(streams.ConsumerWebhooks).InHand })
	start := time.Now()
	r.stop()
	if took := time.Since(start); took < drain || took > drain+3*time.Second {
		t.Errorf("it took %s", took)
	}
	equal(t, "logs", w.statuses(), "processing 100")
	w.start()
	w.until("another replica settles them", func() bool { return w.statuses() == "success 100" })
	w.settled(streams.ConsumerWebhooks)
	w.settled(streams.ConsumerChecks)
	equal(t, "dead letters", w.dead(), 0)
}

func TestStopDuringASweep(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.insertLogs("p", 1500, time.Hour) // three pages
	blocked := newLatch()
	var transactions atomic.Int64
	r := w.start(transacting(func(ctx context.Context, do func() error) error {
		// The first page takes two: one to find that it is silent, one once nobody listens to a probe.
		if transactions.Add(1) == 3 {
			if err := blocked.pass(ctx); err != nil {
				return err
			}
		}
		return do()
	}))
	w.send(streams.SubjectSweep, "")
	blocked.await(w)
	r.cancel()
	w.until("draining", func() bool { return len(r.logs.with("draining")) == 1 })
	blocked.release()
	start := time.Now()
	r.stop()
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("it took %s", took)
	}
	equal(t, "logs after two pages", w.statuses(), "failed 1000, processing 500")
	equal(t, "stopping is no outage", r.logs.with("fetching stopped"), []string(nil))

	w.start()
	w.until("another replica goes on", func() bool { return w.statuses() == "failed 1500" })
	w.settled(streams.ConsumerSweeper)
	equal(t, "reconciled", w.reconciled(), "1500 logs 1 times")
}

// The page in hand waits for a lock that nobody gives back.
func TestStopDuringASweepThatHangs(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.insertLogs("p", 1, time.Hour)
	release := w.hold(`LOCK TABLE ledger_events`)
	defer release()
	const drain = 500 * time.Millisecond
	r := w.start(func(p *parts) { p.cfg.DrainTimeout = drain })
	w.send(streams.SubjectSweep, "")
	w.until("the sweep waits", func() bool {
		return one[int](w, `SELECT count(*) FROM pg_locks WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`) > 0
	})
	start := time.Now()
	r.stop()
	if took := time.Since(start); took > drain+3*time.Second {
		t.Errorf("it took %s", took)
	}
	release()
	equal(t, "logs", w.statuses(), "processing 1")
}

func TestStopWhileTheStoreIsAway(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.insertLogs("p", 1, 0)
	w.sendMany(1, publishedMany("p"))
	r := w.start(func(p *parts) { p.store.URL = "postgres://ana@127.0.0.1:1/nowhere" })
	r.notReady("connect")
	start := time.Now()
	r.stop()
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("it took %s", took)
	}
	w.start()
	w.until("another replica settles it", func() bool { return w.statuses() == "success 1" })
}

func TestStopWhileNATSIsAway(t *testing.T) {
	t.Parallel()
	w := setup(t)
	r := w.start()
	r.ready()
	w.nats.Halt()
	r.notReady("disconnected")
	start := time.Now()
	r.stop()
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
}
