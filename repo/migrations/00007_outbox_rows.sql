-- +goose Up

-- A row of the outbox holds all events of one transaction: hundreds of rows that live for a moment cost the
-- fast path more than all else that is done about them. What waits keeps its id and its place.
ALTER TABLE publish_outbox
    ADD COLUMN ids       uuid[],
    ADD COLUMN platforms text[],
    ADD COLUMN outcomes  text[],
    ADD COLUMN bodies    text[];
UPDATE publish_outbox SET ids = ARRAY[id], platforms = ARRAY[platform], outcomes = ARRAY[outcome], bodies = ARRAY[body];
ALTER TABLE publish_outbox
    DROP COLUMN platform,
    DROP COLUMN outcome,
    DROP COLUMN body,
    ALTER COLUMN ids       SET NOT NULL,
    ALTER COLUMN platforms SET NOT NULL,
    ALTER COLUMN outcomes  SET NOT NULL,
    ALTER COLUMN bodies    SET NOT NULL,
    -- It is not worth its compression.
    ALTER COLUMN bodies    SET STORAGE EXTERNAL;

-- The rows in which the events of the batch lie.
ALTER TABLE publish_outbox_told ADD COLUMN rows uuid[] NOT NULL DEFAULT '{}';
UPDATE publish_outbox_told SET rows = batch;
