package reconciler

import (
	"encoding/json"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Verdict is what evidence amounts to.
type Verdict int

// The verdicts. The zero value means that there is no evidence at all.
const (
	NoEvidence Verdict = iota
	Unclear            // the platform spoke, but not clearly
	Refused
	Confirmed
)

// MaxFieldBytes is the longest string that is taken from a webhook into a row; a longer one is cut.
const MaxFieldBytes = 2048

// maxURLBytes is the longest address that is used: a longer string in a row may be one that was cut, which
// leads nowhere.
const maxURLBytes = MaxFieldBytes - utf8.UTFMax

// The service's own keys in extra_metadata. A payload can't set them.
const (
	keyReceived  = "webhook_received"
	keyTimestamp = "webhook_timestamp"
	keyPlatform  = "webhook_platform"
	keyStatus    = "webhook_status"

	keyReconciled   = "reconciled"
	keyReconciledAt = "reconciled_at"
	keyReason       = "reconciliation_reason"
	keyTrigger      = "reconciliation_trigger"

	keyProbeStatus    = "probe_status"
	keyProbeTimestamp = "probe_timestamp"
)

var ownKeys = []string{
	keyReceived, keyTimestamp, keyPlatform, keyStatus,
	keyReconciled, keyReconciledAt, keyReason, keyTrigger,
	keyProbeStatus, keyProbeTimestamp,
	// These have a place of their own: a column, and webhook_status.
	fieldPostID, fieldStatus,
}

// How the platforms' fields are read, for all of them alike.
const (
	fieldPostID   = "external_post_id"
	fieldStatus   = "status"
	fieldComplete = "complete" // TikTok's way to say published, where there is no status
	wordPublished = "published"
	wordRemoved   = "removed"  // the post was out, and is not any more; before it was confirmed that is unclear
	fieldEventID  = "event_id" // the platform's own identity of what a webhook tells
	fieldRaw      = "raw"      // an object with what the platform sent, for whoever reads the stream
)

var (
	// verdictWords are compared in lower case; any other word is unclear.
	verdictWords = map[string]Verdict{
		wordPublished: Confirmed,
		"failed":      Refused,
		"error":       Refused,
		"rejected":    Refused,
	}
	// errorFields may hold the platform's own words on a refusal; the first that is there counts.
	errorFields = []string{"error", "error_message", "fail_reason", "reason", "message"}
	// urlFields lead to the post; the first that is there counts.
	urlFields = []struct{ name, prefix string }{
		{"media_url", ""},
		{"video_url", ""},
		{"videoId", "https://www.youtube.com/watch?v="},
	}
)

// Evidence is what a platform said about a post: by a webhook, in answer to a probe, or earlier, as it
// is recorded in the log. The zero value is silence.
type Evidence struct {
	Verdict Verdict
	// Status is the platform's status as sent, "published" where complete said so, else "".
	Status string
	// Error is the platform's words on a refusal; it may be empty.
	Error string
	// URL leads to the post; empty when the platform gave none.
	URL string
	// Fields is what goes into extra_metadata when the evidence is recorded; nil for recorded evidence.
	Fields map[string]any
	// ReceivedAt is when JetStream stored the webhook; zero where that is not known, and for a probe's answer.
	ReceivedAt time.Time
}

// clear tells whether the evidence says what became of the post.
func (e Evidence) clear() bool { return e.Verdict == Confirmed || e.Verdict == Refused }

// removed tells whether the platform says that the post is gone.
func (e Evidence) removed() bool {
	return strings.EqualFold(strings.TrimSpace(e.Status), wordRemoved)
}

// ReadWebhook reads what a platform sent. The fields are a JSON object with json.Number for numbers, as
// [Storable] returns it.
func ReadWebhook(platform string, fields map[string]any, receivedAt time.Time) Evidence {
	status, hasStatus := scalarText(fields[fieldStatus])
	evidence := read(fields, status, hasStatus || fields[fieldStatus] != nil)
	evidence.ReceivedAt = receivedAt
	evidence.Fields = scalars(fields)
	for _, name := range ownKeys {
		delete(evidence.Fields, name)
	}
	evidence.Fields[keyReceived] = true
	evidence.Fields[keyPlatform] = platform
	evidence.Fields[keyTimestamp] = receivedAt.UTC().Format(time.RFC3339Nano)
	evidence.Fields[keyStatus] = nil
	if evidence.Status != "" {
		evidence.Fields[keyStatus] = evidence.Status
	}
	return evidence
}

// scalars are the fields as they go into a row: no objects and lists, but the platform's words on a refusal,
// and strings cut.
func scalars(fields map[string]any) map[string]any {
	kept := make(map[string]any, len(fields)+4)
	for name, value := range fields {
		if len(name) > MaxFieldBytes {
			continue
		}
		switch v := value.(type) {
		case string:
			kept[name] = cut(v)
		case json.Number, bool, nil:
			kept[name] = v
		default:
			if words := errorText(v); slices.Contains(errorFields, name) && words != "" {
				kept[name] = words
			}
		}
	}
	return kept
}

// recorded is the evidence that a log holds already, whoever wrote it there.
func (l Log) recorded() Evidence {
	received := l.Metadata[keyReceived]
	status, hasStatus := scalarText(l.Metadata[keyStatus])
	if received == false || received != true && !hasStatus {
		return Evidence{}
	}
	// Where a status was written, even null, it says what complete came to; complete itself may have been
	// left there by an earlier webhook.
	_, written := l.Metadata[keyStatus]
	evidence := read(l.Metadata, status, written)
	evidence.ReceivedAt = l.recordedAt()
	return evidence
}

// recordedAt is when the recorded evidence was received; zero when that is not known.
func (l Log) recordedAt() time.Time {
	text, _ := l.Metadata[keyTimestamp].(string)
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}
	}
	return at
}

