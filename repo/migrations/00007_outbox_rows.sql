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
    ALTER COLUMN bodies    SET STORAGE EXTERNAL,
    ADD COLUMN events int NOT NULL GENERATED ALWAYS AS (cardinality(ids)) STORED,
    -- For whoever takes something out by hand: an event is taken out of all four arrays.
    ADD CONSTRAINT publish_outbox_whole CHECK (cardinality(ids) > 0 AND cardinality(platforms) = cardinality(ids)
        AND cardinality(outcomes) = cardinality(ids) AND cardinality(bodies) = cardinality(ids));

-- The rows in which the events of the batch lie. They stay until all of it is told: until then, events that are
-- told already may be in them.
ALTER TABLE publish_outbox_told ADD COLUMN rows uuid[] NOT NULL DEFAULT '{}';
UPDATE publish_outbox_told SET rows = batch;
