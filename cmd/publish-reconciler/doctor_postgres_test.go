package main

import (
	"net/url"
	"testing"
	"time"

	"github.com/google/uuid"

	"publish-reconciler/repo/pgtest/pgtestdb"
)

func TestDoctorOfPostgres(t *testing.T) {
	t.Parallel()
	w, _ := ran(t, "--events=off")
	for _, table := range []string{"parked_webhooks", "publish_outbox"} {
		w.exec(`REVOKE DELETE ON ` + table + ` FROM publish`)
	}
	w.exec(`REVOKE UPDATE ON publish_platforms FROM publish`)
	w.exec(`DROP INDEX publish_logs_open_idx`)
	w.exec(`INSERT INTO publish_logs (platform, status, error_message) SELECT 'x', 'success', repeat('x', 1500) FROM generate_series(1, 15000)`)
	w.exec(`ANALYZE publish_logs`)
	w.publish("ig_1", "processing", `{}`, 23*time.Minute)
	w.publish("ig_2", "processing", `{"webhook_status":"in_review"}`, time.Hour)
	w.exec(`UPDATE publish_logs SET platform = 'tiktok' WHERE id = $1`, w.publish("tt_1", "processing", `{}`, time.Hour))
	w.exec(`INSERT INTO publish_platforms (platform, held_since, held_until) VALUES ('tiktok', now() - interval '1 minute', now() + interval '1 hour')`)
	w.exec(`INSERT INTO parked_webhooks (id, platform, external_post_id, payload, received_at) VALUES (gen_random_uuid(), 'x', 'y', '{}', now() - interval '25 hours')`)
	event := func(age time.Duration) {
		id := uuid.Must(uuid.NewV7())
		ms := time.Now().Add(-age).UnixMilli()
		for i := range 6 {
			id[i] = byte(ms >> (40 - 8*i))
		}
		w.exec(`INSERT INTO publish_outbox VALUES ($1, ARRAY[$1::uuid], '{x}', '{failed}', '{"{}"}')`, id)
	}
	event(time.Minute)
	e := w.doctor(exitFailure, "--outage-hold=on")
	e.tells("postgres privileges", levelWrong, `the role may not delete in parked_webhooks: GRANT DELETE ON parked_webhooks TO publish`,
		`the role may not delete in publish_outbox: GRANT DELETE ON publish_outbox TO publish`, `the role may not update in publish_platforms: GRANT UPDATE ON publish_platforms TO publish`)
	e.tells("indexes", levelWrong, `publish_logs_open_idx is missing: CREATE INDEX CONCURRENTLY publish_logs_open_idx ON publish_logs \(updated_at, id\) WHERE status IN \('processing', 'retry'\)`)
	e.tells("due logs", levelWarning, `Postgres reads all of publish_logs to find them: ANALYZE publish_logs`)
	e.tells("open logs", levelWrong, `1 log is open for more than twice the timeout, on instagram: see whether the service runs and keeps up`)
	e.tells("skipped logs", levelWarning, `1 log stays open long after the deadline .*: see publish-reconciler list --reason webhook_unclear, and override what is known`)
	e.tells("holds", levelWarning, `logs are held on tiktok, which confirms nothing: see whether its webhooks reach us`)
	e.tells("parked webhooks", levelWarning, `1, the oldest for 25h: their logs never came, .*`)
	e.tells("outbox", levelWarning, `1, the oldest for 1m\d*s?: see whether the service reaches NATS`)

	event(time.Hour)
	e = w.doctor(exitFailure, "--platform-timeouts=instagram=11m")
	e.tells("outbox", levelWrong, `2, the oldest for 1h: see whether the service runs, and what its log says of outcome events`)
	e.tells("open logs", levelWrong, `1 log is open for more than twice the timeout, on tiktok: .*`) // no holds, and more patience
	e.silent("holds")
	w.doctor(exitFailure, "--sweep-interval=41m").tells("open logs", levelOK, `3, .*; none for more than twice its timeout .*`) // no sweep has come yet
	w.doctor(exitFailure, "--events=off").tells("outbox", levelWarning, `2, the oldest for 1h, and EVENTS is off: turn it on to have them told, or DELETE FROM publish_outbox`)

	w.exec(`DROP TABLE publish_logs`)
	e = w.doctor(exitFailure)
	for _, check := range []string{"due logs", "open logs"} {
		e.tells(check, levelWrong, `.*relation "publish_logs" does not exist.*`)
	}
}

func TestDoctorOfTheDatabase(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	healthy := w.database
	w.database = pgtestdb.New(t, nil)
	e := w.doctor(exitFailure)
	e.tells("schema", levelWrong, `the database schema is version 0, older than this program's 8: run "publish-reconciler migrate" to bring it up to date`)
	e.silent("indexes", "open logs", "postgres privileges")

	u, err := url.Parse(healthy)
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	query.Set("default_transaction_read_only", "on")
	u.RawQuery = query.Encode()
	w.database = u.String()
	w.doctor(exitFailure).tells("postgres", levelWrong, `postgres is read-only: start it, or mend DATABASE_URL`)

	w.database = healthy
	w.exec(`REVOKE SELECT ON publish_reconciler_migrations FROM publish`)
	e = w.doctor(exitFailure)
	e.tells("schema", levelWrong, `.*permission denied for table publish_reconciler_migrations.*`)
	e.tells("postgres privileges", levelWrong, `the role may not select in publish_reconciler_migrations: GRANT SELECT ON publish_reconciler_migrations TO publish`)
}