// read is the one table of how evidence is read.
func read(fields map[string]any, status string, hasStatus bool) Evidence {
	evidence := Evidence{Verdict: Unclear, Status: status}
	if !hasStatus && fields[fieldComplete] == true {
		evidence.Status = wordPublished
	}
	if verdict, known := verdictWords[strings.ToLower(strings.TrimSpace(evidence.Status))]; known {
		evidence.Verdict = verdict
	}
	if evidence.Verdict == Refused {
		for _, name := range errorFields {
			if words := errorText(fields[name]); words != "" {
				evidence.Error = words
				break
			}
		}
	}
	for _, field := range urlFields {
		if value, ok := fields[field.name].(string); ok && value != "" && len(value) <= maxURLBytes {
			evidence.URL = value
			if field.prefix != "" {
				evidence.URL = field.prefix + url.QueryEscape(value)
			}
			break
		}
	}
	return evidence
}

// adds tells whether a webhook says more than what the log holds: it makes clear what was not, or it is
// neither vaguer, nor older (a redelivery that newer news overtook), nor the same once more.
func (e Evidence) adds(log Log) bool {
	old := log.recorded()
	switch {
	case old.Verdict == NoEvidence, old.Verdict == Unclear && e.Verdict != Unclear:
		return true
	case old.Verdict != Unclear && e.Verdict == Unclear:
		return false
	case e.ReceivedAt.Before(log.recordedAt()):
		return false
	}
	for name, value := range e.Fields {
		if name == keyTimestamp {
			continue
		}
		recorded, there := log.Metadata[name]
		if !there || !sameScalar(recorded, value) {
			return true
		}
	}
	return false
}

func sameScalar(a, b any) bool {
	x, xIsNumber := a.(json.Number)
	y, yIsNumber := b.(json.Number)
	if !xIsNumber || !yIsNumber {
		switch a.(type) {
		case map[string]any, []any: // another writer's; never equal to a scalar, and not comparable
			return false
		}
		return a == b
	}
	if x == y {
		return true
	}
	// Postgres writes a number its own way: 1e2 comes back as 100.
	f, errF := x.Float64()
	g, errG := y.Float64()
	return errF == nil && errG == nil && f == g
}

// Storable makes a JSON object fit for jsonb, whole: U+0000 becomes U+FFFD, a number out of range becomes
// its text. The object itself is changed and returned. (PostgreSQL manual, 8.14: jsonb rejects \u0000
// and numbers outside the range of numeric.)
func Storable(object map[string]any) map[string]any {
	for name, value := range object {
		if strings.ContainsRune(name, 0) {
			delete(object, name)
			name = storableText(name)
		}
		object[name] = storable(value)
	}
	return object
}

func storable(value any) any {
	switch v := value.(type) {
	case string:
		return storableText(v)
	case json.Number:
		if !inRange(v) {
			return v.String()
		}
		return v
	case map[string]any:
		return Storable(v)
	case []any:
		for i := range v {
			v[i] = storable(v[i])
		}
		return v
	default:
		return v
	}
}

func storableText(s string) string { return strings.ReplaceAll(s, "\x00", "\uFFFD") }

// inRange tells whether every reader can hold the number: a float64 that is neither infinite nor zero by
// underflow, in at most 400 characters. Postgres's numeric holds all of these, but of a zero it keeps the
// scale: 0e-20000 is out of its range.
func inRange(n json.Number) bool {
	text := n.String()
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsInf(f, 0) || len(text) > 400 {
		return false
	}
	mantissa, exponent, _ := strings.Cut(strings.ToLower(text), "e")
	return f != 0 || !strings.ContainsAny(mantissa, "123456789") && len(exponent) <= len("-999")
}

func scalarText(value any) (string, bool) {
	switch v := value.(type) {
	case string:
		return cut(v), v != ""
	case json.Number:
		return v.String(), true
	case bool:
		return strconv.FormatBool(v), true
	default:
		return "", false
	}
}

// errorText is the platform's words in a field: an object, such as {"message": …, "code": …}, is taken as
// its JSON; null and a flag are no words.
func errorText(value any) string {
	switch value.(type) {
	case nil, bool:
		return ""
	case map[string]any, []any:
		text, err := json.Marshal(value)
		if err != nil {
			return ""
		}
		return cut(string(text))
	}
	text, _ := scalarText(value)
	return text
}

func cut(s string) string {
	if len(s) <= MaxFieldBytes {
		return s
	}
	end := MaxFieldBytes
	for !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}
