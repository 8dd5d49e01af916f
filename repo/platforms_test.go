package repo_test

import (
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"publish-reconciler/reconciler"
	"publish-reconciler/repo"
)

const holdMax = 2 * time.Hour

func (s *service) withHolds() *reconciler.Reconciler {
	return s.with(reconciler.Policy{DefaultTimeout: reconciler.DefaultTimeout, HoldMax: holdMax})
}

// known is what the store knows of a platform.
func (w *world) known(platform string) reconciler.Platform {
	w.Helper()
	var known []reconciler.Platform
	err := w.store.Platforms(w.Context(), []string{platform}, reconciler.HoldWindow, func(platforms []reconciler.Platform, _ time.Time) []reconciler.HoldChange {
		known = platforms
		return nil
	})
	if err != nil || len(known) != 1 {
		w.Fatalf("%+v, %v", known, err)
	}
	return known[0]
}

func TestWhatIsKnownOfPlatforms(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.Reconciler = s.withHolds()
	equal(t, "at first", s.known("tiktok"), reconciler.Platform{Name: "tiktok"})
	s.publish("tiktok", "t_1", "processing", 0)
	s.publish("tiktok", "t_2", "processing", time.Hour)
	s.publish("tiktok", "t_3", "processing", time.Hour)
	s.hear("tiktok", `{"external_post_id":"t_1","status":"published"}`)
	s.sweep()
	known := s.known("tiktok")
	if since := time.Since(known.ConfirmedAt); since < 0 || since > time.Minute || known.Due != 2 || known.Hold != nil {
		t.Errorf("then %+v", known)
	}
	s.publish("tiktok", "t_4", "processing", time.Hour)
	s.sweep()
	equal(t, "due, with one more", s.known("tiktok").Due, 3)
	// What is older than the window does not count, and is not kept for ever.
	s.exec(`UPDATE publish_platform_silence SET at = at - interval '11 minutes'`)
	s.exec(`INSERT INTO publish_platform_silence VALUES ('tiktok', now() - interval '2 days', 7)`)
	equal(t, "due, later", s.known("tiktok").Due, 0)
	equal(t, "kept", one[int](s.world, `SELECT sum(logs) FROM publish_platform_silence`), 3)
}

// Without holds nothing is written about platforms.
func TestNothingIsKeptOfPlatformsWithoutHolds(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.publish("tiktok", "t_1", "processing", 0)
	s.publish("tiktok", "t_2", "processing", time.Hour)
	s.hear("tiktok", `{"external_post_id":"t_1","status":"published"}`)
	s.sweep()
	equal(t, "rows", one[int](s.world, `SELECT (SELECT count(*) FROM publish_platforms) + (SELECT count(*) FROM publish_platform_silence)`), 0)
}

// Replicas that find the outage at the same time begin one hold, and one of them tells of it.
func TestReplicasAgreeOnAHold(t *testing.T) {
	t.Parallel()
	s := newService(t)
	logs := s.publishMany(100, time.Hour)
	var replicas sync.WaitGroup
	for batch := range slices.Chunk(logs, 25) {
		store := openStore(t, repo.Config{URL: s.url, Outbox: true})
		replica := reconciler.New(store, s.diary, nil, nil, reconciler.Policy{DefaultTimeout: reconciler.DefaultTimeout, HoldMax: holdMax}, slog.New(slog.DiscardHandler))
		replicas.Go(func() {
			checks := make([]reconciler.Check, len(batch))
			for i, id := range batch {
				checks[i].LogID = id
			}
			if _, err := replica.Checks(t.Context(), checks); err != nil {
				t.Error(err)
			}
		})
	}
	replicas.Wait()
	equal(t, "statuses", column[string](s.world, `SELECT DISTINCT status FROM publish_logs`), []string{"processing"})
	equal(t, "events", column[int](s.world, `SELECT count(*) FROM ledger_events WHERE metadata->>'reason' = 'platform_hold' GROUP BY entity_id HAVING count(*) <> 1`), []int{})
	equal(t, "held logs", one[int](s.world, `SELECT count(DISTINCT entity_id) FROM ledger_events WHERE event_type = 'publish_reconcile_skipped'`), 100)

	equal(t, "told", column[string](s.world, `SELECT platforms[1] || ' ' || outcomes[1] FROM publish_outbox`), []string{"instagram hold"})
	body := object(t, one[string](s.world, `SELECT bodies[1] FROM publish_outbox`))
	hold := s.known("instagram").Hold
	equal(t, "body", body, map[string]any{
		"platform": "instagram", "reason": "platform_hold", "due_logs": 25.0,
		"since": hold.Since.UTC().Format(time.RFC3339Nano), "until": hold.Since.Add(holdMax).UTC().Format(time.RFC3339Nano),
		"time": hold.Since.UTC().Format(time.RFC3339Nano),
	})
}

