package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"publish-reconciler/repo/pgtest/pgtestdb"
	"publish-reconciler/streams"
	"publish-reconciler/streams/streamstest"
)

// soon is how long a test waits for what takes moments on an idle machine. It is shorter than the ack wait of
// tests: what was lost on its way and comes again by that is a failure.
const (
	soon    = 2 * time.Minute
	ackWait = 2 * soon
)

// world is one test's Postgres and NATS, seen past the consumers. Its replicas are started by start.
type world struct {
	*testing.T
	url  string
	db   *pgxpool.Pool
	nats *streamstest.Server
	js   jetstream.JetStream
}

// setup is a world with a tick pending in an hour: no sweep comes unasked.
func setup(t *testing.T) *world {
	t.Helper()
	return setupAt(t, pgtestdb.New(t, migrate))
}

func setupAt(t *testing.T, url string) *world {
	t.Helper()
	w := &world{T: t, url: url, nats: streamstest.New(t)}
	w.js = w.nats.JetStream(t)
	w.connectPostgres()
	if err := streams.Ensure(t.Context(), w.js, streams.Config{}); err != nil {
		t.Fatal(err)
	}
	for _, d := range streams.Consumers() {
		w.setAckWait(d.Config.Durable, ackWait)
	}
	w.tickAt(time.Now().Add(time.Hour))
	return w
}

func (w *world) setAckWait(name string, wait time.Duration) {
	w.Helper()
	d := definition(w.T, name)
	d.Config.AckWait = wait
	if _, err := w.js.UpdateConsumer(w.Context(), d.Stream, d.Config); err != nil {
		w.Fatal(err)
	}
}

func (w *world) connectPostgres() {
	w.Helper()
	var err error
	if w.db, err = pgxpool.New(w.Context(), w.url); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(w.db.Close)
}

func (w *world) tickAt(at time.Time) {
	w.Helper()
	w.sendMsg(streams.SweepSchedule(at, time.Hour, "restored"))
}

func (w *world) exec(sql string, args ...any) {
	w.Helper()
	if _, err := w.db.Exec(w.Context(), sql, args...); err != nil {
		w.Fatalf("%v in %s", err, sql)
	}
}

// one returns the only value that sql selects.
func one[T any](w *world, sql string, args ...any) T {
	w.Helper()
	rows, err := w.db.Query(w.Context(), sql, args...)
	if err != nil {
		w.Fatalf("%v in %s", err, sql)
	}
	value, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
	if err != nil {
		w.Fatalf("%v in %s", err, sql)
	}
	return value
}

// insertLog adds a log of an Instagram post as a publisher does, last updated age ago.
func (w *world) insertLog(post, status string, age time.Duration) uuid.UUID {
	w.Helper()
	id := uuid.Must(uuid.NewV7())
	w.exec(`INSERT INTO publish_logs (id, platform, status, external_post_id, updated_at)
	        VALUES ($1, 'instagram', $2, $3, now() - $4::interval)`, id, status, post, age)
	return id
}

// insertLogs adds n logs in processing, of posts named prefix1 to prefix<n>.
func (w *world) insertLogs(prefix string, n int, age time.Duration) []uuid.UUID {
	w.Helper()
	return column[uuid.UUID](w, `
		INSERT INTO publish_logs (platform, status, external_post_id, updated_at)
		SELECT 'instagram', 'processing', $1 || n, now() - $3::interval FROM generate_series(1, $2) n
		RETURNING id`, prefix, n, age)
}

// column returns the values that sql selects.
func column[T any](w *world, sql string, args ...any) []T {
	w.Helper()
	rows, err := w.db.Query(w.Context(), sql, args...)
	if err != nil {
		w.Fatalf("%v in %s", err, sql)
	}
	values, err := pgx.CollectRows(rows, pgx.RowTo[T])
	if err != nil {
		w.Fatalf("%v in %s", err, sql)
	}
	return values
}

// row is what a test wants to know of a publish_logs row; null is empty.
type row struct {
	Status, URL, Error, Reason, Trigger string
}

func (w *world) row(id uuid.UUID) row {
	w.Helper()
	rows, err := w.db.Query(w.Context(), `
		SELECT status, coalesce(external_url, ''), coalesce(error_message, ''),
		       coalesce(extra_metadata->>'reconciliation_reason', ''),
		       coalesce(extra_metadata->>'reconciliation_trigger', '')
		  FROM publish_logs WHERE id = $1`, id)
	if err != nil {
		w.Fatal(err)
	}
	r, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[row])
	if err != nil {
		w.Fatalf("log %s: %v", id, err)
	}
	return r
}

func (w *world) status(id uuid.UUID) string {
	w.Helper()
	return w.row(id).Status
}

