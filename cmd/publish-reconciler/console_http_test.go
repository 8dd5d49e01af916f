package main

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// shownPage is an answer of the page.
type shownPage struct {
	status  int
	header  http.Header
	cookies []*http.Cookie
	text    string
}

func (s served) get(method, path, form string, headers ...string) shownPage {
	s.Helper()
	request, err := http.NewRequestWithContext(s.Context(), method, s.url+path, strings.NewReader(form))
	if err != nil {
		s.Fatal(err)
	}
	if form != "" {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(headers); i += 2 {
		if request.Header.Set(headers[i], headers[i+1]); headers[i] == "Host" {
			request.Host = headers[i+1]
		}
	}
	stays := *client
	stays.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	response, err := stays.Do(request)
	if err != nil {
		s.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		s.Fatal(err)
	}
	return shownPage{response.StatusCode, response.Header, response.Cookies(), string(text)}
}

func (s served) post(path string, form url.Values, headers ...string) (status int, text string) {
	s.Helper()
	shown := s.get("POST", path, form.Encode(), headers...)
	return shown.status, shown.text
}

func TestConsoleAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve()
	id := w.publish("ig_1", "processing", `{}`, 0)
	for request, want := range map[string]struct {
		status int
		part   string
	}{
		"GET /":                             {200, "Overview"},
		"GET /logs/" + id:                   {200, "ig_1"},
		"GET /logs/" + unknownLog:           {404, "no such log"},
		"GET /logs/ig_1":                    {400, "is no log’s id"},
		"GET /logs?status=open":             {400, "it must be one of pending"},
		"GET /logs?before=" + unknownLog:    {404, "no such log"},
		"GET /logs?q=%00":                   {400, "at most 1024 bytes"},
		"GET /logs?q=%ff":                   {200, "No log matches"},
		"GET /attention/letters?kind=x":     {400, "it must be webhook, check or sweep"},
		"GET /attention/letters?since=x":    {400, "since is"},
		"GET /attention/letters?before=x":   {400, "before is"},
		"GET /attention/letters/9":          {404, "no such dead letter"},
		"GET /attention/letters/x":          {400, "is no letter’s number"},
		"GET /attention/parked?after=x":     {400, "where a page before it ended"},
		"GET /attention/letters/drop?seq=9": {404, "no such dead letter"},
		"POST /attention/letters/drop":      {400, "They have to be counted first"},
		"POST /reconcile":                   {400, "it must be a whole number from 1 to 1440"},
		"GET /assets/nothing.js":            {404, "There is no such file"},
	} {
		method, path, _ := strings.Cut(request, " ")
		got := s.get(method, path, "")
		if got.status != want.status || !strings.Contains(got.text, want.part) {
			t.Errorf("%s: %d without %q: %s", request, got.status, want.part, got.text)
		}
		if policy := got.header.Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none'; script-src 'self'; style-src 'self';") || strings.Contains(policy, "unsafe") {
			t.Errorf("%s: the policy is %q", request, policy)
		}
		if got.header.Get("X-Content-Type-Options") != "nosniff" || got.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: headers are %v", request, got.header)
		}
	}
	// What is no page is answered as before.
	for path, status := range map[string]int{"/nothing": 404, "/logs/" + id + "/nothing": 404, "/publishing": 404} {
		if got := s.ask("GET", path, ""); got.status != status {
			t.Errorf("%s: %+v", path, got)
		}
	}
	if got := s.ask("DELETE", "/logs", ""); got.status != http.StatusMethodNotAllowed {
		t.Errorf("DELETE /logs: %+v", got)
	}
}

func TestConsoleOff(t *testing.T) {
	t.Parallel()
	s := newWorld(t).serve("--console=off")
	for _, path := range []string{"/", "/logs", "/live", "/login", "/assets/page.js"} {
		if got := s.ask("GET", path, ""); got.status != http.StatusNotFound {
			t.Errorf("%s: %+v", path, got)
		}
	}
}

func TestConsoleReconciles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve()
	s.swept()
	id := w.publish("ig_1", "processing", `{}`, time.Hour)
	status, text := s.post("/reconcile", url.Values{"since_minutes": {"10"}})
	if status != http.StatusOK || !strings.Contains(text, "1 log was looked at") || w.status(id) != "failed" {
		t.Errorf("%d, the log is %s: %s", status, w.status(id), text)
	}
}