func TestHoldsAreSeen(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.Reconciler = s.withHolds()
	logs := s.publishMany(20, time.Hour)
	seen := func() []reconciler.Hold {
		t.Helper()
		holds, err := s.store.Holds(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		view, err := s.store.View(t.Context(), logs[0])
		if err != nil {
			t.Fatal(err)
		}
		if view.Hold != nil {
			equal(t, "hold of a log", []reconciler.Hold{*view.Hold}, holds)
		} else {
			equal(t, "holds", holds, []reconciler.Hold{})
		}
		return holds
	}
	equal(t, "holds before", len(seen()), 0)
	s.sweep()
	hold := s.known("instagram").Hold
	equal(t, "holds", seen(), []reconciler.Hold{*hold})
	s.exec(`UPDATE publish_platforms SET held_until = now()`)
	equal(t, "holds that lasted their longest", len(seen()), 0)
	s.exec(`UPDATE publish_platforms SET held_until = now() + interval '1 hour'`)
	s.hear("instagram", `{"external_post_id":"post_1","status":"published"}`)
	equal(t, "holds after a confirmation", len(seen()), 0)
}

// Whoever holds what is known of a platform, for however long, holds up no webhook: neither of that platform
// nor of others.
func TestAHeldPlatformHoldsUpNobody(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.Reconciler = s.withHolds()
	var webhooks []reconciler.Webhook
	for _, platform := range []string{"instagram", "tiktok", "youtube"} {
		s.publish(platform, "post", "processing", 0)
		s.exec(`INSERT INTO publish_platforms (platform) VALUES ($1)`, platform)
		webhooks = append(webhooks, webhook(t, platform, `{"external_post_id":"post","status":"published"}`))
	}
	s.publish("tiktok", "silent", "processing", time.Hour)
	defer s.hold(`SELECT FROM publish_platforms WHERE platform = 'instagram' FOR UPDATE`)()
	if _, err := s.Webhooks(t.Context(), webhooks); err != nil {
		t.Error(err)
	}
	s.sweep()
	equal(t, "open logs", one[int](s.world, `SELECT count(*) FROM publish_logs WHERE status = 'processing'`), 0)
	equal(t, "confirmed", column[string](s.world, `SELECT platform FROM publish_platforms WHERE confirmed_at IS NOT NULL ORDER BY 1`), []string{"tiktok", "youtube"})
}

// A hold ends by a confirmation that a log failed by silence can't use any more, too.
func TestAHoldEndsByAnyConfirmation(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.Reconciler = s.with(reconciler.Policy{DefaultTimeout: reconciler.DefaultTimeout, HoldMax: holdMax, IgnoreLate: true})
	id := s.publish("instagram", "failed", "processing", time.Hour)
	s.check(id)
	s.publishMany(20, time.Hour)
	s.sweep()
	if hold := s.known("instagram").Hold; hold == nil {
		t.Fatal("no hold")
	}
	late := webhook(t, "instagram", `{"external_post_id":"failed","status":"published"}`)
	late.ReceivedAt = time.Now().Add(time.Minute)
	if _, err := s.Webhooks(t.Context(), []reconciler.Webhook{late}); err != nil {
		t.Fatal(err)
	}
	known := s.known("instagram")
	if known.Held(time.Now()) || s.row(id).Status != "failed" {
		t.Errorf("%+v, the log is %s", known, s.row(id).Status)
	}
}

func TestPlatformsAreLocked(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.known("tiktok")
	release := s.hold(`SELECT FROM publish_platforms FOR UPDATE`)
	defer release()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.known("tiktok")
	}()
	s.waiting(1)
	release()
	<-done
}

func TestAnOverrideIsOneTransaction(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.store = openStore(t, repo.Config{URL: s.url, Outbox: true})
	s.Reconciler = s.with(reconciler.Policy{DefaultTimeout: reconciler.DefaultTimeout})
	id := s.publish("instagram", "ig_123", "failed", time.Hour)
	change, err := s.Override(t.Context(), reconciler.Override{LogID: id, Status: reconciler.StatusSuccess, Actor: "ana", Note: "seen live"})
	if err != nil {
		t.Fatal(err)
	}
	r := s.row(id)
	equal(t, "metadata", s.metadata(r), object(t, `{"reconciled":true,"reconciliation_reason":"overridden","reconciliation_trigger":"override"}`))
	r.Metadata = nil
	equal(t, "row", r, row{Status: "success", Published: true})
	equal(t, "history", s.history(id), []event{s.told(`{"event_type":"publish_overridden","severity":"warn","metadata":{"from":"failed","to":"success","actor":"ana","note":"seen live","trigger":"override"}}`, `{}`)})
	equal(t, "outbox", column[uuid.UUID](s.world, `SELECT unnest(ids) FROM publish_outbox`), []uuid.UUID{change.ID})
}
