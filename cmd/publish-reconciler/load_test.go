package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"publish-reconciler/streams"
)

// kinds are the fates of the logs of a load, as status and reason. The number of logs is a multiple of theirs.
var kinds = []struct{ name, ends string }{
	{"confirmed", "success webhook_confirmed"},
	{"repeated", "success webhook_confirmed"}, // by webhooks that are alike, and a check
	{"early", "success webhook_confirmed"},    // the webhook comes before the log
	{"rejected", "failed webhook_rejected"},
	{"silent", "failed webhook_timeout"},    // a check finds it
	{"forgotten", "failed webhook_timeout"}, // only a sweep finds it
	{"unclear", "processing"},
}

// load is what publishers, platforms and ingestors do in a world, and how it has to end.
type load struct {
	*world
	js   jetstream.JetStream
	logs int // of each kind, so far
	// hasty: what was in hand with a process that died comes again within a second, not thirty.
	hasty bool
}

func (w *world) load() *load {
	w.Helper()
	return &load{world: w, js: w.nats.JetStream(w.TB)}
}

// args are those of a service that gives up on silence after an hour, and tells of states of the world alone.
func (l *load) args(more ...string) []string {
	return l.world.args(append([]string{"--default-timeout=1h", "--log-level=info"}, more...)...)
}

// send publishes a message until it is stored.
func (l *load) send(subject, body, id string) {
	l.Helper()
	eventually(l, "the message is stored", func() bool {
		ctx, cancel := context.WithTimeout(l.Context(), time.Second)
		defer cancel()
		_, err := l.js.Publish(ctx, subject, []byte(body), jetstream.WithMsgID(id))
		return err == nil
	})
}

// feed adds n logs of each kind, and all that is sent about them.
func (l *load) feed(n int) {
	l.Helper()
	webhook := func(i int, kind, status, id string) {
		post := fmt.Sprint(kind, "_", i)
		l.send("publish.webhook.instagram", fmt.Sprintf(`{"external_post_id":%q,"status":%q}`, post, status), id+post)
	}
	first := l.logs
	l.logs += n
	for i := first; i < l.logs; i++ {
		webhook(i, "early", "published", "")
	}
	ids := make(map[string]string)
	for _, kind := range kinds {
		age := time.Duration(0)
		if kind.name == "forgotten" {
			age = 2 * time.Hour
		}
		rows, err := l.db.Query(l.Context(), `
			INSERT INTO publish_logs (platform, status, external_post_id, updated_at)
			SELECT 'instagram', 'processing', $1 || '_' || n, now() - $4::interval FROM generate_series($2::int, $3 - 1) n
			RETURNING external_post_id, id::text`, kind.name, first, l.logs, age)
		if err != nil {
			l.Fatal(err)
		}
		var post, id string
		if _, err := pgx.ForEachRow(rows, []any{&post, &id}, func() error { ids[post] = id; return nil }); err != nil {
			l.Fatal(err)
		}
	}
	check := func(i int, kind, body string) {
		post := fmt.Sprint(kind, "_", i)
		l.send("publish.check."+ids[post], body, "check of "+post)
	}
	for i := first; i < l.logs; i++ {
		webhook(i, "confirmed", "published", "")
		webhook(i, "rejected", "rejected", "")
		webhook(i, "unclear", "in_review", "")
		webhook(i, "repeated", "published", "")
		check(i, "silent", `{"timeout_minutes":0}`)
		check(i, "early", "")
		webhook(i, "repeated", "published", "again: ")
		check(i, "repeated", "")
		webhook(i, "repeated", "published", "and again: ")
	}
}

// done counts the logs that are not open any more.
func (l *load) done() (n int) {
	l.Helper()
	if err := l.db.QueryRow(l.Context(), `SELECT count(*) FROM publish_logs WHERE status <> 'processing'`).Scan(&n); err != nil {
		l.Fatal(err)
	}
	return n
}

