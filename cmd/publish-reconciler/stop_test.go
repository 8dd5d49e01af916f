package main

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// held is a service in a process of its own, with a webhook in hand whose log the test has locked.
type held struct {
	*program
	world *world
	log   string
	lock  pgx.Tx
}

func hold(t *testing.T) held {
	t.Helper()
	w := newWorld(t)
	log := w.publish("post", "processing", `{}`, 0)
	p := spawn(t, nil, w.args()...)
	p.logged("ready")
	lock, err := w.db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lock.Rollback(context.Background()) })
	if _, err := lock.Exec(t.Context(), `SELECT FROM publish_logs WHERE id = $1 FOR UPDATE`, log); err != nil {
		t.Fatal(err)
	}
	if _, err := w.nats.JetStream(t).Publish(t.Context(), "publish.webhook.instagram", []byte(`{"external_post_id":"post","status":"published"}`)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the batch waits for the lock", func() bool {
		return w.text(`SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) == "1"
	})
	p.signal(syscall.SIGTERM)
	p.logged("draining")
	return held{p, w, log, lock}
}

func TestTermFinishesWhatIsInHand(t *testing.T) {
	t.Parallel()
	h := hold(t)
	if err := h.lock.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.exits(exitOK, 5*time.Second)
	h.logged("stopped")
	if got := h.world.status(h.log); got != "success" {
		t.Errorf("the log is %s", got)
	}
	consumer, err := h.world.nats.JetStream(t).Consumer(t.Context(), "PUBLISH_WEBHOOKS", "webhooks")
	if err != nil {
		t.Fatal(err)
	}
	if info := consumer.CachedInfo(); info.NumAckPending != 0 || info.NumPending != 0 || info.AckFloor.Stream != 1 {
		t.Errorf("the message is not acknowledged: %+v", info)
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	h := hold(t)
	h.signal(syscall.SIGTERM)
	h.exits(-1, 2*time.Second) // by the signal; the batch would hold it up for five seconds
	if status := h.cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGTERM {
		t.Errorf("it ended by %s", status.Signal())
	}
	if got := h.world.status(h.log); got != "processing" {
		t.Errorf("the log is %s", got)
	}
}

func TestSignalsWhenIdle(t *testing.T) {
	t.Parallel()
	for name, sig := range map[string]syscall.Signal{"SIGTERM": syscall.SIGTERM, "SIGINT": syscall.SIGINT} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := spawn(t, nil, newWorld(t).args()...)
			p.logged("ready")
			p.signal(sig)
			p.exits(exitOK, 5*time.Second)
			p.logged("stopped")
		})
	}
}
