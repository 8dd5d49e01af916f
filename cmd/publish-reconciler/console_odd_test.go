package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// JSON that would be thousands of times as long over several lines is shown as it came.
func TestConsoleShowsWhatIsNested(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve()
	deep := strings.Repeat("[", 9_999) + strings.Repeat("]", 9_999)
	w.die(s, deep)
	w.die(s, `[{"a\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[": 1}]`)
	w.die(s, `[`+strings.Repeat("1,", 150_000)+`1]`)
	id := w.publish("ig_1", "processing", `{"deep": `+deep[9_000:][:1_998]+`}`, 0)
	for path, want := range map[string]string{
		"/attention/letters/1": deep,
		"/attention/letters/2": "[\n  {\n    &#34;a\\&#34;[[[",
		"/attention/letters/3": "[1,1,1,",
		"/logs/" + id:          `{&#34;deep&#34;: [[[`,
	} {
		got := s.get("GET", path, "")
		if got.status != http.StatusOK || !strings.Contains(got.text, want) || len(got.text) > 300_000 {
			t.Errorf("%s: %d, %d bytes, without %.50q", path, got.status, len(got.text), want)
		}
	}
	if got := s.get("GET", "/attention/letters/3", ""); !strings.Contains(got.text, "… and 37,859 bytes more") {
		t.Error("nobody tells that the letter is longer")
	}
}

func TestConsoleFindsAPostWhoseIDLooksLikeALogs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve()
	const post = "5d41402abc4b2a76b9719d911017c592"
	w.publish(post, "processing", `{}`, 0)
	if got := s.get("GET", "/logs?q="+post, ""); got.status != http.StatusOK || !strings.Contains(got.text, "<bdi>"+post+"</bdi></a>") {
		t.Errorf("%d %s", got.status, got.text)
	}
	if got := s.get("GET", "/logs?q="+unknownLog, ""); got.status != http.StatusOK || !strings.Contains(got.text, "No log matches") {
		t.Errorf("of no log: %d %s", got.status, got.text)
	}
}

// Publishers also write empty texts where others write null.
func TestConsoleShowsEmptyTexts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve()
	id := w.publish("", "processing", `{}`, 0)
	w.exec(`UPDATE publish_logs SET external_url = '', error_message = '' WHERE id = $1`, id)
	if got := s.get("GET", "/logs", ""); !strings.Contains(got.text, "<bdi>"+id+"</bdi></a>") {
		t.Errorf("its link has no words: %s", got.text)
	}
	got := s.get("GET", "/logs/"+id, "")
	for _, want := range []string{"<bdi>no post yet</bdi>", "<dt>External post id</dt><dd><bdi>–</bdi>", "<dt>Post</dt><dd>–"} {
		if !strings.Contains(got.text, want) {
			t.Errorf("%q is not in %s", want, got.text)
		}
	}
	if strings.Contains(got.text, "<dt>Error</dt>") {
		t.Errorf("it has an error: %s", got.text)
	}
}

func TestConsoleRefusesLargeForms(t *testing.T) {
	t.Parallel()
	s := newWorld(t).serve()
	form := url.Values{"since_minutes": {strings.Repeat("1", 300_000)}}
	if status, text := s.post("/reconcile", form); status != http.StatusRequestEntityTooLarge || !strings.Contains(text, "larger than 262,144 bytes") {
		t.Errorf("%d %s", status, text)
	}
}

func TestConsoleCountsAnHour(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve()
	w.exec(`INSERT INTO ledger_events (timestamp, event_type, severity, entity_type, entity_id, metadata)
	        SELECT now() - age, 'publish_reconciled', 'warn', 'publish_log', gen_random_uuid()::text,
	               '{"platform": "tiktok", "action": "marked_failed", "reason": "webhook_timeout"}'
	          FROM unnest(ARRAY[interval '1 minute', '59 minutes', '60 minutes 5 seconds', '69 minutes', '2 hours']) age`)
	got := s.get("GET", "/", "")
	for _, want := range []string{`all-hour">2<`, `all-day">5<`} {
		if !strings.Contains(got.text, want) {
			t.Errorf("%q is not in %s", want, got.text)
		}
	}
}

func TestConsoleLeadsToAllThatIsSkipped(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve()
	s.swept()
	for n := range 24 {
		id := w.publish(fmt.Sprintf("ig_%d", n), []string{"processing", "retry"}[n%2], `{}`, 0)
		w.exec(`INSERT INTO ledger_events (timestamp, event_type, severity, entity_type, entity_id, metadata)
		        VALUES (now(), 'publish_reconcile_skipped', 'warn', 'publish_log', $1, jsonb_build_object('reason', $2::text))`,
			id, map[bool]string{true: "webhook_unclear", false: "platform_hold"}[n < 22])
	}
	got := s.get("GET", "/attention", "")
	for _, status := range []string{"processing", "retry"} {
		link := `href="/logs?reason=webhook_unclear&amp;status=` + status + `"`
		if !strings.Contains(got.text, link) {
			t.Errorf("nothing leads to what else is skipped: %s", got.text)
		}
	}
	if n := strings.Count(got.text, `<bdi>webhook unclear</bdi>`); n != 20 || strings.Contains(got.text, "reason=platform_hold") {
		t.Errorf("%d rows: %s", n, got.text)
	}
}

// Whoever has changed something sees what is left.
func TestConsoleForgetsWhatWasChanged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve()
	s.swept()
	id := w.publish("ig_1", "processing", `{}`, 0)
	w.exec(`INSERT INTO ledger_events (timestamp, event_type, severity, entity_type, entity_id, metadata)
	        VALUES (now(), 'publish_reconcile_skipped', 'warn', 'publish_log', $1, '{"reason": "webhook_unclear"}')`, id)
	if got := s.get("GET", "/attention", ""); !strings.Contains(got.text, "ig_1") {
		t.Fatal(got.text)
	}
	if got := s.get("GET", "/logs/"+id+"?done=override", ""); strings.Contains(got.text, "was overridden") {
		t.Error("it takes an address's word for an override")
	}
	got := s.get("POST", "/logs/"+id+"/override", url.Values{"status": {"failed"}, "actor": {"ana"}}.Encode())
	if got := s.get("GET", "/attention", ""); strings.Contains(got.text, "ig_1") {
		t.Error("it needs attention still")
	}
	if got := s.get("GET", got.header.Get("Location"), ""); !strings.Contains(got.text, "was overridden") {
		t.Error("nobody tells that it was overridden")
	}
	w.exec(`UPDATE ledger_events SET timestamp = timestamp - interval '5 minutes'`)
	if got := s.get("GET", "/logs/"+id+"?done=override", ""); strings.Contains(got.text, "was overridden.") {
		t.Error("it was overridden just now, for ever")
	}
}
