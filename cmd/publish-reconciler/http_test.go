package main

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"publish-reconciler/repo/pgtest"
	"publish-reconciler/streams/streamstest"
)

const confirmed = `{"webhook_received": true, "webhook_status": "published"}`

func TestReconcile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve()
	none := func(t *testing.T) {
		t.Helper()
		want := map[string]any{
			"total_checked": 0.0, "marked_success": 0.0, "marked_failed": 0.0, "marked_retry": 0.0, "skipped": 0.0,
			"success_log_ids": []any{}, "failed_log_ids": []any{},
		}
		got := s.ask("POST", "/publishing/reconcile", "")
		if diff := cmp.Diff(want, got.body); diff != "" || got.status != http.StatusOK {
			t.Errorf("%d: %s", got.status, diff)
		}
	}
	none(t)

	// Each window takes what is older; the widest comes first.
	older, old, young := w.publish("older", "processing", confirmed, 25*time.Hour), w.publish("old", "retry", `{}`, 23*time.Hour), w.publish("young", "processing", confirmed, 5*time.Minute)
	unclear := w.publish("unclear", "processing", `{"webhook_received": true, "webhook_status": "in_review"}`, 11*time.Minute)
	final := []string{w.publish("won", "success", `{}`, 48*time.Hour), w.publish("lost", "failed", `{}`, 48*time.Hour), w.publish("new", "pending", `{}`, 48*time.Hour)}
	for _, tt := range []struct {
		query, body     string
		success, failed []any
		skipped         float64
	}{
		{"?since_minutes=1440", "", []any{older}, []any{}, 0},
		{"", "{}", []any{}, []any{old}, 1},
		{"", `{"since_minutes":1}`, []any{young}, []any{}, 1},
	} {
		got := s.ask("POST", "/publishing/reconcile"+tt.query, tt.body)
		want := map[string]any{
			"total_checked":  float64(len(tt.success)+len(tt.failed)) + tt.skipped,
			"marked_success": float64(len(tt.success)), "marked_failed": float64(len(tt.failed)), "marked_retry": 0.0,
			"skipped": tt.skipped, "success_log_ids": tt.success, "failed_log_ids": tt.failed,
		}
		if diff := cmp.Diff(want, got.body); diff != "" || got.status != http.StatusOK {
			t.Errorf("%q: status %d: %s", tt.query, got.status, diff)
		}
	}
	for id, want := range map[string]string{older: "success", old: "failed", young: "success", unclear: "processing", final[0]: "success", final[1]: "failed", final[2]: "pending"} {
		if got := w.status(id); got != want {
			t.Errorf("log %s is %s, want %s", id, got, want)
		}
	}
	const events = `SELECT coalesce(string_agg(metadata->>'trigger', ' '), '') FROM ledger_events WHERE entity_id = $1 AND event_type LIKE 'publish_reconcile%'`
	for _, id := range []string{older, old, young, unclear} {
		if got := w.text(events, id); got != "api" {
			t.Errorf("triggers of %s are %q", id, got)
		}
	}
	for _, id := range final {
		if got := w.text(events, id); got != "" {
			t.Errorf("final log %s has events of %q", id, got)
		}
	}
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	s := newWorld(t).serve("--console=off")
	const reconcile = "/publishing/reconcile"
	for name, tt := range map[string]struct {
		method, path, body string
		status             int
		want               string
	}{
		"zero":            {"POST", reconcile + "?since_minutes=0", "", 400, `since_minutes is "0": it must be a whole number from 1 to 1440`},
		"past a day":      {"POST", reconcile + "?since_minutes=1441", "", 400, `since_minutes is "1441": it must be a whole number from 1 to 1440`},
		"negative":        {"POST", reconcile + "?since_minutes=-1", "", 400, "1 to 1440"},
		"fraction":        {"POST", reconcile + "?since_minutes=1.5", "", 400, `since_minutes is "1.5": it must be a whole number from 1 to 1440`},
		"empty":           {"POST", reconcile + "?since_minutes=", "", 400, `since_minutes is "": it must be a whole number from 1 to 1440`},
		"letters":         {"POST", reconcile + "?since_minutes=abc", "", 400, `since_minutes is "abc": it must be a whole number from 1 to 1440`},
		"huge":            {"POST", reconcile + "?since_minutes=99999999999999999999", "", 400, "1 to 1440"},
		"twice":           {"POST", reconcile + "?since_minutes=1&since_minutes=2", "", 400, "since_minutes is given more than once"},
		"unknown":         {"POST", reconcile + "?minutes=1", "", 400, `parameter "minutes" is not known: only since_minutes is`},
		"broken query":    {"POST", reconcile + "?since_minutes=%zz", "", 400, "the query can't be read"},
		"no JSON":         {"POST", reconcile, "since_minutes=60", 415, "the body is not JSON"},
		"body, zero":      {"POST", reconcile, `{"since_minutes":0}`, 400, `since_minutes is "0": it must be a whole number from 1 to 1440`},
		"body, unknown":   {"POST", reconcile, `{"since":1}`, 400, "only since_minutes is"},
		"body and query":  {"POST", reconcile + "?since_minutes=1", `{"since_minutes":2}`, 400, "since_minutes is given more than once"},
		"too large":       {"POST", reconcile, strings.Repeat("x", maxBody+1), 413, "it must be at most 262144 bytes"},
		"nothing there":   {"GET", "/publishing", "", 404, "nothing is served at GET /publishing"},
		"root":            {"GET", "/", "", 404, "nothing is served at GET /"},
		"wrong method":    {"GET", reconcile, "", 405, "GET is not allowed at /publishing/reconcile"},
		"deleting health": {"DELETE", "/healthz", "", 405, "DELETE is not allowed at /healthz"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := s.ask(tt.method, tt.path, tt.body)
			if got.status != tt.status {
				t.Errorf("status is %d, want %d", got.status, tt.status)
			}
			contains(t, got.error(), tt.want)
			if allow := got.header.Get("Allow"); (allow != "") != (tt.status == http.StatusMethodNotAllowed) {
				t.Errorf("Allow is %q", allow)
			}
		})
	}
}

