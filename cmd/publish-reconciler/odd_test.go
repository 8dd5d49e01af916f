package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A page that a visitor of this machine has open may send requests to loopback, where there is no token.
func TestOtherPagesChangeNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve()
	id := w.publish("ig_1", "processing", `{}`, 0)
	path, body := "/publishing/logs/"+id+"/override", `{"status":"success","actor":"evil"}`
	for _, header := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://evil.example"}} {
		if got := s.ask("POST", path, body, header...); got.status != http.StatusForbidden || got.error() == "" {
			t.Errorf("%s: %+v", header, got)
		}
	}
	if w.status(id) != "processing" {
		t.Error("it is overridden")
	}
	if got := s.ask("POST", path, body, "Sec-Fetch-Site", "same-origin"); got.status != http.StatusOK {
		t.Errorf("from the same origin: %+v", got)
	}
}

// A name of another site that was made to lead here passes for this machine nowhere but at the probes.
func TestOtherNamesAreNotServed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve()
	id := w.publish("ig_1", "processing", `{}`, 0)
	override := "/publishing/logs/" + id + "/override"
	for _, host := range []string{"evil.example", "evil.example:8080", "127.0.0.1.evil.example", "10.0.0.1", "[::2]:80"} {
		for path, method := range map[string]string{
			"/publishing/logs": "GET", "/publishing/logs/" + id: "GET", "/publishing/status": "GET", "/publishing/reconcile": "POST",
			"/publishing/webhooks/instagram": "POST", override: "POST", "/nothing": "GET",
		} {
			got := s.get(method, path, `{"status":"failed","actor":"mallory"}`, "Host", host, "Sec-Fetch-Site", "same-origin")
			if got.status != http.StatusForbidden || strings.Contains(got.text, "ig_1") {
				t.Errorf("%s as %s: %d %s", path, host, got.status, got.text)
			}
		}
		for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
			if got := s.get("GET", path, "", "Host", host); got.status != http.StatusOK {
				t.Errorf("%s as %s: %d", path, host, got.status)
			}
		}
	}
	if got := w.status(id); got != "processing" {
		t.Errorf("the log is %s", got)
	}
	for _, host := range []string{"localhost", "LOCALHOST:1", "127.0.0.1:8080", "[::1]:80", "[::1]"} {
		if got := s.get("GET", "/publishing/logs", "", "Host", host); got.status != http.StatusOK {
			t.Errorf("as %s: %d %s", host, got.status, got.text)
		}
	}
	// Who has the token may come by any name.
	guarded := newWorld(t).serve("--api-token=hush")
	if got := guarded.get("GET", "/publishing/logs", "", "Host", "reconciler.example", "Authorization", "Bearer hush"); got.status != http.StatusOK {
		t.Errorf("with a token: %d %s", got.status, got.text)
	}
}

// One large row is no end of a list.
func TestAListWithALargeRow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve()
	for range 3 {
		w.publish("large", "processing", `{"caption":"`+strings.Repeat("x", 1_200_000)+`"}`, 0)
	}
	for door, got := range map[string]answer{"HTTP": s.ask("GET", "/publishing/logs", ""), "NATS": w.request("logs", "")} {
		logs, _ := got.body["logs"].([]any)
		if len(logs) != 3 || got.body["next"] != nil {
			t.Fatalf("%s: %d logs, %+v", door, len(logs), got.error())
		}
		if metadata := fmt.Sprint(logs[0].(map[string]any)["extra_metadata"]); !strings.Contains(metadata, "they stand in the log itself") {
			t.Errorf("%s: %s", door, metadata)
		}
	}
}

// A body that does not arrive is no bad webhook: its sender has to try again.
func TestABodyThatBreaksOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://")) //nolint:noctx // bounded by its deadline
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(soon)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(conn, "POST /publishing/webhooks/instagram HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n{")
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || !strings.Contains(line, "408") {
		t.Errorf("%q, %v", line, err)
	}
}

func TestStatusWithoutNATS(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve()
	w.publish("ig_1", "processing", `{}`, 0)
	w.nats.Halt()
	eventually(t, "it says so", func() bool {
		got := s.ask("GET", "/publishing/status", "")
		ready, _ := got.body["ready"].(map[string]any)
		platforms, _ := got.body["platforms"].([]any)
		return got.status == http.StatusOK && ready["nats"] != partOK && ready["postgres"] == partOK && len(platforms) == 1 && got.body["next_sweep"] == nil
	})
}
