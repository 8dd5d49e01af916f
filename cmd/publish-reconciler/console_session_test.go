package main

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// sessionUntil is a session of the page as a replica with this token makes it.
func sessionUntil(token string, end time.Time) string {
	sign := func(key, text []byte) []byte {
		mac := hmac.New(sha256.New, key)
		mac.Write(text)
		return mac.Sum(nil)
	}
	session := binary.BigEndian.AppendUint64(nil, uint64(end.Unix())) //nolint:gosec // it is after 1970
	session = append(session, make([]byte, 16)...)
	session = append(session, sign(sign([]byte(token), []byte("a session of the operator's page")), session)...)
	return base64.RawURLEncoding.EncodeToString(session)
}

func TestConsoleSessionsEnd(t *testing.T) {
	t.Parallel()
	s := newWorld(t).serve("--api-token=hush")
	now := time.Now()
	for name, tt := range map[string]struct {
		value  string
		status int
	}{
		"of today":           {sessionUntil("hush", now.Add(time.Hour)), 200},
		"over":               {sessionUntil("hush", now.Add(-time.Second)), 303},
		"long over":          {sessionUntil("hush", time.Unix(1, 0)), 303},
		"for ever":           {sessionUntil("hush", now.Add(1000*time.Hour)), 303},
		"of another token":   {sessionUntil("hush hush", now.Add(time.Hour)), 303},
		"of no token at all": {sessionUntil("", now.Add(time.Hour)), 303},
	} {
		if got := s.get("GET", "/", "", "Cookie", "publish_session="+tt.value); got.status != tt.status {
			t.Errorf("a session %s is answered with %d", name, got.status)
		}
	}
	// Every character is looked at, also in the middle.
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	session := sessionUntil("hush", now.Add(time.Hour))
	for i := range len(session) {
		forged := []byte(session)
		forged[i] = alphabet[strings.IndexByte(alphabet, session[i])^32] // its first bit, which counts at the end, too
		if got := s.get("GET", "/", "", "Cookie", "publish_session="+string(forged)); got.status != http.StatusSeeOther {
			t.Errorf("with another character %d it is answered with %d", i, got.status)
		}
	}
}

func TestConsoleWatchEndsWithItsSession(t *testing.T) {
	t.Parallel()
	s := newWorld(t).serve("--api-token=hush")
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/live", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Cookie", "publish_session="+sessionUntil("hush", time.Now().Add(4*time.Second)))
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	stream := bufio.NewReader(response.Body)
	for line := ""; !strings.HasPrefix(line, "event: as-of"); {
		if line, err = stream.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.Copy(io.Discard, stream); err != nil {
		t.Errorf("it does not end by itself: %v", err)
	}
}
