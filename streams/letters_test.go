package streams_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"publish-reconciler/streams"
)

// letterOf is a dead letter as the service publishes it, of a message that never was. It carries a header that nats.go
// takes for the server's.
func letterOf(kind streams.Kind, subject string, reason streams.Reason, body string) *nats.Msg {
	origin := &jetstream.MsgMetadata{Stream: streams.StreamWebhooks, Sequence: jetstream.SequencePair{Stream: 7}, Timestamp: time.Unix(1_700_000_000, 5)}
	msg := streams.DeadLetter(kind, original{subject: subject, headers: nats.Header{"a": {"1"}, "Status": {"404"}}, body: []byte(body)}, origin, reason, errors.New("broken"), 1<<20)
	msg.Header.Del(nats.MsgIdHdr)
	return msg
}

func publishLetter(t *testing.T, js jetstream.JetStream, msg *nats.Msg) {
	t.Helper()
	if _, err := js.PublishMsg(t.Context(), msg); err != nil {
		t.Fatal(err)
	}
}

// publishLetters publishes n letters, of webhooks and checks by turns, every third one with another reason.
func publishLetters(tb testing.TB, js jetstream.JetStream, n int) {
	tb.Helper()
	for i := range n {
		kind, subject := streams.KindWebhook, "publish.webhook.tiktok"
		if i%2 == 1 {
			kind, subject = streams.KindCheck, "publish.check.x"
		}
		reason := streams.ReasonMalformedJSON
		if i%3 == 0 {
			reason = streams.ReasonRefused
		}
		if _, err := js.PublishMsgAsync(letterOf(kind, subject, reason, fmt.Sprint(i)), jetstream.WithStallWait(patience)); err != nil {
			tb.Fatal(err)
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(patience):
		tb.Fatal("letters not stored")
	}
}

func TestGetLetter(t *testing.T) {
	t.Parallel()
	js := setup(t)
	publishLetter(t, js, letterOf(streams.KindWebhook, "publish.webhook.tiktok", streams.ReasonMalformedJSON, "body"))
	got, err := open(t, js).Get(t.Context(), 1)
	if err != nil || time.Since(got.Time) > time.Minute {
		t.Fatal(got.Time, err)
	}
	want := streams.Letter{
		Sequence: 1, Time: got.Time, Kind: "webhook", Reason: "malformed_json", Error: "broken", Subject: "publish.webhook.tiktok",
		Stream: "PUBLISH_WEBHOOKS", OriginalSequence: 7, OriginalTime: time.Unix(1_700_000_000, 5).UTC(), Size: 4, Whole: 4,
		Header: nats.Header{"a": {"1"}, "Status": {"404"}}, Body: []byte("body"),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	var listed []streams.Letter
	if err := open(t, js).Each(t.Context(), streams.LetterFilter{}, func(l streams.Letter) error { listed = append(listed, l); return nil }); err != nil {
		t.Fatal(err)
	}
	want.Body = nil
	if diff := cmp.Diff([]streams.Letter{want}, listed); diff != "" {
		t.Error(diff)
	}
	for _, sequence := range []uint64{0, 2, 1 << 63} {
		if _, err := open(t, js).Get(t.Context(), sequence); !errors.Is(err, streams.ErrLetterNotFound) {
			t.Errorf("letter %d: %v", sequence, err)
		}
	}
}

func TestDropLetter(t *testing.T) {
	t.Parallel()
	js := setup(t)
	publishLetters(t, js, 3)
	letters := open(t, js)
	if err := letters.Drop(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	for _, sequence := range []uint64{0, 2, 9} {
		if err := letters.Drop(t.Context(), sequence); !errors.Is(err, streams.ErrLetterNotFound) {
			t.Errorf("letter %d: %v", sequence, err)
		}
	}
	if n := count(t, js, streams.StreamDead, ">"); n != 2 {
		t.Errorf("%d letters are left", n)
	}
}

// Pages are the same letters, newest first, whatever their size, with holes between them and with filters.
func TestListLetters(t *testing.T) {
	t.Parallel()
	js := setup(t)
	const n = 2500
	publishLetters(t, js, n/2)
	half := time.Now()
	publishLetters(t, js, n/2)
	letters := open(t, js)
	for sequence := uint64(1); sequence < 700; sequence++ { // more than a window
		if err := letters.Drop(t.Context(), n-3-sequence); err != nil {
			t.Fatal(err)
		}
	}
	for name, filter := range map[string]streams.LetterFilter{
		"all":     {},
		"kind":    {Kind: streams.KindCheck},
		"reason":  {Reason: streams.ReasonRefused},
		"both":    {Kind: streams.KindWebhook, Reason: streams.ReasonRefused},
		"since":   {Since: half},
		"through": {Through: 1000},
		"none":    {Reason: "other"},
		"future":  {Since: half.Add(time.Hour)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var want []uint64
			if err := letters.Each(t.Context(), filter, func(l streams.Letter) error { want = append(want, l.Sequence); return nil }); err != nil {
				t.Fatal(err)
			}
			atLeast := map[string]int{"all": 1801, "kind": 890, "reason": 580, "both": 290, "since": 550, "through": 1000}[name]
			if len(want) < atLeast || (atLeast == 0) != (len(want) == 0) {
				t.Fatalf("%d letters", len(want))
			}
			for _, limit := range []int{1, 49, 600, 5000} {
				if limit == 1 {
					limit, want = 7, want[max(0, len(want)-21):]
				}
				var got []uint64
				for before := uint64(0); ; {
					page, next, err := letters.List(t.Context(), filter, before, limit)
					if err != nil || len(page) > limit {
						t.Fatal(len(page), err)
					}
					for _, l := range page {
						if l.Body != nil || filter.Kind != "" && l.Kind != filter.Kind || filter.Reason != "" && l.Reason != filter.Reason {
							t.Errorf("%+v is listed", l)
						}
						got = append(got, l.Sequence)
					}
					if before = next; next == 0 || limit == 7 && len(got) >= 21 {
						break
					}
				}
				if limit == 7 {
					got = got[:len(want)]
				}
				if len(got) < len(want) {
					t.Fatalf("%d of %d letters, %d a page", len(got), len(want), limit)
				}
				for i := range want {
					if got[i] != want[len(want)-1-i] {
						t.Fatalf("letter %d is %d, want %d, %d a page", i, got[i], want[len(want)-1-i], limit)
					}
				}
			}
		})
	}
}

func TestNoLetters(t *testing.T) {
	t.Parallel()
	js := setup(t)
	letters := open(t, js)
	page, next, err := letters.List(t.Context(), streams.LetterFilter{}, 0, 10)
	if err != nil || len(page) != 0 || next != 0 {
		t.Error(page, next, err)
	}
	publishLetters(t, js, 1)
	if page, next, err = letters.List(t.Context(), streams.LetterFilter{}, 1, 10); err != nil || len(page) != 0 || next != 0 {
		t.Error(page, next, err)
	}
	if err := letters.Drop(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if page, next, err = letters.List(t.Context(), streams.LetterFilter{}, 0, 10); err != nil || len(page) != 0 || next != 0 {
		t.Error(page, next, err)
	}
	if err := letters.Each(t.Context(), streams.LetterFilter{}, func(streams.Letter) error { return errors.New("visited") }); err != nil {
		t.Error(err)
	}
}

// Letters that die while others are visited would be visited for ever, if each visit brought a new one.
func TestEachLetterOnce(t *testing.T) {
	t.Parallel()
	js := setup(t)
	const n = 1200
	publishLetters(t, js, n)
	letters := open(t, js)
	visited, enough := 0, errors.New("enough")
	err := letters.Each(t.Context(), streams.LetterFilter{}, func(l streams.Letter) error {
		visited++
		publishLetter(t, js, letterOf(streams.KindWebhook, "publish.webhook.tiktok", streams.ReasonRefused, ""))
		return letters.Drop(t.Context(), l.Sequence)
	})
	if err != nil || visited != n {
		t.Errorf("%d letters were visited, %v", visited, err)
	}
	visited = 0
	if err := letters.Each(t.Context(), streams.LetterFilter{}, func(streams.Letter) error { visited++; return enough }); !errors.Is(err, enough) || visited != 1 {
		t.Errorf("%d were visited, %v", visited, err)
	}
	if names := streamInfo(t, js, streams.StreamDead).State.Consumers; names != 0 {
		t.Errorf("%d consumers were left", names)
	}
}

// Whatever a letter's headers hold, they can be read and shown.
func FuzzReadLetter(f *testing.F) {
	f.Add("publish.dead.webhook", "malformed_json", "7", "2024-01-15T10:30:00Z", "1048576", "1", "Publish-Dead-Reason", 10)
	f.Add("publish.dead.", "", "-1", "0000-00-00T00:00:00Z", "-5", "99999999999999999999", "Nats-Msg-Id", 0)
	f.Add("x", "\x1b[2J", "1e3", "9999-12-31T23:59:59.999999999+23:59", "1", "\xff", "a\x00b", -1)
	f.Fuzz(func(t *testing.T, subject, reason, sequence, at, truncated, replays, name string, size int) {
		letter := streams.ReadLetter(subject, nats.Header{
			streams.HeaderDeadReason: {reason}, streams.HeaderDeadSequence: {sequence}, streams.HeaderDeadTime: {at},
			streams.HeaderDeadTruncated: {truncated}, streams.HeaderDeadReplays: {replays}, name: {reason, at},
		}, size)
		if letter.Size != size || letter.Whole < size || letter.Truncated() != (letter.Whole > size) || letter.Replays < 0 {
			t.Errorf("%+v", letter)
		}
		for name := range letter.Header {
			if strings.HasPrefix(name, "Nats-") || strings.HasPrefix(name, "Publish-") {
				t.Errorf("%s came with the original", name)
			}
		}
		if _, err := json.Marshal(letter); err != nil {
			t.Error(err)
		}
	})
}

func BenchmarkReplay(b *testing.B) {
	js := setup(b)
	const n, lot = 500, 100
	var sequence uint64
	for b.Loop() {
		publishLetters(b, js, n)
		letters, err := streams.OpenLetters(b.Context(), js)
		if err != nil {
			b.Fatal(err)
		}
		r, err := letters.Replayer(b.Context(), false)
		if err != nil {
			b.Fatal(err)
		}
		for range n / lot {
			var some []uint64
			for range lot {
				sequence++
				some = append(some, sequence)
			}
			for _, result := range r.ReplayAll(b.Context(), some) {
				if result.Err != nil || result.Before {
					b.Fatal(result)
				}
			}
		}
	}
	b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "letters/s")
}
