package consumer_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"publish-reconciler/consumer"
	"publish-reconciler/reconciler"
	"publish-reconciler/streams"
)

func (w *world) nextSweep() consumer.NextSweep {
	w.Helper()
	next, err := consumer.NewScheduler(w.js).NextSweep(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	return next
}

// pending waits for a tick that was scheduled for this reason, and returns its delay.
func (w *world) pending(reason consumer.SweepReason) (delay time.Duration) {
	w.Helper()
	w.until("a tick for "+string(reason), func() bool {
		next := w.nextSweep()
		delay = time.Duration(next.Delay)
		return next.Reason == reason && !next.Running
	})
	return delay
}

// tickNow has the tick fire at once, as if its delay were over.
func (w *world) tickNow(after time.Duration) {
	w.Helper()
	w.sendMsg(streams.SweepSchedule(time.Now(), after, "test"))
}

func TestSweepsComeSoonerWhileTheyFindWork(t *testing.T) {
	t.Parallel()
	w := setup(t)
	first := w.start(sweepEvery(40 * time.Second))
	second := w.start(sweepEvery(40 * time.Second)) // whichever sweeps: the tick knows
	delay := 40 * time.Second
	for _, want := range []time.Duration{20 * time.Second, 10 * time.Second, 5 * time.Second, 5 * time.Second} {
		w.insertLogs(fmt.Sprint(delay), 1, time.Hour)
		w.tickNow(delay)
		delay = w.pending(consumer.SweepFoundWork)
		equal(t, "with work", delay, want)
		left := time.Until(w.nextSweep().At)
		if left > want || left < want-4*time.Second {
			t.Errorf("it comes in %s, want %s", left, want)
		}
	}
	for _, want := range []time.Duration{10 * time.Second, 20 * time.Second, 40 * time.Second, 40 * time.Second} {
		w.tickNow(delay)
		delay = w.pending(consumer.SweepFoundNone)
		equal(t, "without", delay, want)
	}
	lines := func(text string) int { return len(first.logs.with(text)) + len(second.logs.with(text)) }
	equal(t, "changes in the log", lines("sweep delay changed"), 6)
	equal(t, "the last of them", lines(`level=INFO msg="sweep delay changed" from=20s to=40s reason=found_none`), 1)
	equal(t, "sweeps with what follows", lines("next_in=5s next_reason=found_work"), 2)
}

// An unclear log is there at every sweep, and no reason to come sooner.
func TestSweepsThatOnlySkipFindNoWork(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.insertLog("ig_1", "processing", time.Hour)
	w.exec(`UPDATE publish_logs SET extra_metadata = '{"webhook_received":true,"webhook_status":"in_review"}'`)
	r := w.start(sweepEvery(time.Minute))
	w.tickNow(10 * time.Second)
	equal(t, "delay", w.pending(consumer.SweepFoundNone), 20*time.Second)
	w.until("skipped", func() bool { return len(r.logs.with("skipped=1")) == 1 })
}

func TestPeakHoursHoldSweeps(t *testing.T) {
	t.Parallel()
	w := setup(t)
	always, err := consumer.ParsePeakHours("00:00-24:00")
	if err != nil {
		t.Fatal(err)
	}
	w.start(func(p *parts) { p.cfg.SweepMin, p.cfg.PeakHours = 7*time.Second, always })
	w.tickNow(time.Hour)
	equal(t, "delay", w.pending(consumer.SweepPeakHours), 7*time.Second)
}

func TestNextSweep(t *testing.T) {
	t.Parallel()
	w := setup(t)
	at := time.Now().Add(time.Hour).UTC()
	w.sendMsg(streams.SweepSchedule(at, time.Hour, "found_none"))
	next := w.nextSweep()
	equal(t, "pending", next, consumer.NextSweep{At: at, Delay: consumer.SweepDelay(time.Hour), Reason: consumer.SweepFoundNone})
	text, err := json.Marshal(next)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "JSON", string(text), `{"at":"`+at.Format(time.RFC3339Nano)+`","delay":"1h0m0s","reason":"found_none","running":false}`)
	var read consumer.NextSweep
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatal(err)
	}
	equal(t, "read again", read, next)

	w.purge(streams.StreamChecks, streams.SubjectScheduleSweep)
	equal(t, "none", w.nextSweep(), consumer.NextSweep{})

	w.send(streams.SubjectSweep, "")
	equal(t, "one by hand", w.nextSweep(), consumer.NextSweep{})
	w.tickNow(30 * time.Second)
	running := consumer.NextSweep{Delay: consumer.SweepDelay(30 * time.Second), Reason: "test", Running: true}
	becomes(w, "fired", running, w.nextSweep)
	w.send(streams.SubjectSweep, "")
	equal(t, "between two by hand", w.nextSweep(), running)

	busy := newLatch()
	defer busy.release()
	w.start(sweepEvery(time.Second), sweeping(func(do func() (reconciler.SweepResult, error)) (reconciler.SweepResult, error) {
		_ = busy.pass(context.Background())
		return do()
	}))
	busy.await(w)
	w.during(2*time.Second, func() { equal(t, "while it waits", w.nextSweep(), running) })
	busy.release()
	w.until("the one after it", func() bool { next := w.nextSweep(); return !next.Running && next.At.After(at.Add(-time.Hour)) })

	if err := w.js.DeleteStream(t.Context(), streams.StreamChecks); err != nil {
		t.Fatal(err)
	}
	if next, err := consumer.NewScheduler(w.js).NextSweep(t.Context()); err == nil {
		t.Errorf("without a stream: %+v", next)
	}
}
