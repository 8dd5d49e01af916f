package streams_test

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"publish-reconciler/streams"
	"publish-reconciler/streams/streamstest"
)

// triedAgain is a check of a log that is not there, as it comes again for the nth time, and where it lay first.
func triedAgain(t *testing.T, js jetstream.JetStream, n int) (first *jetstream.MsgMetadata, again jetstream.Msg) {
	t.Helper()
	id := uuid.New()
	check := nats.NewMsg(streams.CheckSubject(id))
	check.Data = []byte(`{"timeout_minutes": 1e1 }`)
	check.Header.Set("traceparent", "00-1-2-01")
	if _, err := js.PublishMsg(t.Context(), check); err != nil {
		t.Fatal(err)
	}
	for try := range n + 1 {
		again = next(t, js, streams.StreamChecks, streams.ConsumerChecks)
		origin, err := again.Metadata()
		if err != nil {
			t.Fatal(err)
		}
		if try == 0 {
			first = origin
		}
		if try == n {
			break
		}
		if _, err := js.PublishMsg(t.Context(), streams.RetrySchedule(id, again, origin, try+1, time.Now())); err != nil {
			t.Fatal(err)
		}
		if err := again.Ack(); err != nil {
			t.Fatal(err)
		}
	}
	return first, again
}

// A check that fired carries headers which the server would act on again; its letter must be stored all
// the same, whole, and once.
func TestDeadLetterOfAFiredSchedule(t *testing.T) {
	t.Parallel()
	js := setup(t)
	first, original := triedAgain(t, js, 2)
	if original.Headers().Get("Nats-Scheduler") == "" {
		t.Fatalf("the check does not look like a fired schedule: %v", original.Headers())
	}
	origin, err := original.Metadata()
	if err != nil {
		t.Fatal(err)
	}
	cause := errors.New("no log\r\nof this   id")
	for range 2 {
		letter := streams.DeadLetter(streams.KindCheck, original, origin, streams.ReasonLogNotFound, cause, js.Conn().MaxPayload())
		if _, err := js.PublishMsg(t.Context(), letter); err != nil {
			t.Fatal(err)
		}
	}
	if n := count(t, js, streams.StreamDead, ">"); n != 1 {
		t.Errorf("%d letters are stored", n)
	}
	stored := storedLetter(t, js, streams.KindCheck)
	if !bytes.Equal(stored.Data, original.Data()) || stored.Header.Get("traceparent") != "00-1-2-01" {
		t.Errorf("the letter is not whole: %s %v", stored.Data, stored.Header)
	}
	for header, want := range map[string]string{
		streams.HeaderTries:         "", // put back on its subject, it begins anew
		streams.HeaderDeadReason:    "log_not_found",
		streams.HeaderDeadError:     "no log of this id",
		streams.HeaderDeadSubject:   original.Subject(),
		streams.HeaderDeadStream:    "PUBLISH_CHECKS",
		streams.HeaderDeadSequence:  strconv.FormatUint(first.Sequence.Stream, 10),
		streams.HeaderDeadTime:      first.Timestamp.UTC().Format(time.RFC3339Nano),
		streams.HeaderDeadTruncated: "",
	} {
		if got := stored.Header.Get(header); got != want {
			t.Errorf("%s is %q, want %q", header, got, want)
		}
	}
	for name := range stored.Header {
		if strings.HasPrefix(name, "Nats-") && name != nats.MsgIdHdr {
			t.Errorf("%s was carried over", name)
		}
	}
}

// A letter is stored whatever its original was like, with as much of it as there is room for.
func TestDeadLetterFits(t *testing.T) {
	t.Parallel()
	js := setup(t)
	limit := int(js.Conn().MaxPayload())
	few := nats.Header{"a": {"1", "2"}}
	// The letter's own headers come to less than 300 bytes here.
	for name, test := range map[string]struct {
		headers   nats.Header
		body      int
		truncated bool
		least     int // bytes of the body that must be left
		lost      bool
	}{
		"empty":                        {nil, 0, false, 0, false},
		"small":                        {few, 100, false, 100, false},
		"just fits":                    {few, limit - 600, false, limit - 600, false},
		"as large as a message is":     {few, limit - 30, true, limit - 700, false},
		"no headers":                   {nil, limit, true, limit - 700, false},
		"headers fill it":              {nats.Header{"a": {strings.Repeat("x", limit-40)}}, 10, false, 10, true},
		"most headers JetStream takes": {nats.Header{"a": {strings.Repeat("x", 65_515)}}, 10, false, 10, true},
		"many headers and body":        {nats.Header{"a": {strings.Repeat("x", 60_000)}}, limit - 60_040, true, limit - 61_000, false},
		"unsendable and huge":          {nats.Header{"a b": {strings.Repeat("x", limit-40)}}, 10, false, 10, true},
		"a letter's own headers":       {nats.Header{"Publish-Dead-Truncated": {"1"}, "Publish-Dead-Old": {"1"}}, 10, false, 10, true},
		"names other clients write":    {nats.Header{"a b": {"1"}, "é": {"1"}, "a(b)": {"1"}, "a\"b": {"1"}, "a\\b": {"1"}, "a{b": {"1"}}, 10, false, 10, true},
	} {
		t.Run(name, func(t *testing.T) {
			body := bytes.Repeat([]byte("b"), test.body)
			original := original{subject: "publish.webhook.tiktok", headers: test.headers, body: body}
			origin := &jetstream.MsgMetadata{Stream: streams.StreamWebhooks, Sequence: jetstream.SequencePair{Stream: 7}, Timestamp: time.Now()}
			letter := streams.DeadLetter(streams.KindWebhook, original, origin, streams.ReasonMalformedJSON, errors.New("broken"), int64(limit))
			if _, err := js.PublishMsg(t.Context(), letter); err != nil {
				t.Fatal(err)
			}
			stored := storedLetter(t, js, streams.KindWebhook)
			if !bytes.HasPrefix(body, stored.Data) || len(stored.Data) < test.least {
				t.Errorf("%d bytes of the body are left", len(stored.Data))
			}
			want := ""
			if test.truncated {
				want = strconv.Itoa(test.body)
			} else if len(stored.Data) != test.body {
				t.Errorf("%d bytes of %d are left", len(stored.Data), test.body)
			}
			if got := stored.Header.Get(streams.HeaderDeadTruncated); got != want {
				t.Errorf("truncated header is %q, want %q", got, want)
			}
			if stored.Header.Get(streams.HeaderDeadReason) != "malformed_json" {
				t.Errorf("headers are %v", stored.Header)
			}
			for header, values := range test.headers {
				if test.lost == (len(stored.Header[header]) == len(values)) && header != streams.HeaderDeadTruncated {
					t.Errorf("header %.20q: lost is %t", header, !test.lost)
				}
			}
		})
	}
}

