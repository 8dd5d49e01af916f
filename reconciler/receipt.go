package reconciler

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// receipt is a ledger event as it is read: any of its fields may be missing, or be another writer's.
type receipt struct {
	HistoryEvent
	fields map[string]any
}

// fieldsOf reads a JSON object; of anything else it is empty.
func fieldsOf(raw json.RawMessage) map[string]any {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var fields map[string]any
	if decoder.Decode(&fields) != nil {
		return nil
	}
	return fields
}

// text is empty for what is no text.
func text(fields map[string]any, key string) string {
	words, _ := fields[key].(string)
	return words
}

func (r receipt) text(key string) string { return text(r.fields, key) }

// probe is what came of asking the platform before the decision; empty where it was not asked.
func (r receipt) probe() ProbeResult { return ProbeResult(r.text("probe")) }

func (r receipt) reason() Reason { return Reason(r.text("reason")) }

func (r receipt) time(key string) time.Time { return parseTime(r.text(key)) }

// count is zero for what is no number from 1 to a million.
func (r receipt) count(key string) int {
	number, _ := r.fields[key].(json.Number)
	n, err := strconv.Atoi(number.String())
	if err != nil || n < 1 || n > 1_000_000 {
		return 0
	}
	return n
}

// at is when it was written; nil when that is not known.
func (r receipt) at() *time.Time {
	if r.Timestamp.IsZero() {
		return nil
	}
	return &r.Timestamp
}

// action is the state change that it tells; empty for none.
func (r receipt) action() Action {
	if r.Type != EventReconciled {
		return ""
	}
	return Action(r.text("action"))
}

// closes is the final status that it gave the log; empty for none.
func (r receipt) closes() Status {
	to := Status("")
	if action := r.action(); action == MarkedSuccess || action == MarkedFailed {
		to = action.status()
	} else if r.Type == EventOverridden {
		to = Status(r.text("to"))
	}
	if to != StatusSuccess && to != StatusFailed {
		return ""
	}
	return to
}

// patience is how long nothing came: " in 10 minutes".
func (r receipt) patience() string {
	number, _ := r.fields["timeout_minutes"].(json.Number)
	m, err := number.Float64()
	m = math.Round(m*1000) / 1000
	switch {
	case err != nil || m <= 0 || m > 1e9:
		return " in time"
	case m == 1:
		return " in 1 minute"
	}
	return " in " + strconv.FormatFloat(m, 'f', -1, 64) + " minutes"
}

// parseTime is zero for what is no RFC 3339.
func parseTime(text string) time.Time {
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}
	}
	return at
}

// maxQuoted is how much of a text from outside, in bytes, is told in a sentence.
const maxQuoted = 200

// quote makes any text fit for a sentence: one line, and not too long.
func quote(words string) string {
	if len(words) <= maxQuoted {
		return strconv.Quote(words)
	}
	end := maxQuoted
	for end > maxQuoted-utf8.UTFMax && !utf8.RuneStart(words[end]) {
		end--
	}
	return strconv.Quote(words[:end] + "…")
}

// name quotes only what does not look like one.
func name(words string) string {
	odd := func(r rune) bool {
		return r == utf8.RuneError || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("._-@+", r)
	}
	if words == "" || len(words) > maxQuoted || strings.ContainsFunc(words, odd) {
		return quote(words)
	}
	return words
}

// inBrackets and afterColon add a text from outside, where there is one.
func inBrackets(words string) string {
	if words == "" {
		return ""
	}
	return " (" + quote(words) + ")"
}

func afterColon(words string) string {
	if words == "" {
		return ""
	}
	return ": " + quote(words)
}

func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}
