package consumer_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"publish-reconciler/reconciler"
	"publish-reconciler/streams"
)

func TestSweepByHand(t *testing.T) {
	t.Parallel()
	w := setup(t)
	older := w.insertLog("ig_1", "processing", 31*time.Minute)
	younger := w.insertLog("ig_2", "processing", 29*time.Minute)
	w.start(timeout(2 * time.Hour))
	w.send(streams.SubjectSweep, `{"since_minutes":30}`)
	becomes(w, "older log", row{
		Status: "failed", Error: "No webhook received after 30 minutes", Reason: "webhook_timeout", Trigger: "sweep",
	}, func() row { return w.row(older) })
	w.settled(streams.ConsumerSweeper)
	equal(t, "younger log", w.row(younger), row{Status: "processing"})

	w.exec(`UPDATE publish_logs SET updated_at = now() - interval '3 hours' WHERE id = $1`, younger)
	w.send(streams.SubjectSweep, "")
	w.until("the platform's own timeout holds", func() bool { return w.status(younger) == "failed" })
}

func TestSweepsComeByThemselves(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.purge(streams.StreamChecks, streams.SubjectScheduleSweep)
	w.start(sweepEvery(time.Second))
	for range 3 {
		id := w.insertLog("ig_1", "processing", time.Hour)
		w.until("swept", func() bool { return w.row(id).Trigger == "sweep" })
	}
}

func TestFirstSweepComesAtOnce(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.purge(streams.StreamChecks, streams.SubjectScheduleSweep)
	id := w.insertLog("ig_1", "processing", time.Hour)
	w.start()
	w.until("swept", func() bool { return w.row(id).Trigger == "sweep" })
	w.until("the next one is pending", func() bool {
		return time.Until(w.scheduledAt(streams.SubjectScheduleSweep)) > 29*time.Minute // it found work
	})
}

func TestTickComesBack(t *testing.T) {
	t.Parallel()
	tests := map[string]func(*world){
		"purged": func(w *world) { w.purge(streams.StreamChecks, streams.SubjectScheduleSweep) },
		"moved to someone's longer interval": func(w *world) {
			w.tickAt(time.Now().Add(24 * time.Hour))
		},
		"no schedule at all": func(w *world) {
			w.purge(streams.StreamChecks, streams.SubjectScheduleSweep)
			w.send(streams.SubjectScheduleSweep, "by mistake")
		},
	}
	for name, lose := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			w.start(sweepEvery(time.Second))
			first := w.insertLog("ig_1", "processing", time.Hour)
			w.until("swept", func() bool { return w.row(first).Trigger == "sweep" })
			lose(w)
			second := w.insertLog("ig_1", "processing", time.Hour)
			w.until("swept again", func() bool { return w.row(second).Trigger == "sweep" })
		})
	}
}

func TestSweepByHandLeavesTheTickAlone(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start()
	before := w.scheduled(streams.SubjectScheduleSweep)
	for range 20 {
		w.send(streams.SubjectSweep, "")
	}
	w.settled(streams.ConsumerSweeper)
	equal(t, "the pending tick", w.scheduled(streams.SubjectScheduleSweep), before)
}

func TestInvalidSweepDiesAndTicksGoOn(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(sweepEvery(time.Second))
	w.send(streams.SubjectSweep, `{"since_minutes":1441}`)
	w.until("a dead letter", func() bool { return w.dead() == 1 })
	letter := w.letters(streams.KindSweep)[0]
	equal(t, "reason", letter.Header.Get(streams.HeaderDeadReason), "invalid_value")
	equal(t, "body", string(letter.Data), `{"since_minutes":1441}`)
	id := w.insertLog("ig_1", "processing", time.Hour)
	w.until("swept", func() bool { return w.row(id).Trigger == "sweep" })
}

