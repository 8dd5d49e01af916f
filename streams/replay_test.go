package streams_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"publish-reconciler/streams"
	"publish-reconciler/streams/streamstest"
)

// buried is a message that was published, and then died as the service has it.
func buried(t *testing.T, js jetstream.JetStream, kind streams.Kind, subject, body string, headers ...string) streams.Letter {
	t.Helper()
	msg := nats.NewMsg(subject)
	msg.Data = []byte(body)
	for i := 0; i < len(headers); i += 2 {
		msg.Header[headers[i]] = append(msg.Header[headers[i]], headers[i+1])
	}
	if _, err := js.PublishMsg(t.Context(), msg); err != nil {
		t.Fatal(err)
	}
	return bury(t, js, kind)
}

// bury has the next message of a kind die.
func bury(t *testing.T, js jetstream.JetStream, kind streams.Kind) streams.Letter {
	t.Helper()
	died := arrived(t, js, kind)
	origin, err := died.Metadata()
	if err != nil {
		t.Fatal(err)
	}
	ack, err := js.PublishMsg(t.Context(), streams.DeadLetter(kind, died, origin, streams.ReasonRefused, errors.New(strings.Repeat("no room ", 50)), js.Conn().MaxPayload()))
	if err != nil {
		t.Fatal(err)
	}
	letter, err := open(t, js).Get(t.Context(), ack.Sequence)
	if err != nil {
		t.Fatal(err)
	}
	return letter
}

// arrived is the next message of a kind, settled.
func arrived(t *testing.T, js jetstream.JetStream, kind streams.Kind) jetstream.Msg {
	t.Helper()
	stream, consumer := streams.StreamChecks, streams.ConsumerChecks
	switch kind {
	case streams.KindWebhook:
		stream, consumer = streams.StreamWebhooks, streams.ConsumerWebhooks
	case streams.KindSweep:
		consumer = streams.ConsumerSweeper
	}
	msg := next(t, js, stream, consumer)
	if err := msg.DoubleAck(t.Context()); err != nil {
		t.Fatal(err)
	}
	return msg
}

// nothingArrives wants nobody to be given a message of a kind.
func nothingArrives(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	for _, definition := range streams.Consumers() {
		c, err := js.Consumer(t.Context(), definition.Stream, definition.Config.Durable)
		if err != nil {
			t.Fatal(err)
		}
		if info := c.CachedInfo(); info.NumPending > 0 || info.NumAckPending > 0 {
			t.Errorf("%d messages wait for %s", info.NumPending, info.Name)
		}
	}
}

func open(t *testing.T, js jetstream.JetStream) *streams.Letters {
	t.Helper()
	letters, err := streams.OpenLetters(t.Context(), js)
	if err != nil {
		t.Fatal(err)
	}
	return letters
}

