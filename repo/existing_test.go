package repo_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"publish-reconciler/reconciler"
	"publish-reconciler/repo"
)

// publishersTable is as others may have made it: some columns missing, some without a default, one of
// their own, an index of theirs, another order.
const publishersTable = `
CREATE TABLE publish_logs (
    campaign       text,
    status         varchar(20)  NOT NULL,
    platform       varchar(40)  NOT NULL,
    id             uuid         PRIMARY KEY,
    updated_at     timestamptz  NOT NULL,
    retry_count    smallint     NOT NULL,
    max_retries    bigint,
    extra_metadata jsonb,
    external_post_id varchar(80)
);
CREATE INDEX publishers_idx ON publish_logs (campaign);
INSERT INTO publish_logs
SELECT 'campaign ' || n, 'processing', 'instagram', gen_random_uuid(), '2024-01-15 10:30:00Z', 1, 2, NULL, 'post_' || n
  FROM generate_series(1, 1000) n;`

// file changes when a table is dropped, made anew, or rewritten.
func (w *world) file(table string) uint32 {
	w.Helper()
	return one[uint32](w, `SELECT relfilenode FROM pg_class WHERE oid = $1::text::regclass`, table)
}

func (w *world) columns(table string) []string {
	w.Helper()
	return column[string](w, `
		SELECT format('%s %s %s %s', a.attname, format_type(a.atttypid, a.atttypmod),
		              CASE WHEN a.attnotnull THEN 'not null' ELSE 'null' END, pg_get_expr(d.adbin, d.adrelid))
		  FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
		 WHERE a.attrelid = $1::text::regclass AND a.attnum > 0 AND NOT a.attisdropped
		 ORDER BY a.attnum`, table)
}

func TestMigrateExtendsThePublishersTable(t *testing.T) {
	t.Parallel()
	w := emptyWorld(t)
	w.exec(publishersTable)
	const content = `SELECT md5(string_agg(concat_ws('|', campaign, status, platform, id, updated_at, retry_count, max_retries,
		extra_metadata, external_post_id), ',' ORDER BY id)) FROM publish_logs`
	file, before := w.file("publish_logs"), one[string](w, content)

	w.migrate()

	equal(t, "file", w.file("publish_logs"), file)
	equal(t, "content", one[string](w, content), before)
	equal(t, "columns", w.columns("publish_logs"), []string{
		"campaign text null ",
		"status character varying(20) not null ",
		"platform character varying(40) not null ",
		"id uuid not null ",
		"updated_at timestamp with time zone not null now()",
		"retry_count smallint not null 0",
		"max_retries bigint null 3",
		"extra_metadata jsonb null '{}'::jsonb",
		"external_post_id character varying(80) null ",
		"clip_id uuid null ",
		"social_account_id uuid null ",
		"external_url text null ",
		"error_message text null ",
		"requested_at timestamp with time zone not null now()",
		"published_at timestamp with time zone null ",
		"last_retry_at timestamp with time zone null ",
		"created_at timestamp with time zone not null now()",
	})
	equal(t, "indexes", w.indexes("publish_logs"),
		[]string{"publish_logs_created_idx", "publish_logs_open_idx", "publish_logs_pkey", "publish_logs_post_idx", "publishers_idx"})
}

func TestPublishersTableWorks(t *testing.T) {
	t.Parallel()
	w := emptyWorld(t)
	w.exec(publishersTable)
	w.migrate()
	w.store = openStore(t, repo.Config{URL: w.url})
	id := uuid.New()
	w.exec(`INSERT INTO publish_logs (id, platform, status, external_post_id) VALUES ($1, 'tiktok', 'processing', 'x')`, id)

	locked := w.lock(reconciler.Keys{Posts: []reconciler.Post{{Platform: "tiktok", ExternalPostID: "x"}}})
	equal(t, "locked", lockedIDs(locked), []uuid.UUID{id})
	w.transact(logIDs(id), write(reconciler.RowChange{
		LogID: id, Status: reconciler.StatusRetry, Retried: true, RetryCount: 1, Metadata: map[string]any{"a": "b"},
	}))
	equal(t, "row", w.row(id), row{Status: "retry", Retries: 1, Retried: true, Metadata: map[string]any{"a": "b"}})

	due, err := w.store.DueLogs(t.Context(), reconciler.Due{Now: time.Now(), Timeout: time.Hour, Limit: 2000})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "due logs", len(due), 1000)
}

