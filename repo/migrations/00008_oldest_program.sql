-- +goose Up

-- The oldest program that works with this schema, by the version of the schema that it was made for: so that a program
-- tells whether it may start on a schema that a later release has migrated, as in a rolling upgrade and after a rollback.
--
-- For migrations from here on: what is new comes with one release, and what is old goes with a later one, when no program
-- in use needs it any more. A migration that takes something away (drops, renames, narrows) raises oldest_program in the
-- same file, to the version of the first program that does without it: never beyond the release before.
CREATE TABLE IF NOT EXISTS publish_reconciler_schema (
    only_row       boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    oldest_program bigint  NOT NULL
);
INSERT INTO publish_reconciler_schema (oldest_program) VALUES (7) ON CONFLICT DO NOTHING;
-- Who runs the service may be another role than who migrates, and has no right to what is new.
GRANT SELECT ON publish_reconciler_schema TO PUBLIC;