// While the store is away, and while a sweep takes longer than the interval, the tick that waits is enough.
func TestTicksDoNotPileUp(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.purge(streams.StreamChecks, streams.SubjectScheduleSweep)
	busy := newLatch()
	defer busy.release()
	for range 2 {
		w.start(sweepEvery(time.Second), sweeping(func(do func() (reconciler.SweepResult, error)) (reconciler.SweepResult, error) {
			_ = busy.pass(context.Background())
			return do()
		}))
	}
	busy.await(w)
	w.during(4*time.Second, func() {
		if ticks := len(w.stored(streams.StreamChecks, streams.SubjectSweep)); ticks > 1 {
			t.Errorf("%d sweeps wait, want the one in hand", ticks)
		}
	})
	busy.release()
	id := w.insertLog("ig_1", "processing", time.Hour)
	w.until("swept", func() bool { return w.row(id).Trigger == "sweep" })
}

func TestSweepThatFailsComesAgain(t *testing.T) {
	t.Parallel()
	w := setup(t)
	id := w.insertLog("ig_1", "processing", time.Hour)
	var calls atomic.Int64
	w.start(sweeping(func(do func() (reconciler.SweepResult, error)) (reconciler.SweepResult, error) {
		if calls.Add(1) < 3 {
			return reconciler.SweepResult{}, errors.New("connection broke")
		}
		return do()
	}))
	w.send(streams.SubjectSweep, "")
	w.until("swept", func() bool { return w.row(id).Trigger == "sweep" })
	w.settled(streams.ConsumerSweeper)
	equal(t, "sweeps", calls.Load(), int64(3))
	equal(t, "dead letters", w.dead(), 0)
}

// Old rows go once a day. What is too much for one time goes on a minute later; sweeps wait for neither.
func TestPruneComesByItself(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.exec(`INSERT INTO parked_webhooks (id, platform, external_post_id, payload, received_at) SELECT gen_random_uuid(), 'x', n::text, '{}', now() - n * interval '1 day' FROM generate_series(1, 14) n`)
	w.exec(`INSERT INTO ledger_events (timestamp, event_type, entity_type, entity_id) SELECT now() - n * interval '1 day', 'publish_reconciled', 'publish_log', 'x' FROM generate_series(1, 14) n`)
	r := w.start(func(p *parts) { p.cfg.LedgerRetention = 60 * time.Hour })
	w.until("the first one is pending", func() bool {
		in := time.Until(w.scheduledAt(streams.SubjectSchedulePrune))
		return in > 23*time.Hour && in <= 24*time.Hour
	})
	w.sendMsg(streams.PruneSchedule(time.Now()))
	becomes(w, "rows", "2 6", func() string {
		return one[string](w, `SELECT (SELECT count(*) FROM ledger_events) || ' ' || (SELECT count(*) FROM parked_webhooks WHERE received_at > now() - interval '8 days')`)
	})
	w.settled(streams.ConsumerSweeper)
	w.until("the next one is pending", func() bool { return time.Until(w.scheduledAt(streams.SubjectSchedulePrune)) > 23*time.Hour })
	equal(t, "lines", len(r.logs.with("old rows deleted")), 1)

	// One that fails is told, and does not hold up sweeps.
	w.exec(`CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'kept'; END $$`)
	w.exec(`CREATE TRIGGER keep BEFORE DELETE ON ledger_events FOR EACH ROW EXECUTE FUNCTION keep()`)
	w.exec(`UPDATE ledger_events SET timestamp = now() - interval '1 year'`)
	id := w.insertLog("ig_1", "processing", time.Hour)
	w.sendMsg(streams.PruneSchedule(time.Now()))
	w.until("it is told", func() bool { return len(r.logs.with("old rows not deleted")) == 1 })
	w.send(streams.SubjectSweep, "")
	w.until("swept", func() bool { return w.row(id).Trigger == "sweep" })
	w.until("it is tried again within the hour", func() bool {
		in := time.Until(w.scheduledAt(streams.SubjectSchedulePrune))
		return in > 50*time.Minute && in <= time.Hour
	})
}
