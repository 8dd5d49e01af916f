package main

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"publish-reconciler/cmd/publish-reconciler/contract/contracttest"
)

// client connects to the world's NATS server as an operator does.
func (w *world) client() *nats.Conn {
	w.Helper()
	nc, err := w.nats.Connect()
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(nc.Close)
	return nc
}

// request asks an endpoint over NATS. A service's answer that is no error has the status 200.
func (w *world) request(endpoint, body string, headers ...string) answer {
	w.Helper()
	msg := nats.NewMsg("publish.api." + endpoint)
	msg.Data = []byte(body)
	for i := 0; i < len(headers); i += 2 {
		msg.Header.Set(headers[i], headers[i+1])
	}
	got, err := w.client().RequestMsg(msg, soon)
	if err != nil {
		w.Fatalf("%s %s: %v", endpoint, body, err)
	}
	if err := contracttest.Load(w).ValidateChannel(endpoint+"Answer", got.Header, got.Data); err != nil {
		w.Errorf("%s %s is answered against the contract: %v\n%s", endpoint, body, err, got.Data)
	}
	a := answer{status: http.StatusOK}
	if err := json.Unmarshal(got.Data, &a.body); err != nil {
		w.Errorf("%s %s: %v in %q", endpoint, body, err, got.Data)
	}
	if code := got.Header.Get(micro.ErrorCodeHeader); code != "" {
		a.status, _ = strconv.Atoi(code)
		if told := got.Header.Get(micro.ErrorHeader); told != a.error() {
			w.Errorf("%s: the header says %q, the body %q", endpoint, told, a.error())
		}
	}
	return a
}

const unknownLog = "6f1c2d3e-4b5a-4978-8f6e-5d4c3b2a1908"

