-- +goose Up

-- Where the outcome events stand in their stream: one row, written with every deletion from publish_outbox.
CREATE TABLE IF NOT EXISTS publish_outbox_told (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    -- Up to this sequence of the stream nothing stands that is still in the outbox.
    sequence bigint  NOT NULL DEFAULT 0,
    -- The events to be told next: the first at sequence + 1, each at the place behind the one before.
    batch    uuid[]  NOT NULL DEFAULT '{}',
    -- Up to here somebody may be late with an event that has another place by now.
    strays   bigint  NOT NULL DEFAULT 0
);
INSERT INTO publish_outbox_told DEFAULT VALUES ON CONFLICT DO NOTHING;
