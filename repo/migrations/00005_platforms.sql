-- +goose Up

-- What is known of a platform, for OUTAGE_HOLD: when it last confirmed something, and its latest hold.
CREATE TABLE IF NOT EXISTS publish_platforms (
    platform     text PRIMARY KEY,
    confirmed_at timestamptz,
    held_since   timestamptz,
    held_until   timestamptz,
    hold_ended   boolean NOT NULL DEFAULT false
);

-- How many of a platform's logs were moved by silence, and when; of the last hour, as long as it is looked at.
CREATE TABLE IF NOT EXISTS publish_platform_silence (
    platform text        NOT NULL,
    at       timestamptz NOT NULL,
    logs     int         NOT NULL
);
CREATE INDEX IF NOT EXISTS publish_platform_silence_idx ON publish_platform_silence (platform, at);
