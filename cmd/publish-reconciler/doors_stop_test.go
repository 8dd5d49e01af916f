package main

import (
	"net/http"
	"testing"
	"time"
)

// A stop ends a long reconcile between two pages; whoever asked for it hears so.
func TestStopWhileReconciling(t *testing.T) {
	t.Parallel()
	for door, ask := range map[string]func(*world, served) answer{
		"HTTP": func(_ *world, s served) answer { return s.ask("POST", "/publishing/reconcile", "") },
		"NATS": func(w *world, _ served) answer { return w.request("reconcile", "") },
	} {
		t.Run(door, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			s := w.serve()
			w.exec(`INSERT INTO publish_logs (platform, status, updated_at) SELECT 'instagram', 'processing', now() - interval '1 hour' FROM generate_series(1, 10000)`)
			w.exec(`CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.3); RETURN NULL; END'`)
			w.exec(`CREATE TRIGGER slow BEFORE UPDATE ON publish_logs FOR EACH STATEMENT EXECUTE FUNCTION slow()`)
			const failed = `SELECT count(*)::text FROM publish_logs WHERE status = 'failed'`
			answers := make(chan answer, 1)
			go func() { answers <- ask(w, s) }()
			eventually(t, "the reconcile is under way", func() bool { return w.text(failed) != "0" })

			// Others are answered meanwhile.
			began := time.Now()
			if got := w.request("logs", `{"limit":1}`); got.status != http.StatusOK {
				t.Errorf("%+v", got)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("it took %s", took)
			}

			s.stop()
			s.exits(exitOK, 10*time.Second)
			got := <-answers
			if got.status != http.StatusServiceUnavailable {
				t.Errorf("%+v", got)
			}
			contains(t, got.error(), "the sweep was stopped")
			if n := w.text(failed); n == "10000" {
				t.Error("it went on to the end")
			}
		})
	}
}

// A request that is in hand is answered before the service ends.
func TestStopAnswersWhatIsInHand(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve()
	id := w.publish("post", "processing", `{}`, 0)
	tx, err := w.db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `SELECT FROM publish_logs WHERE id = $1 FOR UPDATE`, id); err != nil {
		t.Fatal(err)
	}
	answers := make(chan answer, 1)
	go func() { answers <- w.request("override", `{"log_id":"`+id+`","status":"failed","actor":"ana"}`) }()
	eventually(t, "the override waits for the lock", func() bool {
		return w.text(`SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) == "1"
	})
	s.stop()
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := <-answers; got.status != http.StatusOK || w.status(id) != "failed" {
		t.Errorf("%+v", got)
	}
	s.exits(exitOK, 5*time.Second)
}
