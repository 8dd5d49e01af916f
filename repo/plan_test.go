package repo_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"publish-reconciler/reconciler"
	"publish-reconciler/repo"
)

var arrays = regexp.MustCompile(`\{[^}]{40,}\}`)

// plans are the plans of a statement that Postgres may choose for a prepared one: the custom and the generic.
func (w *world) plans(sql string, args ...any) map[string]string {
	w.Helper()
	plans := map[string]string{}
	for _, mode := range []string{"force_custom_plan", "force_generic_plan"} {
		err := pgx.BeginFunc(w.Context(), w.db, func(tx pgx.Tx) error {
			holes := make([]string, len(args))
			for i := range holes {
				holes[i] = fmt.Sprintf("$%d", i+1)
			}
			if _, err := tx.Exec(w.Context(), `SET LOCAL plan_cache_mode = `+mode); err != nil {
				return err
			}
			if _, err := tx.Exec(w.Context(), `PREPARE statement AS `+sql); err != nil {
				return err
			}
			all := append([]any{pgx.QueryExecModeSimpleProtocol}, args...)
			rows, err := tx.Query(w.Context(), `EXPLAIN EXECUTE statement (`+strings.Join(holes, ", ")+`)`, all...)
			if err != nil {
				return err
			}
			lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if err == nil {
				_, err = tx.Exec(w.Context(), `DEALLOCATE statement`)
			}
			plans[mode] = arrays.ReplaceAllString(strings.Join(lines, "\n"), "{…}")
			return err
		})
		if err != nil {
			w.Fatal(err)
		}
	}
	return plans
}

// fill fills the table with n logs of which open are in processing for a day, and looks at it as
// autovacuum does.
func (w *world) fill(n, open int) {
	w.Helper()
	w.exec(`INSERT INTO publish_logs (platform, status, external_post_id, updated_at, extra_metadata)
	        SELECT (ARRAY['instagram', 'tiktok', 'youtube'])[n % 3 + 1],
	               CASE WHEN n <= $2 THEN 'processing' ELSE 'success' END,
	               'post_' || n, now() - n * interval '1 minute', '{"webhook_received": true}'
	          FROM generate_series(1, $1) n`, n, open)
	w.exec(`ANALYZE publish_logs`)
}

func notIn(t *testing.T, name, plan string, nodes ...string) {
	t.Helper()
	for _, node := range nodes {
		if strings.Contains(plan, node) {
			t.Errorf("%s has %q:\n%s", name, node, plan)
		}
	}
}

func TestThePlanOfDueLogs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(20_000, 200)
	now := time.Now()
	due := func(platforms []string, latest []time.Time) []any {
		return []any{now.Add(-10 * time.Minute), now, platforms, latest, now.Add(-24 * time.Hour), uuid.Nil.String(), 500}
	}
	arguments := map[string][]any{
		"no platforms":  due([]string{}, []time.Time{}),
		"two platforms": due([]string{"instagram", "tiktok"}, []time.Time{now, now.Add(-time.Hour)}),
	}
	for name, args := range arguments {
		for mode, plan := range w.plans(repo.DueSQL, args...) {
			if !strings.Contains(plan, "using publish_logs_open_idx") {
				t.Errorf("%s, %s does not use the index:\n%s", name, mode, plan)
			}
			notIn(t, name+", "+mode, plan, "Seq Scan on publish_logs", "Sort")
		}
	}
}

func TestThePlansOfLocks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(50_000, 1_000)
	ids := column[string](w, `SELECT id::text FROM publish_logs ORDER BY random() LIMIT 500`)
	platforms := column[string](w, `SELECT platform FROM publish_logs ORDER BY id LIMIT 500`)
	posts := column[string](w, `SELECT external_post_id FROM publish_logs ORDER BY id LIMIT 500`)
	for _, parked := range []int{0, 10_000} {
		w.exec(`INSERT INTO parked_webhooks
		        SELECT gen_random_uuid(), 'instagram', 'unknown_' || n, '{}', now() FROM generate_series(1, $1) n`, parked)
		w.exec(`ANALYZE parked_webhooks`)
		for name, plans := range map[string]map[string]string{
			"by posts": w.plans(repo.LockPostsSQL, platforms, posts),
			"by ids":   w.plans(repo.LockLogsSQL, ids),
		} {
			for mode, plan := range plans {
				notIn(t, fmt.Sprintf("%s, %s, %d parked", name, mode, parked), plan, "Seq Scan on publish_logs")
			}
		}
	}
}

func TestThePlansOfLists(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(100_000, 20)
	w.exec(`UPDATE publish_logs SET created_at = updated_at`)
	w.exec(`VACUUM ANALYZE publish_logs`)
	cursor := one[uuid.UUID](w, `SELECT id FROM publish_logs ORDER BY created_at OFFSET 50000 LIMIT 1`)
	tests := map[string]struct {
		filter reconciler.Filter
		index  string
		never  []string
	}{
		"unfiltered":              {reconciler.Filter{}, "publish_logs_created_idx", []string{"Sort", "Seq Scan"}},
		"a platform":              {reconciler.Filter{Platform: "tiktok"}, "publish_logs_created_idx", []string{"Sort", "Seq Scan"}},
		"beyond a log":            {reconciler.Filter{BeforeID: cursor}, "publish_logs_created_idx", []string{"Sort", "Seq Scan"}},
		"beyond a moment":         {reconciler.Filter{Before: time.Now().Add(-24 * time.Hour)}, "publish_logs_created_idx", []string{"Sort", "Seq Scan"}},
		"a platform beyond a log": {reconciler.Filter{Platform: "tiktok", BeforeID: cursor}, "publish_logs_created_idx", []string{"Sort", "Seq Scan"}},
		"few that are open":       {reconciler.Filter{Status: reconciler.StatusProcessing}, "publish_logs_open_idx", []string{"Seq Scan", "created_idx"}},
		"fewer that are in retry": {reconciler.Filter{Status: reconciler.StatusRetry}, "publish_logs_open_idx", []string{"Seq Scan", "created_idx"}},
		"open and a reason": {
			reconciler.Filter{Status: reconciler.StatusProcessing, Reason: "webhook_unclear"}, "publish_logs_open_idx", []string{"Seq Scan", "created_idx"},
		},
	}
	for name, tt := range tests {
		for _, limit := range []int{reconciler.DefaultListed, reconciler.MaxListed} {
			sql, args := repo.ListSQL(tt.filter, limit+1)
			for i, arg := range args {
				if id, ok := arg.(uuid.UUID); ok {
					args[i] = id.String()
				}
			}
			plan := w.plans(sql, args...)["force_custom_plan"] // what List asks for
			// Below stands how the reason of one log is found: that sorts its few events.
			plan, _, _ = strings.Cut(plan, "SubPlan")
			if !strings.Contains(plan, tt.index) {
				t.Errorf("%s, limit %d, does not use %s:\n%s", name, limit, tt.index, plan)
			}
			notIn(t, fmt.Sprintf("%s, limit %d,", name, limit), plan, tt.never...)
		}
	}
}
