package repo_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

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
		role, found, err := w.store.MissingPrivileges(t.Context(), prunes)
		if err != nil || role != "publish" {
			t.Fatal(role, err)
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
	equal(t, "then", missing(false), map[string][]string{
		"parked_webhooks": {"DELETE"}, "publish_outbox": {"DELETE", "INSERT", "SELECT", "UPDATE"},
		"publish_logs": {"UPDATE (external_url)", "UPDATE (extra_metadata)", "UPDATE (last_retry_at)", "UPDATE (published_at)", "UPDATE (retry_count)", "UPDATE (updated_at)"},
	})
	w.exec(`GRANT UPDATE (external_url, published_at, retry_count, last_retry_at, extra_metadata, updated_at) ON publish_logs TO publish`)
	equal(t, "with all columns", len(missing(false)["publish_logs"]), 0)
	w.exec(`REVOKE ALL ON publish_logs FROM publish`)
	equal(t, "of the logs", len(missing(false)["publish_logs"]), 9)
	w.exec(`GRANT SELECT, UPDATE ON publish_logs TO publish`)
	equal(t, "of the whole table", len(missing(false)["publish_logs"]), 0)
}

// A role that lacks nothing can write all that the service writes.
func TestNeededPrivilegesAreEnough(t *testing.T) {
	t.Parallel()
	w := newOutboxWorld(t)
	id := w.publish("tiktok", "tt_1", "processing", time.Hour)
	post := reconciler.Post{Platform: "tiktok", ExternalPostID: "tt_2"}
	w.exec(`INSERT INTO ledger_events (timestamp, event_type, entity_type, entity_id) VALUES (now() - interval '1 year', 'x', 'publish_log', 'x')`)
	w.exec(`REVOKE ALL ON ALL TABLES IN SCHEMA public FROM publish`)
	_, needed, err := w.store.MissingPrivileges(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	for table, privileges := range needed {
		w.exec(`GRANT ` + strings.Join(privileges, ", ") + ` ON ` + table + ` TO publish`)
	}
	parked := uuid.Must(uuid.NewV7())
	failure := "late"
	w.transact(logIDs(id), decided(reconciler.Changes{
		Rows:   []reconciler.RowChange{{LogID: id, Status: reconciler.StatusFailed, Error: &failure, ExternalURL: "x", Published: true, Retried: true, RetryCount: 1}},
		Ledger: []reconciler.Event{{ID: uuid.New(), Type: "x", Severity: "info", LogID: id, Once: true}},
		Park:   []reconciler.ParkedWebhook{{ID: parked, Post: post, ReceivedAt: time.Now()}},
		Signs:  []reconciler.Sign{{Platform: "tiktok", Confirmed: true, Silent: true}},
	}))
	w.transact(reconciler.Keys{Posts: []reconciler.Post{post}}, decided(reconciler.Changes{Unpark: []uuid.UUID{parked}}))
	if err := w.store.Platforms(t.Context(), []string{"tiktok", "x"}, time.Hour, func(known []reconciler.Platform, now time.Time) []reconciler.HoldChange {
		return []reconciler.HoldChange{{Hold: reconciler.Hold{Platform: known[0].Name, Since: now, Until: now}, Begun: &reconciler.HoldBegun{ID: uuid.Must(uuid.NewV7())}}}
	}); err != nil {
		t.Fatal(err)
	}
	if n, err := w.store.PruneLedger(t.Context(), time.Now().Add(-time.Hour), 10); n != 1 || err != nil {
		t.Errorf("pruned %d, %v", n, err)
	}
	if _, err := w.store.PruneParked(t.Context(), time.Now(), 10); err != nil {
		t.Error(err)
	}
	if _, err := w.store.DrainOutbox(t.Context(), 10, nil); err != nil { // plans the hold alone
		t.Fatal(err)
	}
	others := w.change(2)
	if _, err := w.store.DrainOutbox(t.Context(), 10, func(context.Context, uint64, []reconciler.OutboxEvent) (reconciler.Told, error) {
		return reconciler.Told{Sequence: 1, Events: others[:1]}, nil
	}); err != nil {
		t.Fatal(err)
	}
	var told telling
	if err := w.drain(10, told.tell); err != nil || len(told.ids) != 2 || told.ids[1] != others[1] {
		t.Errorf("told %v, %v", told.ids, err)
	}
}
