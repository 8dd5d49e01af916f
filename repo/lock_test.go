package repo_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"publish-reconciler/reconciler"
	"publish-reconciler/repo"
)

// keysOf names the same logs in both ways, those of publishMany, from last to first.
func keysOf(ids []uuid.UUID) map[string]reconciler.Keys {
	ids = slices.Clone(ids)
	slices.Reverse(ids)
	posts := make([]reconciler.Post, len(ids))
	for i := range posts {
		posts[i] = reconciler.Post{Platform: "instagram", ExternalPostID: "post_" + strconv.Itoa(len(ids)-i)}
	}
	return map[string]reconciler.Keys{"ids": {LogIDs: ids}, "posts": {Posts: posts}}
}

func TestRowsAreLockedInTheOrderOfTheirIDs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ids := w.publishMany(101, 0) // at random places of the order
	sorted := column[uuid.UUID](w, `SELECT id FROM publish_logs ORDER BY id`)
	for name, keys := range keysOf(ids) {
		release := w.hold(`SELECT FROM publish_logs WHERE id = $1 FOR UPDATE`, sorted[50])
		done := make(chan error, 1)
		go func() {
			done <- w.store.Transact(context.WithoutCancel(t.Context()), keys, decided(reconciler.Changes{}))
		}()
		w.waiting(1)
		equal(t, name+": not yet locked while one waits for the 51st",
			column[uuid.UUID](w, `SELECT id FROM publish_logs ORDER BY id FOR UPDATE SKIP LOCKED`), sorted[51:])
		release()
		if err := <-done; err != nil {
			t.Errorf("%s: %v", name, err)
		}
		equal(t, name+": order", lockedIDs(w.lock(keys)), sorted)
	}
}

// together runs do n times in each of eight goroutines.
func together(t *testing.T, n int, do func() error) {
	t.Helper()
	var group errgroup.Group
	for range 8 {
		group.Go(func() error {
			for range n {
				if err := do(); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
}

func TestBatchesOverTheSameLogsDoNotDeadlock(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	keys := keysOf(w.publishMany(60, 0))
	together(t, 25, func() error {
		return w.store.Transact(t.Context(), shuffled(keys), func(locked reconciler.Locked) reconciler.Changes {
			var changes reconciler.Changes
			for _, log := range locked.Logs {
				changes.Rows = append(changes.Rows, reconciler.RowChange{LogID: log.ID, Status: "processing"})
			}
			shuffle(changes.Rows)
			return changes
		})
	})
}

// Webhooks that match no log lock nothing, so replicas may park the same ones at the same time. Both stop at
// the middle one here, which a third transaction has, so that each has inserted what the other wants next.
func TestBatchesThatParkTheSameDoNotDeadlock(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	webhooks := []reconciler.ParkedWebhook{parked("a", "x", time.Now()), parked("b", "x", time.Now()), parked("c", "x", time.Now())}
	release := w.hold(`INSERT INTO parked_webhooks VALUES ($1, '', '', '{}', now())`, webhooks[1].ID)
	var group errgroup.Group
	for range 2 {
		changes := reconciler.Changes{Park: slices.Clone(webhooks)}
		group.Go(func() error { return w.store.Transact(t.Context(), logIDs(), decided(changes)) })
		slices.Reverse(webhooks)
	}
	w.waiting(2)
	release()
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	equal(t, "parked", one[int](w, `SELECT count(*) FROM parked_webhooks`), 3)
}

func shuffle[T any](s []T) {
	rand.Shuffle(len(s), func(i, j int) { s[i], s[j] = s[j], s[i] })
}

func shuffled(keys map[string]reconciler.Keys) reconciler.Keys {
	if rand.IntN(2) == 0 {
		ids := slices.Clone(keys["ids"].LogIDs)
		shuffle(ids)
		return reconciler.Keys{LogIDs: ids}
	}
	posts := slices.Clone(keys["posts"].Posts)
	shuffle(posts)
	return reconciler.Keys{Posts: posts}
}

func TestALockThatIsNotToBeHad(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.store = openStore(t, repo.Config{URL: w.url})
	ids := w.publishMany(2, 0)
	defer w.hold(`SELECT FROM publish_logs WHERE id = $1 FOR UPDATE`, ids[0])()
	for name, keys := range keysOf(ids) {
		err := w.store.Transact(t.Context(), keys, func(reconciler.Locked) reconciler.Changes {
			t.Errorf("%s: decided without a lock", name)
			return reconciler.Changes{}
		})
		if !errors.Is(err, reconciler.ErrLocked) || errors.Is(err, reconciler.ErrRefused) {
			t.Errorf("%s: error %v, want %v", name, err, reconciler.ErrLocked)
		}
	}
}

func TestSkipLockedLeavesOutWhatOthersHold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ids := w.publishMany(10, 0)
	held := ids[3]
	defer w.hold(`SELECT FROM publish_logs WHERE id = $1 FOR UPDATE`, held)()
	for name, keys := range keysOf(ids) {
		keys.SkipLocked = true
		start := time.Now()
		locked := w.lock(keys)
		got := lockedIDs(locked)
		equal(t, name+": told", locked.Held, []reconciler.HeldLog{{ID: held, Post: reconciler.Post{Platform: "instagram", ExternalPostID: "post_4"}}})
		equal(t, name+": all but one", len(got), 9)
		equal(t, name+": the held one is there", slices.Contains(got, held), false)
		if took := time.Since(start); took > soon/4 {
			t.Errorf("%s: it took %s", name, took)
		}
	}
}

func TestTheNextInLineSeesWhatTheOneBeforeWrote(t *testing.T) {
	t.Parallel()
	for name := range keysOf(nil) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			ids := w.publishMany(1, time.Hour)
			keys := keysOf(ids)[name]
			seen := make(chan reconciler.LockedLog, 1)
			var group errgroup.Group
			w.transact(keys, func(reconciler.Locked) reconciler.Changes {
				group.Go(func() error {
					return w.store.Transact(t.Context(), keys, func(locked reconciler.Locked) reconciler.Changes {
						seen <- locked.Logs[0]
						return reconciler.Changes{}
					})
				})
				w.waiting(1)
				return reconciler.Changes{Rows: []reconciler.RowChange{{
					LogID: ids[0], Status: "failed", Metadata: map[string]any{"a": "b"},
				}}}
			})
			if err := group.Wait(); err != nil {
				t.Fatal(err)
			}
			got := <-seen
			equal(t, "status", got.Status, reconciler.StatusFailed)
			equal(t, "metadata", got.Metadata, map[string]any{"a": "b"})
		})
	}
}

func TestAnEventIsToldOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.publish("tiktok", "t_1", "processing", 0)
	once := reconciler.Event{ID: uuid.New(), Once: true, LogID: id, Type: "once", Severity: "warn"}
	together(t, 5, func() error {
		always := reconciler.Event{ID: uuid.New(), LogID: id, Type: "always", Severity: "info"}
		changes := reconciler.Changes{Ledger: []reconciler.Event{once, always}}
		return w.store.Transact(t.Context(), logIDs(id), decided(changes))
	})
	equal(t, "ledger", column[string](w, `SELECT event_type || ' ' || count(*) FROM ledger_events GROUP BY event_type ORDER BY 1`),
		[]string{"always 40", "once 1"})
}

func TestLockByPostsAndIDsAtOnceIsAnError(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	keys := logIDs(uuid.New())
	keys.Posts = []reconciler.Post{{Platform: "a", ExternalPostID: "b"}}
	if err := w.store.Transact(t.Context(), keys, decided(reconciler.Changes{})); err == nil {
		t.Error("no error")
	}
}
