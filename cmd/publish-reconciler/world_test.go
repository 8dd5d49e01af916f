package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"publish-reconciler/repo"
	"publish-reconciler/repo/pgtest/pgtestdb"
	"publish-reconciler/streams/streamstest"
)

// world is a test's own database and NATS server.
type world struct {
	testing.TB
	database string
	db       *pgxpool.Pool
	nats     *streamstest.Server
}

func newWorld(tb testing.TB) *world {
	tb.Helper()
	w := &world{TB: tb, database: pgtestdb.New(tb, migrate), nats: streamstest.New(tb)}
	w.db = connect(tb, w.database)
	return w
}

func migrate(ctx context.Context, url string) error {
	_, err := repo.Migrate(ctx, url)
	return err
}

func connect(tb testing.TB, url string) *pgxpool.Pool {
	tb.Helper()
	pool, err := pgxpool.New(tb.Context(), url)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(pool.Close)
	return pool
}

// args are those of run in this world. The timeout keeps the service's own sweeps from the test's logs.
func (w *world) args(more ...string) []string {
	return append([]string{
		"run", "--database-url=" + w.database, "--nats-url=" + w.nats.URL(),
		"--http-addr=127.0.0.1:0", "--default-timeout=8760h", "--log-level=debug",
	}, more...)
}

// served is a program that serves HTTP.
type served struct {
	*program
	url string
}

// serve starts the service in this process and returns once it is ready.
func (w *world) serve(more ...string) served {
	w.Helper()
	p := begin(w.TB, w.args(more...)...)
	return served{p, "http://" + p.logged("ready")["http"].(string)}
}

// swept returns once the sweep is over that a service begins with: it would close a test's logs, or hold them.
func (s served) swept() {
	s.Helper()
	eventually(s, "the first sweep", func() bool {
		next, _ := s.ask("GET", "/publishing/status", "").body["next_sweep"].(map[string]any)
		reason, _ := next["reason"].(string)
		return strings.HasPrefix(reason, "found_")
	})
}

// answer is an HTTP answer whose body is a JSON object.
type answer struct {
	status int
	header http.Header
	body   map[string]any
}

func (a answer) error() string {
	text, _ := a.body["error"].(string)
	return text
}

func (s served) ask(method, path, body string, headers ...string) answer {
	s.Helper()
	request, err := http.NewRequestWithContext(s.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := client.Do(request)
	if err != nil {
		s.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		s.Fatal(err)
	}
	a := answer{status: response.StatusCode, header: response.Header}
	if err := json.Unmarshal(text, &a.body); err != nil || response.Header.Get("Content-Type") != "application/json" {
		s.Errorf("%s %s: %v in %s %q", method, path, err, response.Header.Get("Content-Type"), text)
	}
	return a
}

// publish inserts a log as a publisher does, last updated age ago.
func (w *world) publish(post, status, metadata string, age time.Duration) string {
	w.Helper()
	id := uuid.NewString()
	w.exec(`INSERT INTO publish_logs (id, platform, status, external_post_id, extra_metadata, updated_at)
	        VALUES ($1, 'instagram', $2, $3, $4::text::jsonb, now() - $5::interval)`, id, status, post, metadata, age)
	return id
}

func (w *world) exec(sql string, args ...any) {
	w.Helper()
	if _, err := w.db.Exec(w.Context(), sql, args...); err != nil {
		w.Fatalf("%v in %s", err, sql)
	}
}

// text is the one value that sql selects.
func (w *world) text(sql string, args ...any) (value string) {
	w.Helper()
	if err := w.db.QueryRow(w.Context(), sql, args...).Scan(&value); err != nil {
		w.Fatalf("%v in %s", err, sql)
	}
	return value
}

func (w *world) status(id string) string {
	w.Helper()
	return w.text(`SELECT status FROM publish_logs WHERE id = $1`, id)
}
