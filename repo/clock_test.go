package repo_test

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"publish-reconciler/reconciler"
	"publish-reconciler/repo"
)

// A host whose clock is 26 years off decides as any other, and writes the same: the database's clock counts. In a
// bubble of synctest's it is the first of January 2000.
func TestAHostsClockDecidesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	due := w.publish("instagram", "due", "processing", 11*time.Minute)
	young := w.publish("instagram", "young", "processing", 9*time.Minute)
	swept := w.publish("instagram", "swept", "processing", 11*time.Minute)
	again := w.publish("tiktok", "again", "processing", 11*time.Minute)
	out := w.publish("instagram", "out", "processing", 0)
	silenced := w.publish("instagram", "silenced", "processing", 11*time.Minute)
	began := one[time.Time](w, `SELECT now()`)
	synctest.Test(t, func(t *testing.T) {
		if year := time.Now().Year(); year != 2000 {
			t.Fatalf("it is %d", year)
		}
		store, err := repo.Open(repo.Config{URL: w.url, Outbox: true})
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		rechecks := &diary{}
		r := reconciler.New(store, rechecks, nil, nil, reconciler.Policy{
			DefaultTimeout: 10 * time.Minute, Retries: map[string]int{"tiktok": 1},
		}, slog.New(slog.DiscardHandler))
		ctx := t.Context()
		do := func(outcomes []reconciler.Outcome, err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
			for i, outcome := range outcomes {
				if outcome.Kind != reconciler.Done {
					t.Errorf("outcome %d is %+v", i, outcome)
				}
			}
		}
		do(r.Checks(ctx, []reconciler.Check{{LogID: due}, {LogID: young}, {LogID: again}, {LogID: silenced}}))
		do(r.Webhooks(ctx, []reconciler.Webhook{
			{Post: reconciler.Post{Platform: "instagram", ExternalPostID: "out"}, Fields: map[string]any{"status": "published"}, ReceivedAt: began},
			{Post: reconciler.Post{Platform: "instagram", ExternalPostID: "silenced"}, Fields: map[string]any{"status": "published"}, ReceivedAt: began},
		}))
		if _, err := r.Sweep(ctx, reconciler.SweepRequest{Trigger: reconciler.TriggerSweep}); err != nil {
			t.Fatal(err)
		}
		if len(rechecks.checks) != 2 {
			t.Errorf("%d checks follow: %+v", len(rechecks.checks), rechecks.checks)
		}
		for _, recheck := range rechecks.checks {
			if recheck.At.Before(began) || recheck.At.After(began.Add(time.Hour)) {
				t.Errorf("a check at %s", recheck.At)
			}
		}
	})
	ended := one[time.Time](w, `SELECT now()`)
	for id, want := range map[uuid.UUID]string{
		due: "failed webhook_timeout", young: "processing ", swept: "failed webhook_timeout", again: "retry retry_before_fail",
		out: "success webhook_confirmed", silenced: "success webhook_late",
	} {
		got := one[string](w, `SELECT concat(status, ' ', extra_metadata->>'reconciliation_reason') FROM publish_logs WHERE id = $1`, id)
		equal(t, "log", got, want)
	}
	for _, written := range []string{
		`SELECT updated_at FROM publish_logs WHERE external_post_id <> 'young'`, `SELECT timestamp FROM ledger_events`,
		`SELECT published_at FROM publish_logs WHERE status = 'success'`, `SELECT last_retry_at FROM publish_logs WHERE status = 'retry'`,
		`SELECT (extra_metadata->>'reconciled_at')::timestamptz + interval '1 second' FROM publish_logs WHERE extra_metadata ? 'reconciled_at'`,
		`SELECT (body::jsonb->>'time')::timestamptz + interval '1 second' FROM publish_outbox, unnest(bodies) body`,
	} {
		times := column[time.Time](w, written)
		if len(times) == 0 {
			t.Errorf("no time: %s", written)
		}
		for _, at := range times {
			if at.Before(began) || at.After(ended.Add(time.Second)) {
				t.Errorf("%s: %s, not between %s and %s", written, at, began, ended)
			}
		}
	}
}
