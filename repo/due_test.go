package repo_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"

	"publish-reconciler/reconciler"
)

// dueIDs pages through all due logs; every page but the last is full.
func (w *world) dueIDs(due reconciler.Due) []uuid.UUID {
	w.Helper()
	var ids []uuid.UUID
	for {
		page, err := w.store.DueLogs(w.Context(), due)
		if err != nil {
			w.Fatal(err)
		}
		for _, log := range page {
			ids = append(ids, log.ID)
			due.After = log
		}
		if len(page) > due.Limit {
			w.Fatalf("a page of %d logs, the limit is %d", len(page), due.Limit)
		}
		if len(page) < due.Limit {
			return ids
		}
	}
}

func TestDueLogsPaging(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(`INSERT INTO publish_logs (platform, status, updated_at) -- 10 moments, 50 logs each
	        SELECT 'instagram', CASE n % 5 WHEN 0 THEN 'retry' ELSE 'processing' END, '2024-01-15Z'::timestamptz + n % 10 * interval '1 minute'
	          FROM generate_series(1, 500) n`)
	want := column[uuid.UUID](w, `SELECT id FROM publish_logs ORDER BY updated_at, id`)
	for _, limit := range []int{1, 7, 50, 499, 500, 1000} {
		equal(t, "all logs in order", w.dueIDs(reconciler.Due{Now: time.Now(), Limit: limit}), want)
	}
}

// A publishers' own table may hold logs without a place in the order of updates; they are closed like others.
func TestLogsWithoutAnUpdateTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(`ALTER TABLE publish_logs ALTER updated_at DROP NOT NULL`)
	w.exec(`INSERT INTO publish_logs (platform, status, updated_at) VALUES
		('a', 'processing', NULL), ('a', 'retry', '-infinity'), ('a', 'processing', '1969-07-20Z'), ('a', 'failed', NULL),
		('a', 'processing', 'infinity')`)
	r := reconciler.New(w.store, nil, nil, nil, reconciler.Policy{DefaultTimeout: time.Hour}, slog.New(slog.DiscardHandler))
	result, err := r.Sweep(t.Context(), reconciler.SweepRequest{Trigger: reconciler.TriggerSweep})
	if err != nil || result.MarkedFailed != 4 {
		t.Errorf("%+v, error %v, want four failed", result, err)
	}
	// Those that stay open are no end of the page: what lies behind them is found.
	w.exec(`INSERT INTO publish_logs (platform, status, updated_at, extra_metadata)
	        SELECT 'a', 'processing', NULL, '{"webhook_status":"in_review"}' FROM generate_series(1, 501)`)
	result, err = r.Sweep(t.Context(), reconciler.SweepRequest{Trigger: reconciler.TriggerSweep})
	if err != nil || result.Skipped != 501 {
		t.Errorf("skipped %d, error %v", result.Skipped, err)
	}
}

func TestWhichLogsAreDue(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	now := time.Date(2024, 1, 15, 12, 0, 0, 0, time.UTC)
	names := map[uuid.UUID]string{}
	for _, l := range []struct {
		platform, status string
		age              time.Duration
	}{
		{"instagram", "processing", 25 * time.Minute},
		{"tiktok", "processing", 20 * time.Minute},
		{"instagram", "retry", 15 * time.Minute},
		{"youtube", "processing", 10 * time.Minute},
		{"youtube", "processing", 10*time.Minute - time.Microsecond},
		{"mastodon", "retry", 5 * time.Minute},
		{"instagram", "pending", 24 * time.Hour},
		{"instagram", "success", 24 * time.Hour},
		{"instagram", "failed", 24 * time.Hour},
	} {
		id := w.publish(l.platform, "x", l.status, 0)
		w.exec(`UPDATE publish_logs SET updated_at = $2 WHERE id = $1`, id, now.Add(-l.age))
		names[id] = l.platform + " " + l.age.String()
	}
	const m = time.Minute
	tests := map[string]struct {
		due  reconciler.Due
		want []string
	}{
		"default alone": {
			reconciler.Due{Timeout: 10 * m},
			[]string{"instagram 25m0s", "tiktok 20m0s", "instagram 15m0s", "youtube 10m0s"},
		},
		"a longer timeout of one platform": {
			reconciler.Due{Timeout: 10 * m, Timeouts: map[string]time.Duration{"instagram": 20 * m}},
			[]string{"instagram 25m0s", "tiktok 20m0s", "youtube 10m0s"},
		},
		"a shorter timeout of one platform": {
			reconciler.Due{Timeout: 20 * m, Timeouts: map[string]time.Duration{"mastodon": 5 * m, "tiktok": 30 * m}},
			[]string{"instagram 25m0s", "mastodon 5m0s"},
		},
		"no patience": {
			reconciler.Due{},
			[]string{"instagram 25m0s", "tiktok 20m0s", "instagram 15m0s", "youtube 10m0s", "youtube 9m59.999999s", "mastodon 5m0s"},
		},
		"none": {reconciler.Due{Timeout: time.Hour}, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tt.due.Now, tt.due.Limit = now, 100
			page, err := w.store.DueLogs(t.Context(), tt.due)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, log := range page {
				got = append(got, names[log.ID])
			}
			equal(t, "due", got, tt.want)
		})
	}
}
