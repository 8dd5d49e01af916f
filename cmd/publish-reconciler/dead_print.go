package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"publish-reconciler/streams"
)

// letterAnswer is a letter as JSON has it. A time that is not known is left out.
type letterAnswer struct {
	Sequence         uint64              `json:"sequence"`
	Time             time.Time           `json:"time"`
	Kind             streams.Kind        `json:"kind"`
	Reason           streams.Reason      `json:"reason"`
	Error            string              `json:"error"`
	Subject          string              `json:"subject"`
	Stream           string              `json:"stream"`
	OriginalSequence uint64              `json:"original_sequence"`
	OriginalTime     time.Time           `json:"original_time,omitzero"`
	Size             int                 `json:"size"`
	WholeSize        int                 `json:"whole_size"` // larger than size where the body was cut
	Replays          int                 `json:"replays"`
	Headers          map[string][]string `json:"headers"`
	// Body is the payload where it is text; BodyBase64 where it is not.
	Body       *string `json:"body,omitempty"`
	BodyBase64 []byte  `json:"body_base64,omitempty"`
}

func answerOf(l streams.Letter) letterAnswer {
	return letterAnswer{
		Sequence: l.Sequence, Time: l.Time.UTC(), Kind: l.Kind, Reason: l.Reason, Error: l.Error,
		Subject: l.Subject, Stream: l.Stream, OriginalSequence: l.OriginalSequence, OriginalTime: l.OriginalTime,
		Size: l.Size, WholeSize: l.Whole, Replays: l.Replays, Headers: l.Header,
	}
}

func printLetterJSON(w io.Writer, letter streams.Letter) error {
	answer := answerOf(letter)
	if utf8.Valid(letter.Body) {
		body := string(letter.Body)
		answer.Body = &body
	} else {
		answer.BodyBase64 = letter.Body
	}
	return printJSON(w, answer)
}

func printLettersJSON(w io.Writer, page []streams.Letter, next uint64) error {
	answer := struct {
		Letters []letterAnswer `json:"letters"`
		Next    *uint64        `json:"next"`
	}{Letters: []letterAnswer{}}
	for _, letter := range page {
		answer.Letters = append(answer.Letters, answerOf(letter))
	}
	if next != 0 {
		answer.Next = &next
	}
	return printJSON(w, answer)
}

func printLetters(w io.Writer, page []streams.Letter) {
	t := newTable(w)
	t.line("SEQ", "DEAD SINCE", "KIND", "REASON", "SUBJECT", "SENT", "SIZE", "ERROR")
	for _, l := range page {
		t.line(strconv.FormatUint(l.Sequence, 10), moment(&l.Time), visible(string(l.Kind)), visible(string(l.Reason)),
			visible(l.Subject), moment(&l.OriginalTime), strconv.Itoa(l.Whole), visible(l.Error))
	}
	t.flush()
}

// printLetter prints why it died, where it came from, what came with it, and its payload.
func printLetter(w io.Writer, l streams.Letter) {
	fmt.Fprintf(w, "%s\n\n", visible(cmp.Or(l.Error, "The letter does not say why.")))
	size := fmt.Sprintf("%d bytes", l.Size)
	if l.Truncated() {
		size = fmt.Sprintf("%d bytes of %d: the rest was cut off", l.Size, l.Whole)
	}
	place := ""
	if l.Stream != "" {
		place = fmt.Sprintf("%s %d", visible(l.Stream), l.OriginalSequence)
	}
	replays := ""
	if l.Replays > 0 {
		replays = fmt.Sprintf("%d× before", l.Replays)
	}
	t := newTable(w)
	for _, f := range []rowField{
		{"letter", strconv.FormatUint(l.Sequence, 10)},
		{"dead since", moment(&l.Time)},
		{"kind", visible(string(l.Kind))},
		{"reason", visible(string(l.Reason))},
		{"subject", visible(l.Subject)},
		{"sent", moment(&l.OriginalTime)},
		{"lay in", place},
		{"replayed", replays},
		{"payload", size},
	} {
		if f.value != "" {
			t.line(f.name, f.value)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(l.Header)) {
		for _, value := range l.Header[name] {
			t.line("header "+visible(name), visible(value))
		}
	}
	t.flush()
	if len(l.Body) > 0 {
		fmt.Fprintf(w, "\n%s\n", visibleText(l.Body))
	}
}

// visibleText is a payload as a terminal may have it: line by line, with everything else that is hidden escaped.
func visibleText(text []byte) []byte {
	safe := make([]byte, 0, len(text))
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		switch {
		case r == utf8.RuneError && size == 1:
			safe = fmt.Appendf(safe, `\x%02x`, text[0])
		case r == '\n' || r == '\t' || !hidden(r):
			safe = utf8.AppendRune(safe, r)
		default:
			quoted := strconv.QuoteRune(r)
			safe = append(safe, quoted[1:len(quoted)-1]...)
		}
		text = text[size:]
	}
	return safe
}

// tally counts letters by kind and reason.
type tally struct {
	counts map[tallied]int
	total  int
}

type tallied struct{ kind, reason string }

// maxTallied bounds the reasons that are told apart: a letter may be anyone's.
const maxTallied = 100

func (t *tally) add(l streams.Letter) error {
	if t.counts == nil {
		t.counts = make(map[tallied]int)
	}
	key := tallied{visible(string(l.Kind)), visible(string(l.Reason))}
	if _, known := t.counts[key]; !known && len(t.counts) >= maxTallied {
		key = tallied{"others", ""}
	}
	t.counts[key]++
	t.total++
	return nil
}

func (t *tally) sorted() []tallied {
	return slices.SortedFunc(maps.Keys(t.counts), func(a, b tallied) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.reason, b.reason))
	})
}

func (t *tally) print(w io.Writer) {
	lines := newTable(w)
	lines.line("KIND", "REASON", "LETTERS")
	for _, key := range t.sorted() {
		lines.line(key.kind, key.reason, strconv.Itoa(t.counts[key]))
	}
	lines.flush()
	fmt.Fprintln(w, plural(t.total))
}
