package consumer_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"publish-reconciler/reconciler"
	"publish-reconciler/streams"
)

func TestReplicasShareTheWork(t *testing.T) {
	t.Parallel()
	for _, replicas := range []int{2, 3} {
		t.Run(fmt.Sprint(replicas), func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			w.purge(streams.StreamChecks, streams.SubjectScheduleSweep)
			const n = 1000
			w.insertLogs("confirmed", n, 0)
			silent := w.insertLogs("silent", n, 0)
			w.insertLogs("forgotten", n, time.Hour)

			var sweeping, most atomic.Int64
			busy := make([]atomic.Int64, replicas)
			for i := range replicas {
				w.start(batchSize(50), sweepEvery(time.Second), counting(&busy[i]), countingSweeps(&sweeping, &most))
			}
			for range 2 { // every message twice
				w.sendMany(n, publishedMany("confirmed"))
				w.sendMany(n, func(i int) (subject, body string) {
					return streams.CheckSubject(silent[i]), `{"timeout_minutes":0}`
				})
				w.sendMany(20, func(int) (subject, body string) { return streams.SubjectSweep, "" })
			}
			w.settled(streams.ConsumerWebhooks)
			w.settled(streams.ConsumerChecks)
			becomes(w, "logs", "failed 2000, success 1000", w.statuses)
			equal(t, "reconciled", w.reconciled(), "3000 logs 1 times")
			equal(t, "sweeps at a time", most.Load(), int64(1))
			equal(t, "dead letters", w.dead(), 0)
			for i := range busy {
				if busy[i].Load() == 0 {
					t.Errorf("replica %d did nothing", i)
				}
			}
		})
	}
}

// countingSweeps remembers the most sweeps at one time.
func countingSweeps(now, most *atomic.Int64) func(*parts) {
	return sweeping(func(do func() (reconciler.SweepResult, error)) (reconciler.SweepResult, error) {
		defer now.Add(-1)
		for n := now.Add(1); ; {
			if before := most.Load(); n <= before || most.CompareAndSwap(before, n) {
				return do()
			}
		}
	})
}
