package reconciler

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// noon is the database's time in the tests, to the microsecond as Postgres keeps it.
var noon = time.Date(2024, 1, 15, 12, 0, 0, 123_456_000, time.UTC)

// tiktok and instagram are posts that several tests speak of.
var (
	tiktok    = Post{"tiktok", "tiktok_video_67890"}
	instagram = Post{"instagram", "ig_123"}
)

// logID is the n-th id in the order of ids.
func logID(n int) uuid.UUID {
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[8:], uint64(n))
	return id
}

// open is a log in processing, last updated some time before noon.
func open(n int, post Post, age time.Duration) Log {
	return Log{ID: logID(n), Post: post, Status: StatusProcessing, MaxRetries: 3, UpdatedAt: noon.Add(-age)}
}

// object decodes a JSON object as streams and repo do: numbers keep their text.
func object(t testing.TB, text string) map[string]any {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewBufferString(text))
	decoder.UseNumber()
	var fields map[string]any
	if err := decoder.Decode(&fields); err != nil {
		t.Fatalf("decode %s: %v", text, err)
	}
	return fields
}

// webhook is a message of a platform about a post, received at noon.
func webhook(t testing.TB, post Post, text string) Webhook {
	t.Helper()
	return Webhook{Post: post, Fields: Storable(object(t, text)), ReceivedAt: noon}
}

// evidence is what a platform's JSON comes to, received at noon.
func evidence(t testing.TB, text string) Evidence {
	t.Helper()
	return ReadWebhook("tiktok", Storable(object(t, text)), noon)
}