// The same mistake has the same answer at both doors.
func TestMistakes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve()
	failed := w.publish("post", "failed", `{}`, 0)
	const (
		override = "/publishing/logs/" + unknownLog + "/override"
		list     = "/publishing/logs?"
		statuses = "one of pending, processing, retry, success, failed"
		badActor = "actor is 0 bytes long: it must name who overrides, in 1 to 128 bytes of UTF-8"
	)
	for name, tt := range map[string]struct {
		http, httpBody string
		nats, natsBody string
		status         int
		want           string
	}{
		"reconcile, zero":      {"POST /publishing/reconcile?since_minutes=0", "", "reconcile", `{"since_minutes":0}`, 400, `since_minutes is "0": it must be a whole number from 1 to 1440`},
		"reconcile, fraction":  {"POST /publishing/reconcile", `{"since_minutes":1.5}`, "reconcile", `{"since_minutes":1.5}`, 400, `since_minutes is "1.5": it must be a whole number from 1 to 1440`},
		"reconcile, text":      {"POST /publishing/reconcile", `{"since_minutes":"1"}`, "reconcile", `{"since_minutes":"1"}`, 400, `since_minutes is a string: it must be a number`},
		"reconcile, twice":     {"POST /publishing/reconcile", `{"since_minutes":1,"since_minutes":1}`, "reconcile", `{"since_minutes":1,"since_minutes":1}`, 400, `since_minutes is given more than once`},
		"reconcile, unknown":   {"POST /publishing/reconcile", `{"since":1}`, "reconcile", `{"since":1}`, 400, `field "since" is not known: only since_minutes is`},
		"reconcile, array":     {"POST /publishing/reconcile", `[1]`, "reconcile", `[1]`, 400, `the body is an array: it must be a JSON object`},
		"reconcile, no JSON":   {"POST /publishing/reconcile", `since=1`, "reconcile", `since=1`, 415, `the body is not JSON`},
		"reconcile, two":       {"POST /publishing/reconcile", `{}{}`, "reconcile", `{}{}`, 415, `the body is not JSON`},
		"reconcile, too large": {"POST /publishing/reconcile", strings.Repeat(" ", maxBody+1), "reconcile", strings.Repeat(" ", maxBody+1), 413, `the body is too large: it must be at most 262144 bytes`},

		"override, empty":         {"POST " + override, "", "override", `{"log_id":"` + unknownLog + `"}`, 400, `status is "": it must be success or failed; ` + badActor},
		"override, status":        {"POST " + override, `{"status":"pending","actor":"ana"}`, "override", `{"log_id":"` + unknownLog + `","status":"pending","actor":"ana"}`, 400, `status is "pending": it must be success or failed`},
		"override, actor":         {"POST " + override, `{"status":"failed","actor":" "}`, "override", `{"log_id":"` + unknownLog + `","status":"failed","actor":" "}`, 400, badActor},
		"override, long actor":    {"POST " + override, `{"status":"failed","actor":"` + strings.Repeat("a", 129) + `"}`, "override", `{"log_id":"` + unknownLog + `","status":"failed","actor":"` + strings.Repeat("a", 129) + `"}`, 400, "actor is 129 bytes long: it must name who overrides, in 1 to 128 bytes of UTF-8"},
		"override, long note":     {"POST " + override, `{"status":"failed","actor":"a","note":"` + strings.Repeat("a", 2049) + `"}`, "override", `{"log_id":"` + unknownLog + `","status":"failed","actor":"a","note":"` + strings.Repeat("a", 2049) + `"}`, 400, "note is 2049 bytes long: it must have at most 2048 bytes of UTF-8"},
		"override, number":        {"POST " + override, `{"actor":1}`, "override", `{"actor":1}`, 400, `actor is a number: it must be a string`},
		"override, null":          {"POST " + override, `{"note":null}`, "override", `{"note":null}`, 400, `note is null: it must be a string`},
		"override, bool":          {"POST " + override, `{"note":true}`, "override", `{"note":true}`, 400, `note is true: it must be a string`},
		"override, object":        {"POST " + override, `{"note":{}}`, "override", `{"note":{}}`, 400, `note is an object: it must be a string`},
		"override, twice":         {"POST " + override, `{"actor":"a","actor":"b"}`, "override", `{"actor":"a","actor":"b"}`, 400, `actor is given more than once`},
		"override, no JSON":       {"POST " + override, `status=failed`, "override", `status=failed`, 415, `the body is not JSON`},
		"override, too large":     {"POST " + override, strings.Repeat(" ", maxBody+1), "override", strings.Repeat(" ", maxBody+1), 413, `the body is too large: it must be at most 262144 bytes`},
		"override, no id":         {"POST /publishing/logs/ig_1/override", `{"status":"failed","actor":"ana"}`, "override", `{"log_id":"ig_1","status":"failed","actor":"ana"}`, 400, `log_id is "ig_1": it must be a UUID such as ` + unknownLog},
		"override, unknown log":   {"POST " + override, `{"status":"failed","actor":"ana"}`, "override", `{"log_id":"` + unknownLog + `","status":"failed","actor":"ana"}`, 404, `no such log`},
		"override, changes none":  {"POST /publishing/logs/" + failed + "/override", `{"status":"failed","actor":"ana"}`, "override", `{"log_id":"` + failed + `","status":"failed","actor":"ana"}`, 409, `the override changes nothing`},
		"override, NUL":           {"POST /publishing/logs/" + failed + "/override", `{"status":"success","actor":"a\u0000"}`, "override", `{"log_id":"` + failed + `","status":"success","actor":"a\u0000"}`, 400, `actor holds U+0000: it must be text that Postgres can keep`},
		"log, no id":              {"GET /publishing/logs/ig_1", "", "log", `{"log_id":"ig_1"}`, 400, `log_id is "ig_1": it must be a UUID such as ` + unknownLog},
		"log, id without hyphens": {"GET /publishing/logs/" + strings.ReplaceAll(unknownLog, "-", ""), "", "log", `{"log_id":"` + strings.ReplaceAll(unknownLog, "-", "") + `"}`, 400, `log_id is "6f1c2d3e4b5a49788f6e5d4c3b2a1908": it must be a UUID such as ` + unknownLog},
		"log, unknown":            {"GET /publishing/logs/" + unknownLog, "", "log", `{"log_id":"` + unknownLog + `"}`, 404, `no such log`},

		"logs, status":         {"GET " + list + "status=skipped", "", "logs", `{"status":"skipped"}`, 400, `status is "skipped": it must be ` + statuses},
		"logs, platform":       {"GET " + list + "platform=" + strings.Repeat("p", 129), "", "logs", `{"platform":"` + strings.Repeat("p", 129) + `"}`, 400, `it must be 1 to 128 bytes of UTF-8`},
		"logs, reason":         {"GET " + list + "reason=not+due", "", "logs", `{"reason":"not due"}`, 400, `reason is "not due": it must be one word of 1 to 64 bytes, such as webhook_timeout`},
		"logs, long reason":    {"GET " + list + "reason=" + strings.Repeat("r", 65), "", "logs", `{"reason":"` + strings.Repeat("r", 65) + `"}`, 400, `it must be one word of 1 to 64 bytes, such as webhook_timeout`},
		"logs, before":         {"GET " + list + "before=yesterday", "", "logs", `{"before":"yesterday"}`, 400, `before is "yesterday": it must be a log's id, such as the answer before had as next, or a time such as 2024-01-15T10:30:00Z`},
		"logs, unknown before": {"GET " + list + "before=" + unknownLog, "", "logs", `{"before":"` + unknownLog + `"}`, 404, `before is ` + unknownLog},
		"logs, limit zero":     {"GET " + list + "limit=0", "", "logs", `{"limit":0}`, 400, `limit is "0": it must be a whole number from 1 to 500`},
		"logs, limit":          {"GET " + list + "limit=501", "", "logs", `{"limit":501}`, 400, `limit is "501": it must be a whole number from 1 to 500`},
		"logs, all faults":     {"GET " + list + "limit=no&status=no", "", "logs", `{"limit":1e3,"status":"no"}`, 400, `status is "no": it must be ` + statuses + `; limit is "`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, s := *w, s
			w.TB, s.program = t, &program{TB: t}
			method, path, _ := strings.Cut(tt.http, " ")
			overHTTP, overNATS := s.ask(method, path, tt.httpBody), w.request(tt.nats, tt.natsBody)
			if overHTTP.status != tt.status || overNATS.status != tt.status {
				t.Errorf("status is %d over HTTP and %d over NATS, want %d", overHTTP.status, overNATS.status, tt.status)
			}
			contains(t, overHTTP.error(), tt.want)
			contains(t, overNATS.error(), tt.want)
			if overHTTP.error() != overNATS.error() && !strings.Contains(name, "all faults") {
				t.Errorf("HTTP says %q, NATS %q", overHTTP.error(), overNATS.error())
			}
			if strings.Contains(overHTTP.error(), "\n") || len(overHTTP.body) != 1 || len(overNATS.body) != 1 {
				t.Errorf("answers are %v and %v", overHTTP.body, overNATS.body)
			}
		})
	}
}

