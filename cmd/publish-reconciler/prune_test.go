package main

import "testing"

func TestPrune(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(`INSERT INTO ledger_events (timestamp, event_type, entity_type, entity_id) SELECT now() - n * interval '1 day', 'publish_reconciled', 'publish_log', 'x' FROM generate_series(1, 14) n`)
	w.exec(`INSERT INTO parked_webhooks (id, platform, external_post_id, payload, received_at) VALUES (gen_random_uuid(), 'x', 'y', '{}', now() - interval '8 days')`)
	prune := func(args ...string) *program {
		p := begin(t, append([]string{"prune", "--database-url=" + w.database}, args...)...)
		p.exits(exitOK, soon)
		return p
	}
	prune("--ledger-retention=10d").looks("5 ledger events and 1 parked webhooks deleted")
	prune("--ledger-retention=10d").looks("0 ledger events and 0 parked webhooks deleted")
	prune().looks("0 ledger events and 0 parked webhooks deleted") // the ledger stays as it is
	prune("--ledger-retention=7d", "--json").looks(`{"ledger_events":3,"parked_webhooks":0,"more":false}`)
	w.exec(`DROP TABLE publish_reconciler_migrations`)
	p := begin(t, "prune", "--database-url="+w.database)
	p.exits(exitFailure, soon)
	p.says("publish-reconciler migrate")
}
