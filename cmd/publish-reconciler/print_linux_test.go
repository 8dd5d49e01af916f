package main

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// Whoever looks hears how to go on; a pipe has the table alone. Neither has colours.
func TestNextPage(t *testing.T) {
	t.Parallel()
	next := uuid.MustParse(unknownLog)
	page := logsAnswer{Logs: []json.RawMessage{[]byte(`{"id":"` + unknownLog + `"}`)}, Next: &next}
	shown := func(page logsAnswer) string {
		r, w := terminal(t)
		printLogs(w, page)
		if _, err := io.WriteString(w, "END"); err != nil {
			t.Fatal(err)
		}
		var text bytes.Buffer
		for !strings.Contains(text.String(), "END") {
			if _, err := io.CopyN(&text, r, 1); err != nil {
				t.Fatal(err)
			}
		}
		return text.String()
	}
	contains(t, shown(page), "There are more: the same with --before "+unknownLog)
	var piped bytes.Buffer
	printLogs(&piped, page)
	if n := strings.Count(piped.String(), "\n"); n != 2 || strings.Contains(piped.String()+shown(page), "\x1b") {
		t.Errorf("a pipe gets %q", piped.String())
	}
	page.Next = nil
	if strings.Contains(shown(page), "more") {
		t.Error("it tells of more where there is none")
	}
}