// What only one of the doors can get wrong.
func TestMistakesOfOneDoor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve()
	for request, want := range map[string]string{
		"GET /publishing/logs?state=failed":                           `parameter "state" is not known: only status, platform, reason, before and limit are`,
		"GET /publishing/logs?limit=1&limit=1":                        `limit is given more than once`,
		"GET /publishing/logs?limit=%zz":                              `the query can't be read`,
		"GET /publishing/logs/" + unknownLog + "?a=b":                 `parameter "a" is not known: none is`,
		"GET /publishing/status?a=b":                                  `parameter "a" is not known: none is`,
		"POST /publishing/logs/" + unknownLog + "/override?actor=ana": `parameter "actor" is not known: none is`,
	} {
		method, path, _ := strings.Cut(request, " ")
		got := s.ask(method, path, "")
		if got.status != http.StatusBadRequest {
			t.Errorf("%s: %+v", request, got)
		}
		contains(t, got.error(), want)
	}
	got := s.ask("POST", "/publishing/logs/"+unknownLog+"/override", `{"log_id":"`+unknownLog+`"}`)
	contains(t, got.error(), `field "log_id" is not known: only status, actor and note are`)
	contains(t, w.request("override", `{"id":"x"}`).error(), `field "id" is not known: only log_id, status, actor and note are`)
	contains(t, w.request("log", ``).error(), `log_id is "": it must be a UUID`)
	contains(t, w.request("status", `{"a":1}`).error(), `field "a" is not known: none is`)
}

func TestOverride(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve()
	doors := map[string]func(id, status string) answer{
		"HTTP": func(id, status string) answer {
			return s.ask("POST", "/publishing/logs/"+id+"/override", `{"status":"`+status+`","actor":" ana ","note":"seen live"}`)
		},
		"NATS": func(id, status string) answer {
			return w.request("override", `{"log_id":"`+id+`","status":"`+status+`","actor":" ana ","note":"seen live"}`)
		},
	}
	for door, override := range doors {
		for from, to := range map[string]string{"pending": "success", "processing": "failed", "retry": "success", "success": "failed", "failed": "success"} {
			id := w.publish(door+from, from, `{}`, 0)
			got := override(id, to)
			at, err := time.Parse(time.RFC3339, got.body["time"].(string))
			if got.status != 200 || err != nil || time.Since(at).Abs() > time.Minute || got.body["log_id"] != id || got.body["from"] != from ||
				got.body["to"] != to || got.body["actor"] != "ana" || got.body["note"] != "seen live" || len(got.body) != 6 {
				t.Errorf("%s: %s to %s: %+v", door, from, to, got)
			}
			if status := w.status(id); status != to {
				t.Errorf("%s: %s is %s", door, from, status)
			}
			const ledger = `SELECT metadata->>'actor' || ' ' || (metadata->>'note') || ' ' || (metadata->>'from') || ' ' || (metadata->>'to') FROM ledger_events WHERE entity_id = $1 AND event_type = 'publish_overridden'`
			if told := w.text(ledger, id); told != "ana seen live "+from+" "+to {
				t.Errorf("%s: the ledger tells %q", door, told)
			}
			if got := override(id, to); got.status != http.StatusConflict {
				t.Errorf("%s: again: %+v", door, got)
			}
		}
		// Another transaction holds the row: worth another try.
		id := w.publish(door, "processing", `{}`, 0)
		tx, err := w.db.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), `SELECT FROM publish_logs WHERE id = $1 FOR UPDATE`, id); err != nil {
			t.Fatal(err)
		}
		got := override(id, "failed")
		if got.status != http.StatusServiceUnavailable || (door == "HTTP" && got.header.Get("Retry-After") != "5") {
			t.Errorf("%s: locked: %+v", door, got)
		}
		contains(t, got.error(), "locked by another transaction")
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTokenOverNATS(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve("--api-token=hush")
	for _, endpoint := range []string{"reconcile", "override", "log", "logs", "status"} {
		for header, want := range map[string]bool{"Bearer hush": true, "bearer  hush ": true, "": false, "Bearer": false, "Bearer hus": false, "Basic hush": false} {
			got := w.request(endpoint, `{"x":`, "Authorization", header)
			if (got.status == http.StatusUnauthorized) == want || got.error() == "" {
				t.Errorf("%s %q: %+v", endpoint, header, got)
			}
		}
	}
	for _, request := range []string{"POST /publishing/logs/x/override", "GET /publishing/logs/x", "GET /publishing/logs", "GET /publishing/status", "POST /publishing/webhooks/instagram"} {
		method, path, _ := strings.Cut(request, " ")
		if got := s.ask(method, path, "{"); got.status != http.StatusUnauthorized || got.header.Get("WWW-Authenticate") != "Bearer" {
			t.Errorf("%s: %+v", request, got)
		}
		if got := s.ask(method, path, "{", "Authorization", "Bearer hush"); got.status == http.StatusUnauthorized {
			t.Errorf("%s: %+v", request, got)
		}
	}
}

