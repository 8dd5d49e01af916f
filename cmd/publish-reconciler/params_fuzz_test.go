package main

import (
	"encoding/json"
	"net/url"
	"slices"
	"testing"
)

var fuzzed = []string{paramSince, paramStatus, paramActor, paramLimit, paramBefore, paramPlatform, paramReason, paramLogID, paramNote}

// A body that is taken is an object of known names, none twice, and means the same when it is written anew.
func FuzzBody(f *testing.F) {
	for _, body := range []string{
		"", " ", "{}", "null", "[]", `{"since_minutes":10}`, `{"since_minutes":1e400000}`, `{"since_minutes":"10"}`, `{"status":"success","actor":"ana","note":"\u0000"}`,
		`{"status":"a","status":"b"}`, `{"\u0073tatus":"a"}`, `{"actor":"\ud800"}`, "{\"actor\":\"\xff\"}", `{"limit":5} {}`, `{"before":{}}`, `{"unknown":1}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		p := params{}
		if err := p.addJSON(body, fuzzed); err != nil {
			told(t, err)
			return
		}
		known(t, p)
		again, err := p.body()
		if err != nil {
			t.Fatalf("%v in %v", err, p)
		}
		q := params{}
		if err := q.addJSON(again, fuzzed); err != nil || len(q) != len(p) {
			t.Errorf("%s came to %s, %v", body, again, err)
		}
		read(p)
	})
}

func FuzzQuery(f *testing.F) {
	for _, query := range []string{"", "status=failed&limit=5", "status=a&status=b", "status", "%", "a;b", "limit=%31", "before=2024-01-15T10%3A30%3A00Z", "unknown=1", "actor=%00%ff"} {
		f.Add(query)
	}
	f.Fuzz(func(t *testing.T, query string) {
		p := params{}
		if err := p.addQuery(query, fuzzed); err != nil {
			told(t, err)
			return
		}
		known(t, p)
		values, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range p {
			if values.Get(name) != value {
				t.Errorf("%s is %q, want %q", name, value, values.Get(name))
			}
		}
		read(p)
	})
}

// read reads what a request may ask for; none of it may panic, and every refusal is a sentence of bounded size.
func read(p params) {
	_, _ = p.since()
	_, _ = p.override()
	_, _ = p.filter()
}

func known(t *testing.T, p params) {
	t.Helper()
	for name := range p {
		if !slices.Contains(fuzzed, name) {
			t.Errorf("%q is taken", name)
		}
	}
}

func told(t *testing.T, err error) {
	t.Helper()
	if err.Error() == "" || len(err.Error()) > 1000 {
		t.Errorf("%d bytes: %.100s", len(err.Error()), err)
	}
}

// What is shown of any bytes is safe for a terminal.
func FuzzVisible(f *testing.F) {
	for _, text := range []string{"plain ü", "\x1b[2J", "\u009b\u202e", "\xff\x9b", "a\tb\r\nc\x00", "\U000e0041", "\u2028", "\u00a0", `{"a":"\u001b"}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, r := range visible(string(text)) {
			if hidden(r) {
				t.Errorf("visible leaves %q", r)
			}
		}
		quoted, err := json.Marshal(string(text))
		if err != nil {
			t.Fatal(err)
		}
		var want, got string
		if json.Unmarshal(quoted, &want) != nil || json.Unmarshal(visibleJSON(quoted), &got) != nil || got != want {
			t.Errorf("visibleJSON makes %q of %q", got, want)
		}
	})
}
