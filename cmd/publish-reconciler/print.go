package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"publish-reconciler/reconciler"
)

func printSweep(w io.Writer, r reconciler.SweepResult) {
	fmt.Fprintf(w, "%d logs checked: %d success, %d failed, %d retry, %d skipped\n", r.TotalChecked, r.MarkedSuccess, r.MarkedFailed, r.MarkedRetry, r.Skipped)
}

func printOverride(w io.Writer, a overrideAnswer) {
	fmt.Fprintf(w, "log %s: %s → %s, by %s\n", a.LogID, visible(string(a.From)), visible(string(a.To)), visible(a.Actor))
}

// printLog prints why the log is in its state, what its row holds, and how it came to it.
func printLog(w io.Writer, log logAnswer) {
	fmt.Fprintf(w, "%s\n\n", visible(log.Explanation.Sentence))
	t := newTable(w)
	for _, f := range rowFields(log) {
		if f.value != "" {
			t.line(f.name, f.value)
		}
	}
	t.flush()
	if len(log.History) == 0 {
		return
	}
	fmt.Fprintln(w)
	for _, event := range log.History {
		t.line(moment(&event.Timestamp), visible(string(event.Type)), details(event.Metadata))
	}
	t.flush()
}

type rowField struct{ name, value string }

func rowFields(log logAnswer) []rowField {
	text := func(s *string) string {
		if s == nil {
			return ""
		}
		return visible(*s)
	}
	fields := []rowField{
		{"id", log.ID.String()},
		{"platform", visible(log.Platform)},
		{"external_post_id", text(log.ExternalPostID)},
		{"status", visible(string(log.Status))},
		{"reason", visible(string(log.Reason))},
		{"error_message", text(log.ErrorMessage)},
		{"external_url", text(log.ExternalURL)},
		{"requested_at", moment(log.RequestedAt)},
		{"published_at", moment(log.PublishedAt)},
		{"created_at", moment(log.CreatedAt)},
		{"updated_at", moment(log.UpdatedAt)},
		{"last_retry_at", moment(log.LastRetryAt)},
	}
	if log.ClipID != nil {
		fields = append(fields, rowField{"clip_id", visible(fmt.Sprint(*log.ClipID))})
	}
	if log.SocialAccountID != nil {
		fields = append(fields, rowField{"social_account_id", visible(fmt.Sprint(*log.SocialAccountID))})
	}
	if log.RetryCount > 0 {
		fields = append(fields, rowField{"retry_count", fmt.Sprintf("%d of %d", log.RetryCount, log.MaxRetries)})
	}
	if metadata := string(log.ExtraMetadata); metadata != "" && metadata != "{}" && metadata != "null" {
		fields = append(fields, rowField{"extra_metadata", string(visibleJSON(log.ExtraMetadata))})
	}
	if log.Parked > 0 {
		fields = append(fields, rowField{"parked_webhooks", strconv.Itoa(log.Parked)})
	}
	if log.Hold != nil {
		fields = append(fields, rowField{"hold", moment(&log.Hold.Since) + " to " + moment(&log.Hold.Until)})
	}
	return fields
}

// details is an event's metadata as key=value: what tells most comes first, what the row says already is left out.
func details(metadata json.RawMessage) string {
	var fields map[string]json.RawMessage
	_ = json.Unmarshal(metadata, &fields) // others write the ledger too
	delete(fields, "platform")
	delete(fields, "external_post_id")
	first := []string{"action", "from", "to", "reason", "webhook_status", "actor", "note"}
	words := make([]string, 0, len(fields))
	for _, key := range slices.Concat(first, slices.Sorted(maps.Keys(fields))) {
		raw, left := fields[key]
		if !left {
			continue
		}
		delete(fields, key)
		value := string(raw)
		if json.Unmarshal(raw, &value) == nil && (value == "" || strings.ContainsAny(value, ` ="`)) {
			value = strconv.Quote(value)
		}
		words = append(words, visible(key)+"="+visible(value))
	}
	return strings.Join(words, " ")
}

func printLogs(w io.Writer, page logsAnswer) {
	t := newTable(w)
	t.line("ID", "PLATFORM", "POST", "STATUS", "REASON", "CREATED", "UPDATED")
	for _, raw := range page.Logs {
		var row reconciler.Row
		if json.Unmarshal(raw, &row) != nil {
			continue // it was read as an answer before
		}
		post := ""
		if row.ExternalPostID != nil {
			post = visible(*row.ExternalPostID)
		}
		t.line(row.ID.String(), visible(row.Platform), post, visible(string(row.Status)), visible(string(row.Reason)), moment(row.CreatedAt), moment(row.UpdatedAt))
	}
	t.flush()
	if page.Next != nil && isTerminal(w) {
		fmt.Fprintf(w, "\nThere are more: the same with --before %s\n", page.Next)
	}
}

// table aligns the columns of its lines.
type table struct{ w *tabwriter.Writer }

func newTable(w io.Writer) table { return table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)} }

func (t table) line(cells ...string) {
	for i, cell := range cells[:len(cells)-1] {
		if cell == "" {
			cells[i] = "-"
		}
	}
	fmt.Fprintln(t.w, strings.Join(cells, "\t"))
}

func (t table) flush() { _ = t.w.Flush() }

// moment is a time to the second, in UTC; empty for none.
func moment(t *time.Time) string {
	if t == nil || t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// visible is s as a terminal may have it: quoted, where it holds what a terminal would act on, or would not show.
func visible(s string) string {
	if !utf8.ValidString(s) || strings.ContainsFunc(s, hidden) {
		return strconv.Quote(s)
	}
	return s
}

// hidden tells of control characters, and of those that turn the direction of a text.
func hidden(r rune) bool { return !unicode.IsPrint(r) }

// printJSON prints a value as a line of JSON that a terminal may have.
func printJSON(w io.Writer, value any) error {
	text, err := encode(value)
	if err != nil {
		return err
	}
	_, err = w.Write(visibleJSON(text))
	return err
}

// visibleJSON is the same JSON with everything hidden escaped. encoding/json leaves DEL and the C1 controls as
// they are, and these move a terminal too.
func visibleJSON(text []byte) []byte {
	safe := make([]byte, 0, len(text))
	for _, r := range string(text) {
		switch {
		case r == '\n' || !hidden(r):
			safe = utf8.AppendRune(safe, r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			safe = fmt.Appendf(safe, `\u%04x\u%04x`, high, low)
		default:
			safe = fmt.Appendf(safe, `\u%04x`, r)
		}
	}
	return safe
}