func replayer(t *testing.T, js jetstream.JetStream) *streams.Replayer {
	t.Helper()
	r, err := open(t, js).Replayer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// replayed wants a letter to be replayed, by whoever it was.
func replayed(t *testing.T, js jetstream.JetStream, letter streams.Letter, wantBefore bool) {
	t.Helper()
	if before, err := replayer(t, js).Replay(t.Context(), letter.Sequence); err != nil || before != wantBefore {
		t.Fatalf("before is %t, %v", before, err)
	}
	if _, err := open(t, js).Get(t.Context(), letter.Sequence); !errors.Is(err, streams.ErrLetterNotFound) {
		t.Errorf("the letter is still there: %v", err)
	}
}

func refusedReplay(t *testing.T, js jetstream.JetStream, letter streams.Letter, want string) {
	t.Helper()
	before, err := replayer(t, js).Replay(t.Context(), letter.Sequence)
	var refusal *streams.ReplayError
	if !errors.As(err, &refusal) || before || refusal.Sequence != letter.Sequence || !strings.Contains(err.Error(), want) {
		t.Fatalf("%t, %v; want %s", before, err, want)
	}
	if _, err := open(t, js).Get(t.Context(), letter.Sequence); err != nil {
		t.Errorf("the letter has not stayed: %v", err)
	}
}

type kindOfLetter struct {
	kind          streams.Kind
	subject, body string
}

// everyKind has a message of each kind.
func everyKind() map[string]kindOfLetter {
	return map[string]kindOfLetter{
		"webhook": {streams.KindWebhook, "publish.webhook.InstaGram", instagramBody},
		"odd":     {streams.KindWebhook, "publish.webhook.a*b>c\"ü", "\x00\xff"},
		"check":   {streams.KindCheck, streams.CheckSubject(uuid.New()), `{"timeout_minutes":1}`},
		"no id":   {streams.KindCheck, "publish.check.x", ``},
		"sweep":   {streams.KindSweep, "publish.sweep", `{"since_minutes":5}`},
	}
}

func TestReplay(t *testing.T) {
	t.Parallel()
	for name, test := range everyKind() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			js := setup(t)
			letter := buried(t, js, test.kind, test.subject, test.body, "traceparent", "00-1", "traceparent", "00-2", "Nats-Msg-Id", "theirs", "Publish-Own", "x")
			replayed(t, js, letter, false)
			msg := arrived(t, js, test.kind)
			if msg.Subject() != test.subject || string(msg.Data()) != test.body {
				t.Errorf("%s %q came back", msg.Subject(), msg.Data())
			}
			got := make(nats.Header)
			for name, values := range msg.Headers() {
				if !strings.HasPrefix(name, "Nats-Batch-") {
					got[name] = values
				}
			}
			want := nats.Header{
				"traceparent": {"00-1", "00-2"}, streams.HeaderReplayed: {strconv.FormatUint(letter.Sequence, 10)}, streams.HeaderReplays: {"1"},
				nats.MsgIdHdr: {"PUBLISH_DEAD-" + strconv.FormatUint(letter.Sequence, 10) + "-" + strconv.FormatInt(letter.Time.UnixNano(), 10)},
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			if _, err := replayer(t, js).Replay(t.Context(), letter.Sequence); !errors.Is(err, streams.ErrLetterNotFound) {
				t.Errorf("a second time: %v", err)
			}
			nothingArrives(t, js)
		})
	}
}

// One that was stored, and whose letter was not deleted, is never stored again: not while JetStream remembers
// its message id, nor after, nor when the message itself has long been done.
func TestReplayCutOff(t *testing.T) {
	t.Parallel()
	for name, test := range everyKind() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := streamstest.New(t)
			js := server.JetStream(t)
			if err := streams.Ensure(t.Context(), js, streams.Config{}); err != nil {
				t.Fatal(err)
			}
			letter := buried(t, js, test.kind, test.subject, test.body)
			slow := replayer(t, js) // it has read the letter, and hangs
			if before, err := replayer(t, js).Store(t.Context(), letter); err != nil || before {
				t.Fatal(before, err)
			}
			arrived(t, js, test.kind)
			for _, name := range []string{streams.StreamWebhooks, streams.StreamChecks} {
				cfg := streamInfo(t, js, name).Config
				cfg.Duplicates = 100 * time.Millisecond
				if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
					t.Fatal(err)
				}
			}
			// After a restart the server remembers no id older than the window.
			time.Sleep(200 * time.Millisecond)
			if err := server.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the server is back", func() bool { _, err := open(t, js).Last(t.Context()); return err == nil })
			replayed(t, js, letter, true)
			if before, err := slow.Store(t.Context(), letter); err != nil || !before {
				t.Errorf("the one that hung: %t, %v", before, err)
			}
			nothingArrives(t, js)
		})
	}
}

// Cut off before the webhook is stored, it is stored by the next one.
func TestReplayCutOffEarly(t *testing.T) {
	t.Parallel()
	js := setup(t)
	letter := buried(t, js, streams.KindWebhook, "publish.webhook.tiktok", tiktokBody)
	if err := replayer(t, js).Begin(t.Context(), letter); err != nil {
		t.Fatal(err)
	}
	nothingArrives(t, js)
	replayed(t, js, letter, false)
	if msg := arrived(t, js, streams.KindWebhook); string(msg.Data()) != tiktokBody {
		t.Errorf("%s came back", msg.Data())
	}
	nothingArrives(t, js)
}

