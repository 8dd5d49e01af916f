package main

import (
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// confirm has a log of a post closed by its webhook.
func (w *world) confirm(js jetstream.JetStream, post string) {
	w.Helper()
	log := w.publish(post, "processing", `{}`, 0)
	if _, err := js.Publish(w.Context(), "publish.webhook.instagram", []byte(`{"external_post_id":"`+post+`","status":"published"}`)); err != nil {
		w.Fatal(err)
	}
	eventually(w, "the log is closed", func() bool { return w.status(log) == "success" })
}

func events(tb testing.TB, js jetstream.JetStream) *jetstream.StreamInfo {
	tb.Helper()
	stream, err := js.Stream(tb.Context(), "PUBLISH_EVENTS")
	if err != nil {
		tb.Fatal(err)
	}
	return stream.CachedInfo()
}

// A replica is killed when its event is stored and not yet forgotten, and the next one comes when the stream
// has forgotten the event's message id.
func TestKillBetweenPublishAndForget(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	js := w.nats.JetStream(t)
	p := spawn(t, nil, w.args()...)
	p.logged("ready")
	cfg := events(t, js).Config
	cfg.Duplicates = 100 * time.Millisecond // as if the two minutes were over
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	w.exec(`CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(60); RETURN OLD; END'`)
	w.exec(`CREATE TRIGGER dawdle BEFORE DELETE ON publish_outbox FOR EACH ROW EXECUTE FUNCTION dawdle()`)
	w.confirm(js, "post")
	eventually(t, "it forgets the event", func() bool {
		return w.text(`SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'`) == "1"
	})
	p.signal(syscall.SIGKILL)
	p.exits(-1, soon)
	w.exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'`)
	w.exec(`DROP TRIGGER dawdle ON publish_outbox`)
	if state := events(t, js).State; state.Msgs != 1 || w.text(`SELECT count(*)::text FROM publish_outbox`) != "1" {
		t.Errorf("it was not killed in between: %+v", state)
	}
	time.Sleep(3 * cfg.Duplicates) // nothing tells that the window is over

	spawn(t, nil, w.args()...).logged("ready")
	eventually(t, "the event is forgotten", func() bool { return w.text(`SELECT count(*)::text FROM publish_outbox`) == "0" })
	if state := events(t, js).State; state.Msgs != 1 {
		t.Errorf("%d events", state.Msgs)
	}
	w.confirm(js, "another")
	eventually(t, "the next event is told", func() bool { return events(t, js).State.Msgs == 2 })
}

func TestEventsOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	js := w.nats.JetStream(t)
	p := w.serve("--events=off")
	w.confirm(js, "post")
	if n := w.text(`SELECT count(*)::text FROM publish_outbox`); n != "0" {
		t.Errorf("%s events in the outbox", n)
	}
	p.stop()
	p.exits(exitOK, soon)
	if state := events(t, js).State; state.LastSeq != 0 {
		t.Errorf("%d events in the stream", state.LastSeq)
	}
}