// NATS tells who answers, and where: nats micro ls, info, stats.
func TestDiscovery(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve()
	w.serve() // one of two replicas answers
	nc := w.client()
	replies := nats.NewInbox()
	answers, err := nc.SubscribeSync(replies)
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.PublishRequest("publish.api.logs", replies, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := answers.NextMsg(soon); err != nil {
		t.Fatal(err)
	}
	if msg, err := answers.NextMsg(200 * time.Millisecond); err == nil {
		t.Errorf("it is answered twice: %s", msg.Data)
	}
	w.request("log", `{}`)

	for _, subject := range []string{"$SRV.PING", "$SRV.PING.publish-reconciler"} {
		var ping micro.Ping
		discover(t, nc, subject, &ping)
		if ping.Name != "publish-reconciler" || ping.Version == "" || ping.Type != micro.PingResponseType {
			t.Errorf("%s: %+v", subject, ping)
		}
	}
	var info micro.Info
	discover(t, nc, "$SRV.INFO.publish-reconciler", &info)
	subjects := map[string]string{}
	for _, e := range info.Endpoints {
		subjects[e.Name] = e.Subject
		if e.QueueGroup != "publish-reconciler" || e.Metadata["description"] == "" {
			t.Errorf("endpoint %+v", e)
		}
	}
	for _, name := range []string{"reconcile", "override", "log", "logs", "status"} {
		if subjects[name] != "publish.api."+name {
			t.Errorf("endpoints are %v", subjects)
		}
	}
	if len(subjects) != 5 || info.Description == "" {
		t.Errorf("info is %+v", info)
	}
	// The one that answered counts it.
	requests, errors := map[string]int{}, map[string]int{}
	stats, err := nc.SubscribeSync(nats.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.PublishRequest("$SRV.STATS.publish-reconciler", stats.Subject, nil); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		msg, err := stats.NextMsg(soon)
		if err != nil {
			t.Fatal(err)
		}
		var seen micro.Stats
		if err := json.Unmarshal(msg.Data, &seen); err != nil {
			t.Fatal(err)
		}
		for _, e := range seen.Endpoints {
			requests[e.Name] += e.NumRequests
			errors[e.Name] += e.NumErrors
		}
	}
	if requests["logs"] != 1 || errors["logs"] != 0 || requests["log"] != 1 || errors["log"] != 1 {
		t.Errorf("requests are %v, errors %v", requests, errors)
	}
}

func discover(t *testing.T, nc *nats.Conn, subject string, into any) {
	t.Helper()
	msg, err := nc.Request(subject, nil, soon)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(msg.Data, into); err != nil {
		t.Fatal(err)
	}
}

func TestSemanticVersion(t *testing.T) {
	t.Parallel()
	for v, want := range map[string]string{
		"(devel)": "0.0.0-dev-devel", "unknown": "0.0.0-dev-unknown", "": "0.0.0-dev", "v1.2.3": "1.2.3", "v1.2.3-rc.1": "1.2.3-rc.1",
		"v0.0.0-20261124151431-28ba20a00000+dirty": "0.0.0-20261124151431-28ba20a00000+dirty", "v1.2": "0.0.0-dev-1-2",
	} {
		if got := semanticVersion(v); got != want {
			t.Errorf("%q is %q, want %q", v, got, want)
		}
	}
}