// The stream of webhooks forgets sooner than the dead letters' does.
func TestReplayForgotten(t *testing.T) {
	t.Parallel()
	purge := func(t *testing.T, js jetstream.JetStream) {
		t.Helper()
		s, err := js.Stream(t.Context(), streams.StreamWebhooks)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Purge(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	anew := func(t *testing.T, js jetstream.JetStream) {
		t.Helper()
		if err := js.DeleteStream(t.Context(), streams.StreamWebhooks); err != nil {
			t.Fatal(err)
		}
		if err := streams.Ensure(t.Context(), js, streams.Config{}); err != nil {
			t.Fatal(err)
		}
	}
	for name, forget := range map[string]func(*testing.T, jetstream.JetStream){"purged": purge, "anew": anew} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			js := setup(t)
			stored := buried(t, js, streams.KindWebhook, "publish.webhook.tiktok", tiktokBody)
			untouched := buried(t, js, streams.KindWebhook, "publish.webhook.tiktok", instagramBody)
			if _, err := replayer(t, js).Store(t.Context(), stored); err != nil {
				t.Fatal(err)
			}
			arrived(t, js, streams.KindWebhook)
			forget(t, js)
			refusedReplay(t, js, stored, "and PUBLISH_WEBHOOKS does not reach back so far any more: it can't be told whether the webhook was stored then")
			nothingArrives(t, js)
			replayed(t, js, untouched, false)
			if msg := arrived(t, js, streams.KindWebhook); string(msg.Data()) != instagramBody {
				t.Errorf("%s came back", msg.Data())
			}
		})
	}
}

func TestReplayTwiceAtOnce(t *testing.T) {
	t.Parallel()
	js := setup(t)
	const each, operators = 20, 6
	var letters []streams.Letter
	for i := range each {
		letters = append(letters,
			buried(t, js, streams.KindWebhook, "publish.webhook.tiktok", strconv.Itoa(i)),
			buried(t, js, streams.KindCheck, "publish.check.x", strconv.Itoa(i)))
	}
	var running sync.WaitGroup
	var stored atomic.Int32
	for range operators {
		r := replayer(t, js)
		running.Go(func() {
			for _, letter := range letters {
				before, err := r.Replay(t.Context(), letter.Sequence)
				if err != nil && !errors.Is(err, streams.ErrLetterNotFound) {
					t.Error(err)
				}
				if err == nil && !before {
					stored.Add(1)
				}
			}
		})
	}
	running.Wait()
	if n := stored.Load(); n != 2*each {
		t.Errorf("%d letters were stored", n)
	}
	for _, kind := range []streams.Kind{streams.KindWebhook, streams.KindCheck} {
		came := make(map[string]int)
		for range each {
			came[string(arrived(t, js, kind).Data())]++
		}
		if len(came) != each {
			t.Errorf("%s: %v", kind, came)
		}
	}
	nothingArrives(t, js)
	if n := count(t, js, streams.StreamDead, ">"); n != 0 {
		t.Errorf("%d letters are left", n)
	}
}

// A replayed message that dies again has a letter of its own, and can be replayed again.
func TestReplayDiesAgain(t *testing.T) {
	t.Parallel()
	js := setup(t)
	for _, kind := range []streams.Kind{streams.KindWebhook, streams.KindCheck} {
		subject := map[streams.Kind]string{streams.KindWebhook: "publish.webhook.tiktok", streams.KindCheck: streams.CheckSubject(uuid.New())}[kind]
		letter := buried(t, js, kind, subject, "bad", "a", "1")
		for n := range 3 {
			if letter.Replays != n || letter.Header.Get("a") != "1" || letter.Subject != subject {
				t.Errorf("the letter is %+v after %d replays", letter, n)
			}
			replayed(t, js, letter, false)
			again := bury(t, js, kind)
			if again.Sequence == letter.Sequence || again.OriginalSequence == letter.OriginalSequence {
				t.Errorf("%+v is the letter %+v", again, letter)
			}
			letter = again
		}
	}
}

