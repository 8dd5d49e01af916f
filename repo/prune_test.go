package repo_test

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"publish-reconciler/reconciler"
	"publish-reconciler/repo"
)

// oldEvents adds events of logs, and others', of n days.
const oldEvents = `
INSERT INTO ledger_events (timestamp, event_type, entity_type, entity_id)
SELECT now() - make_interval(days => day), 'publish_reconciled', entity, gen_random_uuid()::text
  FROM generate_series(0, $1 - 1) day, generate_series(1, 1200), unnest(ARRAY['publish_log', 'invoice']) entity`

func TestPrune(t *testing.T) {
	t.Parallel()
	for name, table := range map[string]string{
		"a plain ledger": "",
		// As README has it: without a unique id over all partitions.
		"a partitioned ledger": `
			CREATE TABLE ledger_events (
			    id uuid NOT NULL DEFAULT gen_random_uuid(), timestamp timestamptz NOT NULL DEFAULT now(), event_type text NOT NULL, severity text NOT NULL DEFAULT 'info',
			    entity_type text NOT NULL, entity_id text NOT NULL, metadata jsonb NOT NULL DEFAULT '{}', PRIMARY KEY (id, timestamp)) PARTITION BY RANGE (timestamp);
			CREATE TABLE ledger_events_early PARTITION OF ledger_events FOR VALUES FROM (MINVALUE) TO ('2020-01-01');
			CREATE TABLE ledger_events_late PARTITION OF ledger_events DEFAULT;`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := emptyWorld(t)
			if table != "" {
				w.exec(table)
			}
			w.migrate()
			w.exec(oldEvents, 4)
			w.exec(`INSERT INTO parked_webhooks (id, platform, external_post_id, payload, received_at)
			        SELECT gen_random_uuid(), 'x', n::text, '{}', now() - make_interval(days => n % 14) FROM generate_series(1, 2800) n`)
			pruner := reconciler.New(openStore(t, repo.Config{URL: w.url}), nil, nil, nil, reconciler.Policy{}, slog.New(slog.DiscardHandler))
			got, err := pruner.Prune(t.Context(), reconciler.PruneRequest{LedgerRetention: 36 * time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "pruned", got, reconciler.PruneResult{LedgerEvents: 2 * 1200, ParkedWebhooks: 1400})
			equal(t, "events", one[string](w, `SELECT string_agg(entity_type || ' ' || n, ', ' ORDER BY entity_type) FROM (SELECT entity_type, count(*) AS n FROM ledger_events GROUP BY 1) e`),
				fmt.Sprintf("invoice %d, publish_log %d", 4*1200, 2*1200))
			equal(t, "oldest", one[string](w, `SELECT (now() - min(timestamp) < interval '36 hours')::text FROM ledger_events WHERE entity_type = 'publish_log'`), "true")
			equal(t, "parked", one[string](w, `SELECT count(*) || ' ' || (now() - min(received_at) < interval '7 days')::text FROM parked_webhooks`), "1400 true")
		})
	}
}

// What is to be deleted is found by the index, however much else there is.
func TestThePlanOfPrunes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(oldEvents, 10)
	w.exec(`ANALYZE ledger_events`)
	for mode, plan := range w.plans(repo.PruneLedgerSQL, time.Now().Add(-9*24*time.Hour), 1000) {
		notIn(t, mode, plan, "Seq Scan on ledger_events")
	}
}
