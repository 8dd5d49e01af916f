package webhooks

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"strings"
	"time"

	"publish-reconciler/streams"
)

// What a normalised message says of its post, in the words that the rules know. Any other word is unclear.
const (
	statusPublished = "published"
	statusFailed    = "failed"
	statusRemoved   = "removed"
)

// maxID is the longest identity that is told as it is; a longer one is told by its hash. JetStream keeps them in memory
// for the duplicate window.
const maxID = 256

// Event is one message for publish.webhook.<platform>.
type Event struct {
	// Body is the message's JSON, as streams.DecodeWebhook takes it.
	Body []byte
	// ID is the platform's identity of the event, for Nats-Msg-Id: printable ASCII, 1 to 256 bytes.
	ID string
}

// field is one of a message's, in the message's order.
type field struct {
	name  string
	value any
}

// raw is how a message keeps what the platform sent. The rules copy no object into a row: it stays in the stream.
type raw struct {
	ContentType string `json:"content_type"`
	Body        string `json:"body"`
}

// newEvent makes the message of a post; fields that are empty or nil are left out. Its error says that no message can be
// about such a post.
func newEvent(platform, post, status, id string, kept raw, fields ...field) (Event, error) {
	all := append([]field{{"external_post_id", post}, {"status", status}, {"event_id", id}}, fields...)
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false)
	body.WriteByte('{')
	for _, f := range append(all, field{"raw", kept}) {
		if f.value == nil || f.value == "" {
			continue
		}
		if body.Len() > 1 {
			body.WriteByte(',')
		}
		for i, part := range []any{f.name, f.value} {
			if i == 1 {
				body.WriteByte(':')
			}
			if err := encoder.Encode(part); err != nil {
				return Event{}, err
			}
			body.Truncate(body.Len() - 1) // the line's end
		}
	}
	body.WriteByte('}')
	if _, err := streams.DecodeWebhook(streams.WebhookSubject(platform), body.Bytes()); err != nil {
		return Event{}, err
	}
	return Event{Body: body.Bytes(), ID: id}, nil
}

// identity joins what makes an event this one and no other. Different parts never make the same.
func identity(parts ...string) string {
	for i, part := range parts {
		parts[i] = url.QueryEscape(part)
	}
	id := strings.Join(parts, ":")
	if len(id) > maxID {
		sum := sha256.Sum256([]byte(id))
		id = parts[0] + ":sha256:" + hex.EncodeToString(sum[:])
	}
	return id
}

// moment reads a clock that counts seconds or milliseconds since 1970; false for what is neither. The two can't be
// mistaken: 1e11 is the year 5138 in seconds, and 1973 in milliseconds.
func moment(n int64) (time.Time, bool) {
	const milliseconds, end = 1e11, 1e14
	switch {
	case n <= 0 || n >= end:
		return time.Time{}, false
	case n >= milliseconds:
		return time.UnixMilli(n).UTC(), true
	}
	return time.Unix(n, 0).UTC(), true
}
