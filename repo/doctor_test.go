package repo_test

import (
	"strings"
	"testing"
	"time"

	"publish-reconciler/reconciler"
	"publish-reconciler/repo"
)

func TestIndexes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	faults := func() string {
		t.Helper()
		var found []string
		indexes, err := w.store.Indexes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range indexes {
			if !i.Valid {
				found = append(found, i.Name)
			}
			// What it says would make it does make it.
			w.exec(`DROP INDEX IF EXISTS scratch`)
			w.exec(`CREATE INDEX scratch ON ` + i.Table + ` ` + i.Definition)
			if i.Valid {
				const text = `SELECT regexp_replace(pg_get_indexdef(to_regclass($1)::oid), '^.* USING ', '')`
				equal(t, i.Name, one[string](w, text, "scratch"), one[string](w, text, i.Name))
			}
		}
		return strings.Join(found, " ")
	}
	equal(t, "at first", faults(), "")
	w.exec(`DROP INDEX publish_logs_open_idx`)
	w.exec(`DROP INDEX ledger_events_entity_idx`)
	w.exec(`INSERT INTO ledger_events (event_type, entity_type, entity_id) VALUES ('x', 'y', 'z'), ('x', 'y', 'z')`)
	if _, err := w.db.Exec(t.Context(), `CREATE UNIQUE INDEX CONCURRENTLY ledger_events_entity_idx ON ledger_events (entity_id)`); err == nil {
		t.Fatal("the index was finished")
	}
	w.exec(`ALTER INDEX parked_webhooks_post_idx RENAME TO of_another_name`)
	equal(t, "then", faults(), "ledger_events_entity_idx parked_webhooks_post_idx publish_logs_open_idx")
	// One of that name, on another table, is none.
	w.exec(`CREATE INDEX publish_logs_open_idx ON ledger_events (id)`)
	if !strings.Contains(faults(), "publish_logs_open_idx") {
		t.Error("another table's index counts")
	}
}

// The indexes that are looked for are all those of the schema, but for its keys.
func TestAllIndexesAreNeeded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	indexes, err := w.store.Indexes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, i := range indexes {
		names = append(names, i.Name)
	}
	equal(t, "names", strings.Join(names, " "), one[string](w, `
		SELECT string_agg(c.relname, ' ' ORDER BY c.relname COLLATE "C") FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
		 WHERE c.relnamespace = 'public'::regnamespace AND NOT i.indisprimary AND NOT i.indisunique`))
}

func TestPlanDue(t *testing.T) {
	t.Parallel()
	for name, table := range map[string]string{"plain": "", "partitioned": `
		CREATE TABLE publish_logs (id uuid NOT NULL DEFAULT gen_random_uuid(), platform text NOT NULL, status text NOT NULL DEFAULT 'pending', external_post_id text,
		    updated_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (id, platform)) PARTITION BY LIST (platform);
		CREATE TABLE publish_logs_tiktok PARTITION OF publish_logs FOR VALUES IN ('tiktok');
		CREATE TABLE publish_logs_other PARTITION OF publish_logs DEFAULT;`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := emptyWorld(t)
			if table != "" {
				w.exec(table)
			}
			w.migrate()
			w.store = openStore(t, repo.Config{URL: w.url})
			w.fill(20_000, 20)
			plan := func() repo.DuePlan {
				t.Helper()
				plan, err := w.store.PlanDue(t.Context(), reconciler.Due{Now: time.Now(), Timeout: time.Minute, Timeouts: map[string]time.Duration{"tiktok": time.Hour}, Limit: 500})
				if err != nil {
					t.Fatal(err)
				}
				return plan
			}
			if got := plan(); !got.Indexed || got.Bytes < 1<<20 {
				t.Errorf("%+v", got)
			}
			w.exec(`DROP INDEX publish_logs_open_idx`)
			if got := plan(); got.Indexed || got.Bytes < 1<<20 {
				t.Errorf("without the index: %+v", got)
			}
		})
	}
}

func TestMissingPrivileges(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	missing := func(prunes bool) map[string][]string {
		t.Helper()
		found, err := w.store.MissingPrivileges(t.Context(), prunes)
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	equal(t, "of the owner", missing(true), map[string][]string{})
	w.exec(`REVOKE UPDATE, DELETE ON ledger_events FROM publish`)
	equal(t, "of one that does not prune", missing(false), map[string][]string{})
	equal(t, "of one that prunes", missing(true), map[string][]string{"ledger_events": {"DELETE", "UPDATE"}})
	w.exec(`REVOKE DELETE ON parked_webhooks FROM publish`)
	w.exec(`REVOKE ALL ON publish_logs FROM publish`)
	w.exec(`GRANT SELECT, UPDATE (status, error_message) ON publish_logs TO publish`)
	w.exec(`DROP TABLE publish_outbox`)
	equal(t, "then", missing(false), map[string][]string{"parked_webhooks": {"DELETE"}, "publish_outbox": {"DELETE", "INSERT", "SELECT"}})
	w.exec(`REVOKE ALL ON publish_logs FROM publish`)
	equal(t, "of the logs", missing(false)["publish_logs"], []string{"SELECT", "UPDATE"})
}
