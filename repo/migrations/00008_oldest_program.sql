-- +goose Up

-- The oldest schema version whose programs still work with this schema. While replicas are replaced one by one, those of
-- the release before go on, and may start again. A migration that they can't work with raises it:
--     UPDATE publish_reconciler_schema SET oldest_program = <its own version>;
CREATE TABLE publish_reconciler_schema (
    one_row        boolean PRIMARY KEY DEFAULT true CHECK (one_row),
    oldest_program bigint  NOT NULL
);
INSERT INTO publish_reconciler_schema (oldest_program) VALUES (7);
-- Every program reads it before all else, also one that runs as another role than its migrations.
GRANT SELECT ON publish_reconciler_schema TO PUBLIC;
