-- +goose Up

-- The publishers may own publish_logs already: then it is extended below, never dropped or rewritten.
CREATE TABLE IF NOT EXISTS publish_logs (
    id                uuid        PRIMARY KEY DEFAULT gen_random_uuid(),
    clip_id           uuid,
    platform          text        NOT NULL,
    social_account_id uuid,
    status            text        NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'processing', 'retry', 'success', 'failed')),
    external_post_id  text,
    external_url      text,
    error_message     text,
    requested_at      timestamptz NOT NULL DEFAULT now(),
    published_at      timestamptz,
    retry_count       int         NOT NULL DEFAULT 0,
    max_retries       int         NOT NULL DEFAULT 3,
    last_retry_at     timestamptz,
    extra_metadata    jsonb       NOT NULL DEFAULT '{}',
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now()
);

-- A constant default (now() is one within a statement) is added without a rewrite.
ALTER TABLE publish_logs
    ADD COLUMN IF NOT EXISTS clip_id           uuid,
    ADD COLUMN IF NOT EXISTS social_account_id uuid,
    ADD COLUMN IF NOT EXISTS external_post_id  text,
    ADD COLUMN IF NOT EXISTS external_url      text,
    ADD COLUMN IF NOT EXISTS error_message     text,
    ADD COLUMN IF NOT EXISTS requested_at      timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN IF NOT EXISTS published_at      timestamptz,
    ADD COLUMN IF NOT EXISTS retry_count       int         NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS max_retries       int         NOT NULL DEFAULT 3,
    ADD COLUMN IF NOT EXISTS last_retry_at     timestamptz,
    ADD COLUMN IF NOT EXISTS extra_metadata    jsonb       NOT NULL DEFAULT '{}',
    ADD COLUMN IF NOT EXISTS created_at        timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN IF NOT EXISTS updated_at        timestamptz NOT NULL DEFAULT now();

-- The ledger may be shared with other services too.
CREATE TABLE IF NOT EXISTS ledger_events (
    id          uuid        PRIMARY KEY DEFAULT gen_random_uuid(),
    timestamp   timestamptz NOT NULL DEFAULT now(),
    event_type  text        NOT NULL,
    severity    text        NOT NULL DEFAULT 'info' CHECK (severity IN ('info', 'warn', 'error')),
    entity_type text        NOT NULL,
    entity_id   text        NOT NULL,
    metadata    jsonb       NOT NULL DEFAULT '{}'
);

CREATE TABLE IF NOT EXISTS parked_webhooks (
    id               uuid        PRIMARY KEY,
    platform         text        NOT NULL,
    external_post_id text        NOT NULL,
    payload          jsonb       NOT NULL,
    received_at      timestamptz NOT NULL
);
CREATE INDEX IF NOT EXISTS parked_webhooks_post_idx ON parked_webhooks (platform, external_post_id);

-- What is to be told of state changes (publish.event.>), written with them and deleted once it is told.
CREATE TABLE IF NOT EXISTS publish_outbox (
    id       uuid PRIMARY KEY,
    platform text NOT NULL,
    outcome  text NOT NULL,
    body     text NOT NULL
);

-- What exists already must be of the types that the service reads and writes, and fill in by itself what
-- a publisher leaves out.
-- +goose StatementBegin
DO $$
DECLARE
    wrong text;
    missing record;
BEGIN
    SELECT string_agg(format('%s.%s is %s, must be %s', want.tab, want.col,
                             coalesce(format_type(a.atttypid, NULL), 'missing'), want.types[1]), '; '
                      ORDER BY want.tab, want.col)
      INTO wrong
      FROM (VALUES
            ('publish_logs', 'id',               ARRAY['uuid']),
            ('publish_logs', 'platform',         ARRAY['text', 'character varying']),
            ('publish_logs', 'status',           ARRAY['text', 'character varying']),
            ('publish_logs', 'external_post_id', ARRAY['text', 'character varying']),
            ('publish_logs', 'external_url',     ARRAY['text', 'character varying']),
            ('publish_logs', 'error_message',    ARRAY['text', 'character varying']),
            ('publish_logs', 'published_at',     ARRAY['timestamp with time zone']),
            ('publish_logs', 'retry_count',      ARRAY['integer', 'smallint', 'bigint']),
            ('publish_logs', 'max_retries',      ARRAY['integer', 'smallint', 'bigint']),
            ('publish_logs', 'last_retry_at',    ARRAY['timestamp with time zone']),
            ('publish_logs', 'extra_metadata',   ARRAY['jsonb']),
            ('publish_logs', 'updated_at',       ARRAY['timestamp with time zone']),
            ('ledger_events', 'id',              ARRAY['uuid']),
            ('ledger_events', 'timestamp',       ARRAY['timestamp with time zone']),
            ('ledger_events', 'event_type',      ARRAY['text', 'character varying']),
            ('ledger_events', 'severity',        ARRAY['text', 'character varying']),
            ('ledger_events', 'entity_type',     ARRAY['text', 'character varying']),
            ('ledger_events', 'entity_id',       ARRAY['text', 'character varying']),
            ('ledger_events', 'metadata',        ARRAY['jsonb']),
            ('parked_webhooks', 'id',               ARRAY['uuid']),
            ('parked_webhooks', 'platform',         ARRAY['text', 'character varying']),
            ('parked_webhooks', 'external_post_id', ARRAY['text', 'character varying']),
            ('parked_webhooks', 'payload',          ARRAY['jsonb']),
            ('parked_webhooks', 'received_at',      ARRAY['timestamp with time zone'])
           ) AS want(tab, col, types)
      LEFT JOIN pg_attribute a
             ON a.attrelid = want.tab::regclass AND a.attname = want.col AND NOT a.attisdropped
     WHERE coalesce(format_type(a.atttypid, NULL), 'missing') <> ALL (want.types);
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'existing tables do not fit: %', wrong;
    END IF;

    FOR missing IN
        SELECT want.col, want.def
          FROM (VALUES
                ('requested_at', 'now()'), ('created_at', 'now()'), ('updated_at', 'now()'),
                ('retry_count', '0'), ('max_retries', '3'), ('extra_metadata', '''{}''')
               ) AS want(col, def)
          JOIN pg_attribute a
            ON a.attrelid = 'publish_logs'::regclass AND a.attname = want.col AND NOT a.attisdropped
         WHERE NOT a.atthasdef
    LOOP
        EXECUTE format('ALTER TABLE publish_logs ALTER COLUMN %I SET DEFAULT %s', missing.col, missing.def);
    END LOOP;
END
$$;
-- +goose StatementEnd
