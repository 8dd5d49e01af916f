package webhooks

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// Batch is what one request says.
type Batch struct {
	// Own tells that the body is in the platform's own form. One that is not is a message as it is.
	Own bool
	// Events are the messages, each identity once.
	Events []Event
	// Ignored counts what is about no post's publication, and says nothing to the service.
	Ignored int

	seen map[string]bool
}

// format is how a platform writes.
type format struct {
	// owns tells whether a body is in the platform's form, and not in the contract's.
	owns func(body []byte) bool
	read func(kept raw) (Batch, error)
}

var formats = map[string]format{
	TikTok:    {ownsJSON("event"), readTikTok},
	Instagram: {ownsJSON("entry"), readInstagram},
	YouTube:   {ownsAtom, readAtom},
}

var errNotUTF8 = errors.New("the body is not UTF-8")

// Read understands the body of a platform, in lower case. The error says what in the platform's own form is wrong.
func Read(platform, contentType string, body []byte) (Batch, error) {
	f, known := formats[platform]
	if !known || !f.owns(body) {
		return Batch{}, nil
	}
	if !utf8.Valid(body) { // it could not be kept as it is
		return Batch{}, errNotUTF8
	}
	batch, err := f.read(raw{contentType, string(body)})
	if err != nil {
		return Batch{}, err
	}
	batch.Own = true
	return batch, nil
}

// add takes each identity once: a batch may say the same thing again and again.
func (b *Batch) add(event Event) {
	if b.seen == nil {
		b.seen = make(map[string]bool)
	}
	if !b.seen[event.ID] {
		b.seen[event.ID] = true
		b.Events = append(b.Events, event)
	}
}

// ownsJSON is for a platform whose objects have a field that the contract's form never needs.
func ownsJSON(name string) func([]byte) bool {
	return func(body []byte) bool {
		var fields map[string]json.RawMessage
		if json.Unmarshal(body, &fields) != nil {
			return false
		}
		_, contract := fields["external_post_id"]
		_, own := fields[name]
		return own && !contract
	}
}

// object is a JSON object whose values are read by what is expected of them.
type object map[string]any

func parseObject(text []byte) (object, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var fields object
	if err := decoder.Decode(&fields); err != nil {
		return nil, err
	}
	if decoder.More() {
		return nil, errors.New("it goes on after its first JSON value")
	}
	return fields, nil
}

// text is a string, or a number as it is written; empty for anything else.
func (o object) text(name string) string {
	switch v := o[name].(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	}
	return ""
}

// number is a whole number, also one that is written as a string; 0 for anything else.
func (o object) number(name string) int64 {
	n, err := strconv.ParseInt(o.text(name), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func (o object) object(name string) object {
	fields, _ := o[name].(map[string]any)
	return fields
}

// quote shows a text of unknown size in an error.
func quote(s string) string {
	const most = 80
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strconv.Quote(s)
}

func missing(where, name string) error {
	return fmt.Errorf("%s has no %s: it must be a string of 1 to 1024 bytes", where, name)
}