// Neither the server's limit nor JetStream's own for headers is passed, least of all by the header that
// says what was cut.
func TestDeadLetterAtTheEdge(t *testing.T) {
	t.Parallel()
	const limit, headerLimit = 1 << 20, 1<<16 - 1
	for size := 64_900; size < headerLimit; size++ {
		original := original{subject: "publish.webhook.tiktok", headers: nats.Header{"a": {strings.Repeat("x", size)}}, body: make([]byte, limit-size-40)}
		letter := streams.DeadLetter(streams.KindWebhook, original, &jetstream.MsgMetadata{}, streams.ReasonMalformedJSON, errors.New("broken"), limit)
		if total := letter.Size() - len(letter.Subject); total > limit || total-len(letter.Data) > headerLimit {
			t.Fatalf("%d bytes of headers became %d, %d with the body", size, total-len(letter.Data), total)
		}
	}
}

func TestDeadLetterWithoutLimit(t *testing.T) {
	t.Parallel()
	body := bytes.Repeat([]byte("b"), 2<<20)
	letter := streams.DeadLetter(streams.KindWebhook, original{body: body}, &jetstream.MsgMetadata{}, streams.ReasonMalformedJSON, errors.New("broken"), 0)
	if len(letter.Data) != len(body) {
		t.Errorf("%d bytes are left", len(letter.Data))
	}
}

func TestDeadLetterError(t *testing.T) {
	t.Parallel()
	cause := errors.New(strings.Repeat("я", 5000))
	letter := streams.DeadLetter(streams.KindSweep, original{}, &jetstream.MsgMetadata{}, streams.ReasonInvalidValue, cause, 1<<20)
	if got := letter.Header.Get(streams.HeaderDeadError); got != strings.Repeat("я", 512)+"…" {
		t.Errorf("%d bytes: %.20s", len(got), got)
	}
	if letter.Subject != "publish.dead.sweep" {
		t.Errorf("subject is %s", letter.Subject)
	}
}

// A stream that was deleted and made anew begins again at 1: its letters are letters of their own.
func TestDeadLetterOfANewStream(t *testing.T) {
	t.Parallel()
	js := streamstest.New(t).JetStream(t)
	if err := streams.Ensure(t.Context(), js, streams.Config{}); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		origin := &jetstream.MsgMetadata{Stream: streams.StreamWebhooks, Sequence: jetstream.SequencePair{Stream: 1}, Timestamp: time.Unix(int64(i), 0)}
		letter := streams.DeadLetter(streams.KindWebhook, original{}, origin, streams.ReasonMalformedJSON, errors.New("broken"), 1<<20)
		if _, err := js.PublishMsg(t.Context(), letter); err != nil {
			t.Fatal(err)
		}
	}
	if n := count(t, js, streams.StreamDead, ">"); n != 2 {
		t.Errorf("%d letters are stored", n)
	}
}

func storedLetter(t *testing.T, js jetstream.JetStream, kind streams.Kind) *jetstream.RawStreamMsg {
	t.Helper()
	stream, err := js.Stream(t.Context(), streams.StreamDead)
	if err != nil {
		t.Fatal(err)
	}
	msg, err := stream.GetLastMsgForSubject(t.Context(), streams.DeadSubject(kind))
	if err != nil {
		t.Fatal(err)
	}
	return msg
}

// original is a message as no Go client could send it.
type original struct {
	jetstream.Msg
	subject string
	headers nats.Header
	body    []byte
}

func (o original) Subject() string      { return o.subject }
func (o original) Headers() nats.Header { return o.headers }
func (o original) Data() []byte         { return o.body }
