package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"publish-reconciler/reconciler"
	"publish-reconciler/streams"
)

// The names that requests use, in queries and in JSON.
const (
	paramSince    = "since_minutes"
	paramLogID    = "log_id"
	paramStatus   = "status"
	paramActor    = "actor"
	paramNote     = "note"
	paramPlatform = "platform"
	paramReason   = "reason"
	paramBefore   = "before"
	paramLimit    = "limit"
)

// isNumber tells whether JSON has a parameter as a number, not as a string.
func isNumber(name string) bool { return name == paramSince || name == paramLimit }

const (
	// maxReasonBytes has room for every reason there is.
	maxReasonBytes = 64
	// defaultSince is a reconcile's window when the request names none.
	defaultSince = 10 * time.Minute
)

// params is what a request asks for, by name, each as text.
type params map[string]string

// add takes no name twice: which of its values should count?
func (p params) add(name, value string) error {
	if _, twice := p[name]; twice {
		return fmt.Errorf("%s is given more than once", name)
	}
	p[name] = value
	return nil
}

// addQuery reads a URL's query, in which nothing but allowed may stand.
func (p params) addQuery(query string, allowed []string) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return fmt.Errorf("the query can't be read: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if !slices.Contains(allowed, name) {
			return unknown("parameter", name, allowed)
		}
		for _, value := range values[name] {
			if err := p.add(name, value); err != nil {
				return err
			}
		}
	}
	return nil
}

// addJSON reads a body that is empty, or an object in which nothing but allowed may stand.
func (p params) addJSON(body []byte, allowed []string) error {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil
	}
	if !json.Valid(body) {
		return statusError{http.StatusUnsupportedMediaType, errors.New("the body is not JSON")}
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	if start, err := decoder.Token(); err != nil || start != json.Delim('{') {
		return fmt.Errorf("the body is %s: it must be a JSON object", kindOf(bytes.TrimSpace(body)))
	}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return err
		}
		key, _ := name.(string)
		if !slices.Contains(allowed, key) {
			return unknown("field", key, allowed)
		}
		var raw json.RawMessage
		if err := decoder.Decode(&raw); err != nil {
			return err
		}
		value, want := string(raw), "a number"
		if !isNumber(key) {
			want = "a string"
			_ = json.Unmarshal(raw, &value) // of another type: told below
		}
		if kind := kindOf(raw); kind != want {
			return fmt.Errorf("%s is %s: it must be %s", key, kind, want)
		}
		if err := p.add(key, value); err != nil {
			return err
		}
	}
	return nil
}

// kindOf tells what JSON value this is.
func kindOf(raw []byte) string {
	kinds := map[byte]string{'"': "a string", '{': "an object", '[': "an array", 't': "true", 'f': "false", 'n': "null"}
	return cmp.Or(kinds[raw[0]], "a number")
}

func unknown(what, name string, allowed []string) error {
	only := "none is"
	switch last := len(allowed) - 1; {
	case last == 0:
		only = "only " + allowed[0] + " is"
	case last > 0:
		only = "only " + strings.Join(allowed[:last], ", ") + " and " + allowed[last] + " are"
	}
	return fmt.Errorf("%s %s is not known: %s", what, quote(name), only)
}

// quote shows a value of unknown size and content in an error.
func quote(s string) string {
	const most = 80
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return strconv.Quote(s)
}

// body is the parameters as a request over NATS has them.
func (p params) body() ([]byte, error) {
	fields := make(map[string]any, len(p))
	for name, value := range p {
		fields[name] = value
		if isNumber(name) {
			fields[name] = json.Number(value)
		}
	}
	return json.Marshal(fields)
}

func (p params) since() (time.Duration, error) {
	text, given := p[paramSince]
	if !given {
		return defaultSince, nil
	}
	return streams.ParseSinceMinutes(text)
}

func (p params) logID() (uuid.UUID, error) {
	id, err := parseUUID(p[paramLogID])
	if err != nil {
		return uuid.Nil, fmt.Errorf("log_id is %s: it must be a UUID such as 6f1c2d3e-4b5a-4978-8f6e-5d4c3b2a1908", quote(p[paramLogID]))
	}
	return id, nil
}

// parseUUID takes the usual form alone, not uuid.Parse's braces, URNs and ids without hyphens.
func parseUUID(s string) (uuid.UUID, error) {
	id, err := uuid.Parse(s)
	if err == nil && len(s) != len(id.String()) {
		err = errors.New("not the usual form")
	}
	return id, err
}

func (p params) override() (reconciler.Override, error) {
	id, err := p.logID()
	override := reconciler.Override{
		LogID:  id,
		Status: reconciler.Status(p[paramStatus]),
		Actor:  strings.TrimSpace(p[paramActor]),
		Note:   p[paramNote],
	}
	faults := []error{err, override.Validate()}
	for _, name := range []string{paramActor, paramNote} {
		if strings.ContainsRune(p[name], 0) {
			faults = append(faults, fmt.Errorf("%s holds U+0000: it must be text that Postgres can keep", name))
		}
	}
	return override, errors.Join(faults...)
}

var allStatuses = []string{
	string(reconciler.StatusPending), string(reconciler.StatusProcessing), string(reconciler.StatusRetry),
	string(reconciler.StatusSuccess), string(reconciler.StatusFailed),
}

// filter reads what a list is to hold; an empty value, as forms send it, counts as not given. Every fault is
// told.
func (p params) filter() (reconciler.Filter, error) {
	filter := reconciler.Filter{
		Status:   reconciler.Status(p[paramStatus]),
		Platform: p[paramPlatform],
		Reason:   reconciler.Reason(p[paramReason]),
		Limit:    reconciler.DefaultListed,
	}
	var faults []error
	fault := func(name, allowed string) {
		faults = append(faults, fmt.Errorf("%s is %s: it must be %s", name, quote(p[name]), allowed))
	}
	if status := p[paramStatus]; status != "" && !slices.Contains(allStatuses, status) {
		fault(paramStatus, "one of "+strings.Join(allStatuses, ", "))
	}
	if platform := p[paramPlatform]; platform != "" && !isText(platform, streams.MaxPlatformBytes) {
		fault(paramPlatform, fmt.Sprintf("1 to %d bytes of UTF-8", streams.MaxPlatformBytes))
	}
	if reason := p[paramReason]; reason != "" && !isWord(reason, maxReasonBytes) {
		fault(paramReason, fmt.Sprintf("one word of 1 to %d bytes, such as webhook_timeout", maxReasonBytes))
	}
	if before := p[paramBefore]; before != "" {
		var err error
		if filter.BeforeID, err = parseUUID(before); err != nil {
			if filter.Before, err = time.Parse(time.RFC3339, before); err != nil {
				fault(paramBefore, "a log's id, such as the answer before had as next, or a time such as 2024-01-15T10:30:00Z")
			}
		}
	}
	if limit := p[paramLimit]; limit != "" {
		var err error
		if filter.Limit, err = strconv.Atoi(limit); err != nil || filter.Limit < 1 || filter.Limit > reconciler.MaxListed {
			fault(paramLimit, fmt.Sprintf("a whole number from 1 to %d", reconciler.MaxListed))
		}
	}
	return filter, errors.Join(faults...)
}

// isText tells whether s is text of 1 to most bytes that Postgres can hold.
func isText(s string, most int) bool {
	return s != "" && len(s) <= most && utf8.ValidString(s) && !strings.ContainsRune(s, 0)
}

// isWord tells whether s is such a text without white space.
func isWord(s string, most int) bool {
	return isText(s, most) && !strings.ContainsFunc(s, unicode.IsSpace)
}