// A replayed check whose log is not there yet is tried again as such.
func TestReplayedCheckTriedAgain(t *testing.T) {
	t.Parallel()
	js := setup(t)
	id := uuid.New()
	letter := buried(t, js, streams.KindCheck, streams.CheckSubject(id), "")
	replayed(t, js, letter, false)
	msg := arrived(t, js, streams.KindCheck)
	origin, err := msg.Metadata()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.PublishMsg(t.Context(), streams.RetrySchedule(id, msg, origin, 1, time.Now())); err != nil {
		t.Fatal(err)
	}
	if again := bury(t, js, streams.KindCheck); again.Replays != 1 || again.OriginalSequence != origin.Sequence.Stream {
		t.Errorf("%+v", again)
	}
}

func TestReplayTruncated(t *testing.T) {
	t.Parallel()
	js := setup(t)
	limit := int(js.Conn().MaxPayload())
	body := strings.Repeat("x", limit-400)
	letter := buried(t, js, streams.KindWebhook, "publish.webhook.tiktok", body, "a", "1")
	if !letter.Truncated() || letter.Whole != len(body) || letter.Size >= len(body) {
		t.Fatalf("%d of %d bytes", letter.Size, letter.Whole)
	}
	replayed(t, js, letter, false)
	if msg := arrived(t, js, streams.KindWebhook); string(msg.Data()) != body || msg.Headers().Get("a") != "1" {
		t.Errorf("%d bytes came back, %v", len(msg.Data()), msg.Headers())
	}

	largest := buried(t, js, streams.KindWebhook, "publish.webhook.tiktok", strings.Repeat("y", limit))
	refusedReplay(t, js, largest, "with the headers that say so it would be")

	check := buried(t, js, streams.KindCheck, "publish.check.x", strings.Repeat("z", limit-100))
	refusedReplay(t, js, check, "were cut off, and the whole original is not in \"PUBLISH_CHECKS\" any more")

	gone := buried(t, js, streams.KindWebhook, "publish.webhook.tiktok", body)
	s, err := js.Stream(t.Context(), streams.StreamWebhooks)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteMsg(t.Context(), gone.OriginalSequence); err != nil {
		t.Fatal(err)
	}
	refusedReplay(t, js, gone, "were cut off, and the whole original is not in \"PUBLISH_WEBHOOKS\" any more")

	// What lies there now is another message.
	anew := buried(t, js, streams.KindWebhook, "publish.webhook.tiktok", body)
	if err := js.DeleteStream(t.Context(), streams.StreamWebhooks); err != nil {
		t.Fatal(err)
	}
	if err := streams.Ensure(t.Context(), js, streams.Config{}); err != nil {
		t.Fatal(err)
	}
	for range anew.OriginalSequence {
		if _, err := js.Publish(t.Context(), "publish.webhook.tiktok", []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	refusedReplay(t, js, anew, "any more")
}

// Whoever may publish dead letters must not reach other subjects by them.
func TestReplayOfForgedLetters(t *testing.T) {
	t.Parallel()
	js := setup(t)
	seen, err := js.Conn().SubscribeSync(">")
	if err != nil {
		t.Fatal(err)
	}
	if err := seen.SetPendingLimits(-1, -1); err != nil {
		t.Fatal(err)
	}
	for i, test := range []struct{ letter, original string }{
		{"publish.dead.webhook", ""},
		{"publish.dead.webhook", "publish.webhook."},
		{"publish.dead.webhook", "publish.webhook.*"},
		{"publish.dead.webhook", "publish.webhook.>"},
		{"publish.dead.webhook", "publish.webhook.a.b"},
		{"publish.dead.webhook", "publish.webhook.a b"},
		{"publish.dead.webhook", "publish.api.override"},
		{"publish.dead.webhook", "publish.check.x"},
		{"publish.dead.check", "publish.sweep"},
		{"publish.dead.check", "publish.schedule.check.x"},
		{"publish.dead.sweep", "publish.webhook.a"},
		{"publish.dead.other", "publish.webhook.a"},
	} {
		msg := nats.NewMsg(test.letter)
		msg.Header.Set(streams.HeaderDeadSubject, test.original)
		msg.Header.Set(streams.HeaderDeadReplays, "-5")
		if _, err := js.PublishMsg(t.Context(), msg); err != nil {
			t.Fatal(err)
		}
		refusedReplay(t, js, streams.Letter{Sequence: uint64(i + 1)}, "its original's subject is ")
	}
	nothingArrives(t, js)
	for {
		msg, err := seen.NextMsg(100 * time.Millisecond)
		if err != nil {
			break
		}
		if strings.HasPrefix(msg.Subject, "publish.") && !strings.HasPrefix(msg.Subject, "publish.dead.") {
			t.Errorf("%s was published", msg.Subject)
		}
	}
}

// Streams that an administrator owns are not changed: what is missing is named.
func TestReplayNeedsItsStreams(t *testing.T) {
	t.Parallel()
	js := setup(t)
	cfg := streamInfo(t, js, streams.StreamWebhooks).Config
	cfg.AllowAtomicPublish = false
	cfg.Subjects = []string{"publish.webhook.*"}
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	_, err := open(t, js).Replayer(t.Context())
	for _, want := range []string{"allow_atomic is false, must be true", "subjects is publish.webhook.*, must be publish.webhook.* publish.replayed.*"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %s", err, want)
		}
	}
	if err := js.DeleteStream(t.Context(), streams.StreamDead); err != nil {
		t.Fatal(err)
	}
	if _, err := streams.OpenLetters(t.Context(), js); err == nil || err.Error() != "stream PUBLISH_DEAD is missing" {
		t.Error(err)
	}
}

// A stream that takes nothing more keeps the letter.
func TestReplayIntoAFullStream(t *testing.T) {
	t.Parallel()
	js := setup(t)
	letter := buried(t, js, streams.KindWebhook, "publish.webhook.tiktok", tiktokBody)
	cfg := streamInfo(t, js, streams.StreamWebhooks).Config
	cfg.MaxMsgs = 1
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	var refusal *streams.ReplayError
	if _, err := replayer(t, js).Replay(t.Context(), letter.Sequence); err == nil || errors.As(err, &refusal) {
		t.Error(err)
	}
	cfg.MaxMsgs = -1
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	replayed(t, js, letter, false)
}

func TestReplayCancelled(t *testing.T) {
	t.Parallel()
	js := setup(t)
	letter := buried(t, js, streams.KindWebhook, "publish.webhook.tiktok", tiktokBody)
	r := replayer(t, js)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Replay(ended, letter.Sequence); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	replayed(t, js, letter, false)
}

// The notes outlive the letters, and end.
func TestReplayNotes(t *testing.T) {
	t.Parallel()
	js := setup(t)
	replayed(t, js, buried(t, js, streams.KindWebhook, "publish.webhook.tiktok", tiktokBody), false)
	replayed(t, js, buried(t, js, streams.KindCheck, "publish.check.x", ""), false)
	s, err := js.Stream(t.Context(), streams.StreamChecks)
	if err != nil {
		t.Fatal(err)
	}
	subjects := streamInfo(t, js, streams.StreamChecks, jetstream.WithSubjectFilter("publish.replay.*")).State.Subjects
	if len(subjects) != 2 {
		t.Errorf("notes are %v", subjects)
	}
	for subject := range subjects {
		note, err := s.GetLastMsgForSubject(t.Context(), subject)
		if err != nil {
			t.Fatal(err)
		}
		if ttl := note.Header.Get(jetstream.MsgTTLHeader); ttl != "744h0m0s" {
			t.Errorf("%s is kept for %s", subject, ttl)
		}
	}
	if n := count(t, js, streams.StreamWebhooks, "publish.replayed.*"); n != 1 {
		t.Errorf("%d notes beside the webhooks", n)
	}
}