// ledger is a log's history, oldest first: the type of each event and, where it has them, its action,
// reason and trigger.
func (w *world) ledger(id uuid.UUID) string {
	w.Helper()
	return one[string](w, `
		SELECT coalesce(string_agg(concat_ws(' ', event_type, metadata->>'action', metadata->>'reason', metadata->>'trigger'),
		                           ', ' ORDER BY timestamp, id), '')
		  FROM ledger_events WHERE entity_type = 'publish_log' AND entity_id = $1`, id.String())
}

// statuses counts the logs by status.
func (w *world) statuses() string {
	w.Helper()
	return one[string](w, `SELECT coalesce(string_agg(status || ' ' || n, ', ' ORDER BY status), '')
	                         FROM (SELECT status, count(*) AS n FROM publish_logs GROUP BY 1) s`)
}

// reconciled counts the logs by how often they were.
func (w *world) reconciled() string {
	w.Helper()
	return one[string](w, `
		SELECT coalesce(string_agg(logs || ' logs ' || times || ' times', ', ' ORDER BY times), '')
		  FROM (SELECT times, count(*) AS logs
		          FROM (SELECT count(*) AS times FROM ledger_events WHERE event_type = 'publish_reconciled' GROUP BY entity_id) e
		         GROUP BY 1) t`)
}

// dump is all that the service may write, to the last bit.
func (w *world) dump() string {
	w.Helper()
	var tables []string
	for _, table := range []string{"publish_logs", "ledger_events", "parked_webhooks"} {
		tables = append(tables, one[string](w, `SELECT coalesce(string_agg(t::text, E'\n' ORDER BY t.id), '') FROM `+table+` t`))
	}
	return strings.Join(tables, "\n\n")
}

// parked counts the parked webhooks.
func (w *world) parked() int {
	w.Helper()
	return one[int](w, `SELECT count(*) FROM parked_webhooks`)
}

// hold runs sql in a transaction of the test's own until the returned function ends it.
func (w *world) hold(sql string, args ...any) (release func()) {
	w.Helper()
	tx, err := w.db.Begin(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	if _, err := tx.Exec(w.Context(), sql, args...); err != nil {
		w.Fatal(err)
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), soon)
		defer cancel()
		if err := tx.Rollback(ctx); err != nil && !errors.Is(err, pgx.ErrTxClosed) {
			w.Error(err)
		}
	}
}

// send publishes a message and returns once it is stored. It has no message id.
func (w *world) send(subject, body string) {
	w.Helper()
	w.sendMsg(&nats.Msg{Subject: subject, Data: []byte(body)})
}

func (w *world) sendMsg(msg *nats.Msg) {
	w.Helper()
	if _, err := w.js.PublishMsg(w.Context(), msg); err != nil {
		w.Fatal(err)
	}
}

// sendMany publishes n messages without waiting for each.
func (w *world) sendMany(n int, message func(i int) (subject, body string)) {
	w.Helper()
	for i := range n {
		subject, body := message(i)
		if _, err := w.js.PublishAsync(subject, []byte(body), jetstream.WithStallWait(soon)); err != nil {
			w.Fatal(err)
		}
	}
	select {
	case <-w.js.PublishAsyncComplete():
	case <-time.After(soon):
		w.Fatal("messages not stored")
	}
}

const webhooks = "publish.webhook.instagram"

// published is a webhook's body that confirms the post.
func published(post string) string {
	return fmt.Sprintf(`{"external_post_id":%q,"status":"published"}`, post)
}

// publishedMany are the confirmations of n posts as insertLogs names them.
func publishedMany(prefix string) func(int) (subject, body string) {
	return func(i int) (subject, body string) { return webhooks, published(fmt.Sprint(prefix, i+1)) }
}

// until polls until ok, and fails the test when that is not soon.
func (w *world) until(what string, ok func() bool) {
	w.Helper()
	for deadline := time.Now().Add(soon); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.Fatalf("not within %s: %s", soon, what)
		}
	}
}

// during polls for a while whether something stays as it must.
func (w *world) during(d time.Duration, check func()) {
	w.Helper()
	for end := time.Now().Add(d); time.Now().Before(end) && !w.Failed(); time.Sleep(10 * time.Millisecond) {
		check()
	}
}

// becomes polls until a value is what it must be.
func becomes[T any](w *world, what string, want T, got func() T) {
	w.Helper()
	for deadline := time.Now().Add(soon); ; time.Sleep(5 * time.Millisecond) {
		diff := cmp.Diff(want, got())
		if diff == "" {
			return
		}
		if time.Now().After(deadline) {
			w.Fatalf("%s not within %s (-want +got):\n%s", what, soon, diff)
		}
	}
}

func equal(tb testing.TB, what string, got, want any) {
	tb.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		tb.Errorf("%s (-want +got):\n%s", what, diff)
	}
}
