package main

import (
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
