-- +goose NO TRANSACTION
-- +goose Up

-- Built concurrently, since the publishers' table may be large and in use. One that was interrupted is
-- left behind invalid, and would count as existing: it goes first.
-- +goose StatementBegin
DO $$
DECLARE
    broken regclass;
BEGIN
    FOR broken IN
        SELECT i.indexrelid::regclass
          FROM pg_index i
          JOIN pg_class c ON c.oid = i.indexrelid
         WHERE NOT i.indisvalid
           AND i.indrelid IN ('publish_logs'::regclass, 'ledger_events'::regclass)
           AND c.relname IN ('publish_logs_open_idx', 'publish_logs_post_idx', 'ledger_events_entity_idx')
    LOOP
        EXECUTE format('DROP INDEX %s', broken);
    END LOOP;
END
$$;
-- +goose StatementEnd

-- The sweep's order: its cost follows the number of due logs, never the size of the table.
CREATE INDEX CONCURRENTLY IF NOT EXISTS publish_logs_open_idx
    ON publish_logs (updated_at, id) WHERE status IN ('processing', 'retry');

-- A webhook names a post, not a log.
CREATE INDEX CONCURRENTLY IF NOT EXISTS publish_logs_post_idx
    ON publish_logs (platform, external_post_id);

-- The history of one log.
CREATE INDEX CONCURRENTLY IF NOT EXISTS ledger_events_entity_idx
    ON ledger_events (entity_type, entity_id);
