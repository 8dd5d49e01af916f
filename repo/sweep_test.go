package repo_test

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"publish-reconciler/reconciler"
)

func (s *service) statuses() []string {
	s.Helper()
	return column[string](s.world, `SELECT status || ' ' || count(*) FROM publish_logs GROUP BY status ORDER BY 1`)
}

// toldTwice are the logs with more than one publish_reconciled.
func (s *service) toldTwice() int {
	s.Helper()
	return one[int](s.world, `SELECT count(*) FROM (SELECT FROM ledger_events WHERE event_type = 'publish_reconciled'
		GROUP BY entity_id HAVING count(*) > 1) twice`)
}

// sorted are ids without their order: pages of a sweep are worked on at the same time.
func sorted(ids []uuid.UUID) []uuid.UUID {
	return slices.SortedFunc(slices.Values(ids), func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
}

func TestSweepInPages(t *testing.T) {
	t.Parallel()
	s := newService(t)
	ids := s.publishMany(2_000, time.Hour)
	s.publishMany(10, 0)
	pages := 0
	result, err := s.Sweep(t.Context(), reconciler.SweepRequest{Trigger: reconciler.TriggerSweep, Progress: func() { pages++ }})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "failed", sorted(result.FailedLogIDs), sorted(ids))
	equal(t, "counted", []int{result.TotalChecked, result.MarkedFailed, pages}, []int{2_000, 2_000, 4})
	equal(t, "statuses", s.statuses(), []string{"failed 2000", "processing 10"})
	equal(t, "told twice", s.toldTwice(), 0)
}

func TestTwoSweepsAtOnce(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.publishMany(2_000, time.Hour)
	results := make([]reconciler.SweepResult, 2)
	var group errgroup.Group
	for i := range results {
		group.Go(func() (err error) {
			results[i], err = s.Sweep(t.Context(), reconciler.SweepRequest{Trigger: reconciler.TriggerSweep})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	equal(t, "failed by both together", results[0].MarkedFailed+results[1].MarkedFailed, 2_000)
	equal(t, "statuses", s.statuses(), []string{"failed 2000"})
	equal(t, "events", one[int](s.world, `SELECT count(*) FROM ledger_events`), 2_000)
	equal(t, "told twice", s.toldTwice(), 0)
}

func TestASweepWaitsForNobody(t *testing.T) {
	t.Parallel()
	s := newService(t)
	ids := s.publishMany(10, time.Hour)
	release := s.hold(`SELECT FROM publish_logs WHERE id = $1 FOR UPDATE`, ids[3])
	defer release()
	equal(t, "failed", s.sweep().MarkedFailed, 9)
	release()
	equal(t, "failed by the next one", s.sweep().FailedLogIDs, ids[3:4])
}

func TestOneBadRowHarmsNoOther(t *testing.T) {
	t.Parallel()
	s := newService(t)
	ids := s.publishMany(600, time.Hour)
	bad := ids[333]
	s.exec(refuseBad)
	s.exec(`ALTER TABLE publish_logs DISABLE TRIGGER refuse`)
	s.exec(`UPDATE publish_logs SET external_post_id = 'bad' WHERE id = $1`, bad)
	s.exec(`ALTER TABLE publish_logs ENABLE TRIGGER refuse`)
	result := s.sweep()
	equal(t, "failed", sorted(result.FailedLogIDs), sorted(slices.DeleteFunc(ids, func(id uuid.UUID) bool { return id == bad })))
	equal(t, "statuses", s.statuses(), []string{"failed 599", "processing 1"})
	equal(t, "status of the bad one", s.row(bad).Status, "processing")
	equal(t, "told twice", s.toldTwice(), 0)
}