// endsWell wants that every log ends as it must, that it changed its state once, and that nothing is left.
func (l *load) endsWell() {
	l.Helper()
	l.send("publish.sweep", "", fmt.Sprint("sweep after ", l.logs))
	var want []string
	for _, kind := range kinds {
		want = append(want, fmt.Sprintf("%s %s %d", kind.name, kind.ends, l.logs))
	}
	slices.Sort(want)
	l.becomes("logs", strings.Join(want, "\n"), func() string {
		return l.text(`
			SELECT coalesce(string_agg(concat_ws(' ', kind, status, reason, n), E'\n' ORDER BY kind COLLATE "C", status), '')
			  FROM (SELECT split_part(external_post_id, '_', 1) AS kind, status,
			               extra_metadata->>'reconciliation_reason' AS reason, count(*) AS n
			          FROM publish_logs GROUP BY 1, 2, 3) k`)
	})
	for _, d := range streams.Consumers() {
		l.becomes("backlog and in hand of "+d.Config.Durable, "0 0", func() string {
			consumer, err := l.js.Consumer(l.Context(), d.Stream, d.Config.Durable)
			if err != nil {
				return err.Error()
			}
			info := consumer.CachedInfo()
			return fmt.Sprint(info.NumPending, " ", info.NumAckPending)
		})
	}
	const changes = `FROM ledger_events WHERE event_type = 'publish_reconciled'`
	moved := l.logs * (len(kinds) - 1)
	l.becomes("state changes, and logs that have one", fmt.Sprint(moved, " ", moved), func() string {
		return l.text(`SELECT concat_ws(' ', count(*), count(DISTINCT entity_id)) ` + changes)
	})
	l.becomes("outbox", "0", func() string { return l.text(`SELECT count(*)::text FROM publish_outbox`) })
	if parked := l.text(`SELECT count(*)::text FROM parked_webhooks`); parked != "0" {
		l.Errorf("%s webhooks are parked", parked)
	}
	var ledger []string
	if err := l.db.QueryRow(l.Context(), `SELECT array_agg(id::text ORDER BY id) `+changes).Scan(&ledger); err != nil {
		l.Fatal(err)
	}
	if events := l.events(); !slices.Equal(events, ledger) {
		l.Errorf("%d state changes, and the events in the stream are others: %d", len(ledger), len(events))
	}
	for stream, filter := range map[string]string{streams.StreamDead: ">", streams.StreamChecks: "publish.check.*"} {
		s, err := l.js.Stream(l.Context(), stream)
		if err != nil {
			l.Fatal(err)
		}
		info, err := s.Info(l.Context(), jetstream.WithSubjectFilter(filter))
		if err != nil {
			l.Fatal(err)
		}
		if len(info.State.Subjects) > 0 {
			l.Errorf("left in %s: %v", stream, info.State.Subjects)
		}
	}
}

// events are the message ids of all events in the stream, sorted.
func (l *load) events() []string {
	l.Helper()
	consumer, err := l.js.OrderedConsumer(l.Context(), streams.StreamEvents, jetstream.OrderedConsumerConfig{})
	if err != nil {
		l.Fatal(err)
	}
	info, err := consumer.Info(l.Context())
	if err != nil {
		l.Fatal(err)
	}
	ids := []string{}
	for len(ids) < int(info.NumPending) {
		batch, err := consumer.Fetch(500, jetstream.FetchMaxWait(time.Second))
		if err != nil {
			l.Fatal(err)
		}
		for msg := range batch.Messages() {
			var event struct {
				LogID string `json:"log_id"`
			}
			if err := json.Unmarshal(msg.Data(), &event); err != nil || event.LogID == "" {
				l.Errorf("event %q: %v", msg.Data(), err)
			}
			ids = append(ids, msg.Headers().Get(nats.MsgIdHdr))
		}
	}
	slices.Sort(ids)
	return ids
}

func (l *load) becomes(what, want string, got func() string) {
	l.Helper()
	for deadline := time.Now().Add(soon); ; time.Sleep(20 * time.Millisecond) {
		if l.hasty {
			l.hasten()
		}
		found := got()
		if found == want {
			return
		}
		if time.Now().After(deadline) {
			l.Fatalf("%s, not within %s:\n%s\nwant:\n%s", what, soon, found, want)
		}
	}
}

// hasten shortens the ack wait, again: a service that makes sure of its streams sets it back.
func (l *load) hasten() {
	l.Helper()
	for _, d := range streams.Consumers() {
		consumer, err := l.js.Consumer(l.Context(), d.Stream, d.Config.Durable)
		if err != nil {
			l.Fatal(err)
		}
		if d.Config.AckWait = time.Second; consumer.CachedInfo().Config.AckWait == d.Config.AckWait {
			continue
		}
		if _, err := l.js.UpdateConsumer(l.Context(), d.Stream, d.Config); err != nil {
			l.Fatal(err)
		}
	}
}
