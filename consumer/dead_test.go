package consumer_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"publish-reconciler/streams"
)

// counting counts the transactions.
func counting(n *atomic.Int64) func(*parts) {
	return transacting(func(_ context.Context, do func() error) error {
		n.Add(1)
		return do()
	})
}

// reasons are the dead letters' reasons by what they say about their origin.
func (w *world) reasons(kind streams.Kind) map[string]string {
	w.Helper()
	found := make(map[string]string)
	for _, letter := range w.letters(kind) {
		found[letter.Header.Get(streams.HeaderDeadSubject)+" "+string(letter.Data)] = letter.Header.Get(streams.HeaderDeadReason)
	}
	return found
}

func TestPoisonAsLargeAsTheServerTakes(t *testing.T) {
	t.Parallel()
	w := setup(t)
	id := w.insertLog("ig_1", "processing", 0)
	body := strings.Repeat("x", int(w.js.Conn().MaxPayload()))
	w.send(webhooks, body)
	w.send(webhooks, published("ig_1"))
	w.start()
	w.until("a dead letter", func() bool { return w.dead() == 1 })
	letter := w.letters(streams.KindWebhook)[0]
	equal(t, "reason", letter.Header.Get(streams.HeaderDeadReason), "malformed_json")
	if kept := len(letter.Data); kept < len(body)*9/10 || string(letter.Data) != body[:kept] {
		t.Errorf("%d bytes of %d are kept", kept, len(body))
	}
	w.until("its neighbour is settled", func() bool { return w.status(id) == "success" })
	w.settled(streams.ConsumerWebhooks)
}

func TestRowThatPostgresRefuses(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.exec(`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
	        BEGIN RAISE EXCEPTION 'this campaign is frozen'; END $$`)
	w.exec(`CREATE TRIGGER refuse BEFORE UPDATE ON publish_logs
	        FOR EACH ROW WHEN (NEW.external_post_id = 'bad7') EXECUTE FUNCTION refuse()`)
	w.exec(`ALTER TABLE publish_logs ADD CHECK (external_post_id <> 'bad23' OR status = 'processing')`)
	const n = 40
	logs := w.insertLogs("bad", n, 0)
	w.sendMany(n, publishedMany("bad"))
	w.sendMany(n, func(i int) (subject, body string) { return streams.CheckSubject(logs[i]), `{"timeout_minutes":0}` })
	w.start()
	want := map[string]string{
		webhooks + " " + published("bad7"):  "refused_by_database",
		webhooks + " " + published("bad23"): "refused_by_database",
	}
	becomes(w, "dead webhooks", want, func() map[string]string { return w.reasons(streams.KindWebhook) })
	want = map[string]string{
		streams.CheckSubject(logs[6]) + ` {"timeout_minutes":0}`:  "refused_by_database",
		streams.CheckSubject(logs[22]) + ` {"timeout_minutes":0}`: "refused_by_database",
	}
	becomes(w, "dead checks", want, func() map[string]string { return w.reasons(streams.KindCheck) })
	w.settled(streams.ConsumerWebhooks)
	w.settled(streams.ConsumerChecks)
	becomes(w, "logs", "processing 2, success 38", w.statuses)
	for _, letter := range w.letters(streams.KindWebhook) {
		cause := letter.Header.Get(streams.HeaderDeadError)
		if !strings.Contains(cause, "this campaign is frozen") && !strings.Contains(cause, "violates check constraint") {
			t.Errorf("error %q", cause)
		}
	}
}

// A dead letter that can't be stored leaves its message where it is, without a hot loop.
func TestDeadLetterThatIsNotStored(t *testing.T) {
	t.Parallel()
	w := setup(t)
	full, err := w.js.Stream(t.Context(), streams.StreamDead)
	if err != nil {
		t.Fatal(err)
	}
	whole := full.CachedInfo().Config
	small := whole
	small.MaxMsgSize = 10
	w.update(small)
	id := w.insertLog("ig_1", "processing", 0)
	w.send(webhooks, "poison")
	w.send(webhooks, published("ig_1"))
	r := w.start()
	w.until("refused", func() bool { return len(r.logs.with("dead letter not stored")) > 0 })
	if line := r.logs.with("dead letter not stored")[0]; !strings.Contains(line, "kind=webhook") || !strings.Contains(line, "reason=malformed_json") {
		t.Error(line)
	}
	w.until("its neighbour is settled", func() bool { return w.status(id) == "success" })
	w.during(2*time.Second, func() {
		if delivered := w.consumerInfo(streams.ConsumerWebhooks).Delivered.Consumer; delivered > 3 {
			t.Errorf("2 messages were delivered %d times", delivered)
		}
	})
	w.update(whole)
	becomes(w, "dead letters", map[string]string{webhooks + " poison": "malformed_json"},
		func() map[string]string { return w.reasons(streams.KindWebhook) })
	w.settled(streams.ConsumerWebhooks)
}

func (w *world) update(cfg jetstream.StreamConfig) {
	w.Helper()
	if _, err := w.js.UpdateStream(w.Context(), cfg); err != nil {
		w.Fatal(err)
	}
}

// A webhook that is put back on its subject was received when it came first; nobody can make it come later than it did.
func TestAReplayedWebhookCameWhenItCameFirst(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start()
	for i, test := range []struct {
		first string
		kept  bool
	}{
		{time.Now().Add(-time.Hour).UTC().Format(time.RFC3339Nano), true},
		{time.Now().Add(time.Hour).UTC().Format(time.RFC3339Nano), false},
		{"yesterday", false},
	} {
		post := fmt.Sprint("ig_", i)
		id := w.insertLog(post, "processing", 0)
		msg := nats.NewMsg(webhooks)
		msg.Data = []byte(published(post))
		msg.Header.Set(streams.HeaderFirstSequence, "1")
		msg.Header.Set(streams.HeaderFirstTime, test.first)
		if _, err := w.js.PublishMsg(t.Context(), msg); err != nil {
			t.Fatal(err)
		}
		w.until("it is done", func() bool { return w.status(id) == "success" })
		received := one[string](w, `SELECT extra_metadata->>'webhook_timestamp' FROM publish_logs WHERE id = $1`, id)
		at, err := time.Parse(time.RFC3339Nano, received)
		if err != nil || (received == test.first) != test.kept || !test.kept && time.Since(at) > time.Minute {
			t.Errorf("it came first at %s, and is received at %s (%v)", test.first, received, err)
		}
	}
}