func TestARowOfNulls(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(`ALTER TABLE publish_logs ALTER platform DROP NOT NULL, ALTER status DROP NOT NULL,
		ALTER updated_at DROP NOT NULL, ALTER retry_count DROP NOT NULL, ALTER max_retries DROP NOT NULL`)
	id := uuid.New()
	w.exec(`INSERT INTO publish_logs (id, platform, status, updated_at, retry_count, max_retries)
	        VALUES ($1, NULL, NULL, NULL, NULL, NULL)`, id)
	neighbour := w.publish("instagram", "ig_1", "processing", 0)
	equal(t, "locked", len(w.lock(logIDs(id, neighbour)).Logs), 2)
}

func TestMigrateRefusesTablesThatDoNotFit(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ schema, table, want string }{
		"every wrong column of the logs": {
			`
			CREATE TYPE state AS ENUM ('pending', 'processing');
			CREATE TABLE publish_logs (
			    id bigint PRIMARY KEY, platform text, status state, updated_at timestamp, extra_metadata json)`, "publish_logs",
			"existing tables do not fit: publish_logs.extra_metadata is json, must be jsonb; " +
				"publish_logs.id is bigint, must be uuid; publish_logs.status is state, must be text; " +
				"publish_logs.updated_at is timestamp without time zone, must be timestamp with time zone",
		},
		"missing columns that have no default": {
			`CREATE TABLE publish_logs (id uuid PRIMARY KEY)`, "publish_logs",
			"existing tables do not fit: publish_logs.platform is missing, must be text; publish_logs.status is missing, must be text",
		},
		"a ledger": {
			`CREATE TABLE ledger_events (id bigserial PRIMARY KEY, event_type text, entity_type text, entity_id uuid,
			    "timestamp" timestamptz, metadata jsonb)`, "ledger_events",
			"existing tables do not fit: ledger_events.entity_id is uuid, must be text; " +
				"ledger_events.id is bigint, must be uuid; ledger_events.severity is missing, must be text",
		},
		"parked webhooks of somebody else": {
			`CREATE TABLE parked_webhooks (id uuid PRIMARY KEY, platform text, external_post_id bigint)`, "parked_webhooks",
			"existing tables do not fit: parked_webhooks.external_post_id is bigint, must be text; " +
				"parked_webhooks.payload is missing, must be jsonb; " +
				"parked_webhooks.received_at is missing, must be timestamp with time zone",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := emptyWorld(t)
			w.exec(tt.schema)
			columns, indexes := w.columns(tt.table), w.indexes(tt.table)
			err := migrate(t.Context(), w.url)
			if err == nil || !strings.Contains(err.Error(), tt.want+" (SQLSTATE") {
				t.Errorf("error %v\nwant %s", err, tt.want)
			}
			equal(t, "columns", w.columns(tt.table), columns)
			equal(t, "indexes", w.indexes(tt.table), indexes)
			equal(t, "tables", w.tables(), []string{tt.table, "publish_reconciler_migrations"})
		})
	}
}

func TestSharedLedger(t *testing.T) {
	t.Parallel()
	w := emptyWorld(t)
	w.exec(`CREATE TABLE ledger_events (
	            tenant text DEFAULT 'main', id uuid, "timestamp" timestamptz, event_type varchar(80), severity varchar(8),
	            entity_type text, entity_id varchar(64), metadata jsonb);
	        INSERT INTO ledger_events (event_type, entity_type, entity_id) VALUES ('clip_made', 'clip', '1')`)
	file := w.file("ledger_events")
	w.migrate()
	w.store = openStore(t, repo.Config{URL: w.url})
	id := w.publish("instagram", "x", "processing", 0)
	once := reconciler.Event{
		ID: uuid.New(), Once: true, LogID: id, Type: reconciler.EventSkipped,
		Severity: reconciler.SeverityWarn, Metadata: map[string]any{"reason": "webhook_unclear"},
	}
	for range 2 {
		w.transact(logIDs(id), decided(reconciler.Changes{Ledger: []reconciler.Event{once}}))
	}
	equal(t, "file", w.file("ledger_events"), file)
	equal(t, "history", w.history(id), []event{{"publish_reconcile_skipped", "warn", once.Metadata}})
	equal(t, "events", column[string](w, `SELECT event_type || ' ' || tenant FROM ledger_events ORDER BY 1`),
		[]string{"clip_made main", "publish_reconcile_skipped main"})
}
