-- +goose NO TRANSACTION
-- +goose Up

-- Lists read these two of the publishers' columns, and the index below has to order the second.
-- +goose StatementBegin
DO $$
DECLARE
    wrong text;
BEGIN
    SELECT string_agg(format('publish_logs.%s is %s, must be timestamp with time zone',
                             attname, format_type(atttypid, NULL)), '; ' ORDER BY attname)
      INTO wrong
      FROM pg_attribute
     WHERE attrelid = 'publish_logs'::regclass AND attname IN ('created_at', 'requested_at') AND NOT attisdropped
       AND format_type(atttypid, NULL) NOT IN ('timestamp with time zone', 'timestamp without time zone');
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'existing tables do not fit: %', wrong;
    END IF;
END
$$;
-- +goose StatementEnd

-- As in 00002: one that was interrupted is left behind invalid, and would count as existing.
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
           AND i.indrelid = 'publish_logs'::regclass
           AND c.relname = 'publish_logs_created_idx'
    LOOP
        EXECUTE format('DROP INDEX %s', broken);
    END LOOP;
END
$$;
-- +goose StatementEnd

-- The order of lists, read backwards. In a publishers' own table created_at may be null: such a log is
-- listed too, last.
CREATE INDEX CONCURRENTLY IF NOT EXISTS publish_logs_created_idx
    ON publish_logs (coalesce(created_at, '-infinity'), id);