func TestToken(t *testing.T) {
	t.Parallel()
	s := newWorld(t).serve("--api-token=hush")
	for header, status := range map[string]int{
		"Bearer hush": 200, "bearer  hush ": 200,
		"": 401, "Bearer": 401, "Bearer ": 401, "Bearer hus": 401, "Bearer hushh": 401, "Basic hush": 401, "hush": 401,
	} {
		got := s.ask("POST", "/publishing/reconcile", "", "Authorization", header)
		if got.status != status || (got.header.Get("WWW-Authenticate") == "Bearer") != (status == 401) || (got.error() != "") != (status == 401) {
			t.Errorf("%q: %+v", header, got)
		}
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		if got := s.ask("GET", path, ""); got.status != http.StatusOK {
			t.Errorf("%s: %+v", path, got)
		}
	}
	if strings.Contains(s.stderr.String(), "hush") {
		t.Error("the token is in the log")
	}
}

func TestReady(t *testing.T) {
	t.Parallel()
	postgres, err := pgtest.Start(t.Context(), pgtest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = postgres.Stop() })
	if err := postgres.CreateDatabase(t.Context(), "publish"); err != nil {
		t.Fatal(err)
	}
	w := &world{TB: t, database: postgres.URL("publish"), nats: streamstest.New(t)}
	if err := migrate(t.Context(), w.database); err != nil {
		t.Fatal(err)
	}
	s := w.serve()
	healthy := func(what string) {
		t.Helper()
		if got := s.ask("GET", "/healthz", ""); got.status != 200 || got.body["status"] != "ok" {
			t.Errorf("health with %s: %+v", what, got)
		}
	}
	ready := map[string]any{"postgres": "ok", "nats": "ok", "consumers": "ok"}
	wait := func(what string, fits func(answer) bool) {
		t.Helper()
		eventually(t, what, func() bool { return fits(s.ask("GET", "/readyz", "")) })
		healthy(what)
	}
	isReady := func(a answer) bool { return a.status == 200 && cmp.Equal(ready, a.body) }
	wait("all there", isReady)

	w.nats.Halt()
	wait("NATS away", func(a answer) bool {
		return a.status == 503 && a.body["nats"] == "not connected to "+w.nats.URL() && a.body["postgres"] == "ok" &&
			a.body["consumers"] != "ok" && len(a.body) == 3
	})
	if err := w.nats.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait("NATS back", isReady)

	if err := postgres.Stop(); err != nil {
		t.Fatal(err)
	}
	wait("Postgres away", func(a answer) bool {
		return a.status == 503 && a.body["postgres"] != "ok" && a.body["nats"] == "ok" && len(a.body) == 3
	})
	if got := s.ask("POST", "/publishing/reconcile", ""); got.status != 503 || !strings.Contains(got.error(), "postgres: ") {
		t.Errorf("reconcile without Postgres: %+v", got)
	}
	// What is not known is no zero.
	overview := s.get("GET", "/", "")
	for _, want := range []string{"Postgres is not ready", "Which logs are open is not known.", "What happened is not known:", "How long confirmations took is not known:"} {
		if !strings.Contains(overview.text, want) {
			t.Errorf("the overview without Postgres lacks %q: %d %s", want, overview.status, overview.text)
		}
	}
	for _, wrong := range []string{"No platform has", "Within a day", "All is well"} {
		if strings.Contains(overview.text, wrong) {
			t.Errorf("the overview without Postgres says %q", wrong)
		}
	}
}

func TestHealthcheck(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve()
	addr := strings.TrimPrefix(s.url, "http://")
	_, port, _ := strings.Cut(addr, ":")
	for _, addr := range []string{addr, ":" + port, "0.0.0.0:" + port, "[::]:" + port, "localhost:" + port} {
		begin(t, "healthcheck", "--http-addr", addr).exits(exitOK, soon)
	}
	w.nats.Halt()
	eventually(t, "NATS away", func() bool { return s.ask("GET", "/readyz", "").status == 503 })
	p := begin(t, "healthcheck", "--http-addr", addr)
	p.exits(exitFailure, soon)
	p.says("publish-reconciler: not ready: 503 Service Unavailable")

	listener := listen(t)
	_ = listener.Close()
	p = begin(t, "healthcheck", "--http-addr", listener.Addr().String())
	p.exits(exitFailure, soon)
	p.says("connection refused")
	for _, addr := range []string{"8080", "127.0.0.1:http"} {
		p = begin(t, "healthcheck", "--http-addr", addr)
		p.exits(exitUsage, soon)
		p.says(`--http-addr (HTTP_ADDR) is "` + addr + `": it must be an address such as 127.0.0.1:8080`)
	}
	http.DefaultClient.CloseIdleConnections() // the program would end here
}
