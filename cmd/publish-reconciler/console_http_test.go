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

// get is an answer of the page.
func (s served) get(method, path, form string, headers ...string) (*http.Response, string) {
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
	return response, string(text)
}

func (s served) post(path string, form url.Values, headers ...string) (status int, text string) {
	s.Helper()
	response, text := s.get("POST", path, form.Encode(), headers...)
	return response.StatusCode, text
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
		response, text := s.get(method, path, "")
		if response.StatusCode != want.status || !strings.Contains(text, want.part) {
			t.Errorf("%s: %d without %q: %s", request, response.StatusCode, want.part, text)
		}
		if policy := response.Header.Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none'; script-src 'self'; style-src 'self';") || strings.Contains(policy, "unsafe") {
			t.Errorf("%s: the policy is %q", request, policy)
		}
		if response.Header.Get("X-Content-Type-Options") != "nosniff" || response.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: headers are %v", request, response.Header)
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
	login := func(token, next string, headers ...string) *http.Response {
		response, _ := s.get("POST", "/login", url.Values{"token": {token}, "next": {next}}.Encode(), headers...)
		return response
	}
	for next, want := range map[string]string{"/logs?status=failed": "/logs?status=failed", "": "/", "//evil.example": "/", `/\evil.example`: "/", "https://evil.example": "/", "logs": "/"} {
		if got := login(" hush\n", next); got.StatusCode != http.StatusSeeOther || got.Header.Get("Location") != want { //nolint:gocritic // white space is the case here
			t.Errorf("a login to %q leads to %q (%d)", next, got.Header.Get("Location"), got.StatusCode)
		}
	}
	if got := login("", "/"); got.StatusCode != http.StatusUnauthorized || len(got.Cookies()) != 0 {
		t.Errorf("an empty token is answered with %d and %v", got.StatusCode, got.Cookies())
	}
	for proto, secure := range map[string]bool{"https": true, "http": false, "": false} {
		if got := login("hush", "/", "X-Forwarded-Proto", proto).Cookies(); len(got) != 1 || got[0].Secure != secure || !got[0].HttpOnly || got[0].SameSite != http.SameSiteStrictMode {
			t.Errorf("behind %q: %v", proto, got)
		}
	}
	session := login("hush", "/").Cookies()[0].Value
	forged := strings.Map(func(r rune) rune {
		if r == 'A' {
			return 'B'
		}
		return r
	}, session)
	for value, status := range map[string]int{session: 200, "": 303, "hush": 303, session + "A": 303, session[1:]: 303, forged + "x": 303} {
		if got, _ := s.get("GET", "/", "", "Cookie", "publish_session="+value); got.StatusCode != status {
			t.Errorf("%q is answered with %d", value, got.StatusCode)
		}
	}
	// Another token's session is none.
	other := newWorld(t).serve("--api-token=hush hush")
	if got, _ := other.get("GET", "/", "", "Cookie", "publish_session="+session); got.StatusCode != http.StatusSeeOther {
		t.Errorf("another token's session is answered with %d", got.StatusCode)
	}
	for _, path := range []string{"/logs/" + unknownLog + "/check", "/reconcile", "/attention/letters/drop"} {
		if status, _ := s.post(path, url.Values{"actor": {"ana"}}); status != http.StatusUnauthorized {
			t.Errorf("POST %s without a session: %d", path, status)
		}
	}
	// A link from elsewhere comes without the cookie, and once more from here.
	if got, text := s.get("GET", "/logs?status=failed", "", "Sec-Fetch-Site", "cross-site"); got.StatusCode != 200 || !strings.Contains(text, `http-equiv="refresh"`) {
		t.Errorf("a link from elsewhere: %d %s", got.StatusCode, text)
	}
}

func TestConsoleOfAnotherOrigin(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve()
	id := w.publish("ig_1", "processing", `{}`, 0)
	form := url.Values{"status": {"failed"}, "actor": {"mallory"}}
	for _, headers := range [][]string{
		{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}, {"Origin", "null"},
		{"Host", "evil.example", "Sec-Fetch-Site", "same-origin"}, // a name that was made to lead here
	} {
		if status, text := s.post("/logs/"+id+"/override", form, headers...); status != http.StatusForbidden {
			t.Errorf("%q: %d %s", headers, status, text)
		}
	}
	if response, text := s.get("GET", "/logs/"+id, "", "Host", "evil.example:8080"); response.StatusCode != http.StatusForbidden || strings.Contains(text, "ig_1") {
		t.Errorf("by another name: %d %s", response.StatusCode, text)
	}
	if got := w.status(id); got != "processing" {
		t.Errorf("the log is %s", got)
	}
	for _, host := range []string{"localhost", "localhost:1", "127.0.0.1", "[::1]:80", "[::1]"} {
		if response, _ := s.get("GET", "/logs/"+id, "", "Host", host); response.StatusCode != http.StatusOK {
			t.Errorf("as %s: %d", host, response.StatusCode)
		}
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