func TestConsoleSessions(t *testing.T) {
	t.Parallel()
	s := newWorld(t).serve("--api-token=hush")
	login := func(token, next string, headers ...string) shownPage {
		return s.get("POST", "/login", url.Values{"token": {token}, "next": {next}}.Encode(), headers...)
	}
	for next, want := range map[string]string{"/logs?status=failed": "/logs?status=failed", "": "/", "//evil.example": "/", `/\evil.example`: "/", "https://evil.example": "/", "logs": "/"} {
		if got := login(" hush\n", next); got.status != http.StatusSeeOther || got.header.Get("Location") != want {
			t.Errorf("a login to %q leads to %q (%d)", next, got.header.Get("Location"), got.status)
		}
	}
	if got := login("", "/"); got.status != http.StatusUnauthorized || len(got.cookies) != 0 {
		t.Errorf("an empty token is answered with %d and %v", got.status, got.cookies)
	}
	for proto, secure := range map[string]bool{"https": true, "http": false, "": false} {
		if got := login("hush", "/", "X-Forwarded-Proto", proto).cookies; len(got) != 1 || got[0].Secure != secure || !got[0].HttpOnly || got[0].SameSite != http.SameSiteStrictMode {
			t.Errorf("behind %q: %v", proto, got)
		}
	}
	session := login("hush", "/").cookies[0].Value
	forged := strings.Map(func(r rune) rune {
		if r == 'A' {
			return 'B'
		}
		return r
	}, session)
	for value, status := range map[string]int{session: 200, "": 303, "hush": 303, session + "A": 303, session[1:]: 303, forged + "x": 303} {
		if got := s.get("GET", "/", "", "Cookie", "publish_session="+value); got.status != status {
			t.Errorf("%q is answered with %d", value, got.status)
		}
	}
	// Another token's session is none.
	other := newWorld(t).serve("--api-token=hush hush")
	if got := other.get("GET", "/", "", "Cookie", "publish_session="+session); got.status != http.StatusSeeOther {
		t.Errorf("another token's session is answered with %d", got.status)
	}
	for _, path := range []string{"/logs/" + unknownLog + "/check", "/reconcile", "/attention/letters/drop"} {
		if status, _ := s.post(path, url.Values{"actor": {"ana"}}); status != http.StatusUnauthorized {
			t.Errorf("POST %s without a session: %d", path, status)
		}
	}
	// A link from elsewhere comes without the cookie, and once more from here.
	if got := s.get("GET", "/logs?status=failed", "", "Sec-Fetch-Site", "cross-site"); got.status != http.StatusOK || !strings.Contains(got.text, `http-equiv="refresh"`) {
		t.Errorf("a link from elsewhere: %d %s", got.status, got.text)
	}
}

func TestConsoleOfAnotherOrigin(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve()
	id := w.publish("ig_1", "processing", `{}`, 0)
	form := url.Values{"status": {"failed"}, "actor": {"mallory"}}
	for _, headers := range [][]string{
		{"Sec-Fetch-Site", "cross-site"},
		{"Sec-Fetch-Site", "same-site"},
		{"Origin", "https://evil.example"},
		{"Origin", "null"},
		{"Host", "evil.example", "Sec-Fetch-Site", "same-origin"}, // a name that was made to lead here
	} {
		if status, text := s.post("/logs/"+id+"/override", form, headers...); status != http.StatusForbidden {
			t.Errorf("%q: %d %s", headers, status, text)
		}
	}
	if got := s.get("GET", "/logs/"+id, "", "Host", "evil.example:8080"); got.status != http.StatusForbidden || strings.Contains(got.text, "ig_1") {
		t.Errorf("by another name: %d %s", got.status, got.text)
	}
	if got := w.status(id); got != "processing" {
		t.Errorf("the log is %s", got)
	}
	for _, host := range []string{"localhost", "localhost:1", "127.0.0.1", "[::1]:80", "[::1]"} {
		if got := s.get("GET", "/logs/"+id, "", "Host", host); got.status != http.StatusOK {
			t.Errorf("as %s: %d", host, got.status)
		}
	}
}

// What was typed is there again when it could not be done.
func TestConsoleKeepsWhatWasTyped(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve()
	id := w.publish("ig_1", "processing", `{}`, 0)
	form := url.Values{"status": {"failed"}, "actor": {"ana"}, "note": {"seen nowhere"}}
	kept := func(name string, status int, parts ...string) {
		t.Helper()
		for path, typed := range map[string][]string{"/override": {`value="ana"`, "seen nowhere"}, "/check": {`value="ana"`}} {
			got, text := s.post("/logs/"+id+path, form)
			if got != status {
				t.Errorf("%s, %s: %d", name, path, got)
			}
			for _, part := range append(typed, parts...) {
				contains(t, text, part)
			}
			if strings.Contains(text, "aria-invalid") {
				t.Errorf("%s, %s: it says that a field is wrong", name, path)
			}
		}
	}
	tx, err := w.db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `SELECT FROM publish_logs WHERE id = $1 FOR UPDATE`, id); err != nil {
		t.Fatal(err)
	}
	kept("locked", http.StatusServiceUnavailable, `role="alert"`, "External post id")
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.exec(`ALTER TABLE publish_logs RENAME TO away`)
	kept("not to be read", http.StatusServiceUnavailable, `role="alert"`)
	w.exec(`ALTER TABLE away RENAME TO publish_logs`)
	if status, _ := s.post("/logs/"+unknownLog+"/override", form); status != http.StatusNotFound {
		t.Errorf("an unknown log: %d", status)
	}

	// The field that is wrong is marked, and no other.
	for note, fields := range map[string][2]bool{"": {true, false}, strings.Repeat("x", 5000): {false, true}} {
		wrong := url.Values{"status": {"failed"}, "actor": {"ana"}, "note": {note}}
		if note == "" {
			wrong.Set("actor", "")
		}
		_, text := s.post("/logs/"+id+"/override", wrong)
		for i, field := range []string{"actor", "note"} {
			_, element, _ := strings.Cut(text, `id="`+field+`"`)
			element, _, _ = strings.Cut(element, ">")
			if strings.Contains(element, "aria-invalid") != fields[i] {
				t.Errorf("with a note of %d bytes: %s %s", len(note), field, element)
			}
		}
	}
	if got := w.status(id); got != "processing" {
		t.Errorf("the log is %s", got)
	}
}

// Those who watch don't hold up a stop.
func TestConsoleStops(t *testing.T) {
	t.Parallel()
	s := newWorld(t).serve()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/live", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.Header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("the stream is %v", response.Header)
	}
	if _, err := response.Body.Read(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	s.stop()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		t.Errorf("the stream broke off: %v", err)
	}
	s.exits(exitOK, soon)
}
