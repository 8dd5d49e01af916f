package streams_test

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"publish-reconciler/streams"
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
	return replayerOf(t, js, false)
}

func replayerOf(t *testing.T, js jetstream.JetStream, again bool) *streams.Replayer {
	t.Helper()
	r, err := open(t, js).Replayer(t.Context(), again)
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

func refusedReplay(t *testing.T, js jetstream.JetStream, letter streams.Letter, want string) (begun time.Time) {
	t.Helper()
	before, err := replayer(t, js).Replay(t.Context(), letter.Sequence)
	var refusal *streams.ReplayError
	if !errors.As(err, &refusal) || before || refusal.Sequence != letter.Sequence || !strings.Contains(err.Error(), want) {
		t.Fatalf("%t, %v; want %s", before, err, want)
	}
	if _, err := open(t, js).Get(t.Context(), letter.Sequence); err != nil {
		t.Errorf("the letter has not stayed: %v", err)
	}
	return refusal.Begun
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
			got := msg.Headers()
			got.Del(jetstream.ExpectedStreamHeader)
			stored, err := time.Parse(time.RFC3339Nano, got.Get(streams.HeaderFirstTime))
			if err != nil || !stored.Equal(letter.OriginalTime) {
				t.Errorf("it was stored at %s first, and %s is told: %v", letter.OriginalTime, stored, err)
			}
			got.Del(streams.HeaderFirstTime)
			want := nats.Header{
				"traceparent": {"00-1", "00-2"}, streams.HeaderReplayed: {strconv.FormatUint(letter.Sequence, 10)}, streams.HeaderReplays: {"1"}, streams.HeaderFirstSequence: {strconv.FormatUint(letter.OriginalSequence, 10)},
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

// shrinkWindow gives the streams the shortest duplicate window that there is, and waits until all that was begun is
// older than what is surely within it.
func shrinkWindow(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	const window = 600 * time.Millisecond
	var begun time.Time
	for _, name := range []string{streams.StreamWebhooks, streams.StreamChecks} {
		info := streamInfo(t, js, name)
		info.Config.Duplicates = window
		updateStream(t, js, info.Config)
		begun = info.TimeStamp
	}
	eventually(t, "the window is over", func() bool {
		return streamInfo(t, js, streams.StreamDead).TimeStamp.Sub(begun) > window
	})
}

// One that was stored, and whose letter was not deleted, is not stored again by the next replay, which ends it.
func TestReplayCutOff(t *testing.T) {
	t.Parallel()
	for name, test := range everyKind() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			js := setup(t)
			letter := buried(t, js, test.kind, test.subject, test.body)
			if before, err := replayer(t, js).Store(t.Context(), letter.Sequence); err != nil || before {
				t.Fatal(before, err)
			}
			arrived(t, js, test.kind)
			replayed(t, js, letter, true)
			nothingArrives(t, js)
		})
	}
}

// Once JetStream forgets its message id, nobody stores it again who does not want that.
func TestReplayInDoubt(t *testing.T) {
	t.Parallel()
	for name, test := range everyKind() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			js := setup(t)
			shrinkWindow(t, js)
			letter := buried(t, js, test.kind, test.subject, test.body)
			if before, err := replayer(t, js).Store(t.Context(), letter.Sequence); err != nil || before {
				t.Fatal(before, err)
			}
			arrived(t, js, test.kind)
			shrinkWindow(t, js)
			for range 2 {
				if begun := refusedReplay(t, js, letter, "cut off, and the original may be back on its subject"); time.Since(begun) > time.Minute {
					t.Errorf("it was begun at %s", begun)
				}
			}
			nothingArrives(t, js)
			again := replayerOf(t, js, true)
			eventually(t, "it is stored a second time", func() bool {
				before, err := again.Store(t.Context(), letter.Sequence)
				if err != nil && strings.Contains(err.Error(), "too long to be sure") {
					return false // the window is short, and the machine busy: nothing was stored
				}
				if err != nil {
					t.Fatal(err)
				}
				return !before
			})
			if msg := arrived(t, js, test.kind); string(msg.Data()) != test.body {
				t.Errorf("%q came back", msg.Data())
			}
			nothingArrives(t, js)
		})
	}
}

// Cut off before it is stored, it is stored by the next one, and that one only.
func TestReplayCutOffEarly(t *testing.T) {
	t.Parallel()
	for name, test := range everyKind() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			js := setup(t)
			letter := buried(t, js, test.kind, test.subject, test.body)
			goOn, err := replayer(t, js).Begin(t.Context(), letter.Sequence)
			if err != nil {
				t.Fatal(err)
			}
			nothingArrives(t, js)
			replayed(t, js, letter, false)
			if msg := arrived(t, js, test.kind); string(msg.Data()) != test.body {
				t.Errorf("%q came back", msg.Data())
			}
			if before, err := goOn(); err != nil || !before {
				t.Errorf("the one that hung: %t, %v", before, err)
			}
			nothingArrives(t, js)
		})
	}
}

// Who hangs until his claim is in doubt stores nothing.
func TestReplayHangs(t *testing.T) {
	t.Parallel()
	js := setup(t)
	letter := buried(t, js, streams.KindWebhook, "publish.webhook.tiktok", tiktokBody)
	shrinkWindow(t, js)
	goOn, err := replayer(t, js).Begin(t.Context(), letter.Sequence)
	if err != nil {
		t.Fatal(err)
	}
	shrinkWindow(t, js) // the time is over once more
	if _, err := goOn(); err == nil || !strings.Contains(err.Error(), "too long to be sure that it is done once") {
		t.Error(err)
	}
	nothingArrives(t, js)
	refusedReplay(t, js, letter, "cut off")
}

// A claim that is taken over keeps its age: however many replays are cut off, the window is one.
func TestReplayCutOffTwice(t *testing.T) {
	t.Parallel()
	js := setup(t)
	letter := buried(t, js, streams.KindWebhook, "publish.webhook.tiktok", tiktokBody)
	if _, err := replayer(t, js).Begin(t.Context(), letter.Sequence); err != nil {
		t.Fatal(err)
	}
	claims, err := js.KeyValue(t.Context(), streams.BucketReplays)
	if err != nil {
		t.Fatal(err)
	}
	place := strconv.FormatUint(letter.Sequence, 10) + "-" + strconv.FormatInt(letter.Time.UnixNano(), 10)
	first, err := claims.Get(t.Context(), place)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := replayer(t, js).Begin(t.Context(), letter.Sequence); err != nil {
			t.Fatal(err)
		}
		claim, err := claims.Get(t.Context(), place)
		if err != nil {
			t.Fatal(err)
		}
		if begun, err := time.Parse(time.RFC3339Nano, string(claim.Value())); err != nil || !begun.Equal(first.Created()) {
			t.Errorf("the claim of %s is kept as of %q", first.Created(), claim.Value())
		}
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
			if again.Sequence == letter.Sequence || again.OriginalSequence != letter.OriginalSequence || !again.OriginalTime.Equal(letter.OriginalTime) {
				t.Errorf("%+v is not a letter of its own about what %+v is about", again, letter)
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
	if again := bury(t, js, streams.KindCheck); again.Replays != 1 || again.OriginalSequence != letter.OriginalSequence {
		t.Errorf("%+v", again)
	}
}

// The claims outlive the letters, and end.
func TestReplayClaims(t *testing.T) {
	t.Parallel()
	js := setup(t)
	replayed(t, js, buried(t, js, streams.KindWebhook, "publish.webhook.tiktok", tiktokBody), false)
	replayed(t, js, buried(t, js, streams.KindCheck, "publish.check.x", ""), false)
	claims, err := js.KeyValue(t.Context(), streams.BucketReplays)
	if err != nil {
		t.Fatal(err)
	}
	status, err := claims.Status(t.Context())
	if err != nil || status.Values() != 2 || status.TTL() != 31*24*time.Hour || status.Config().Replicas != 1 || status.Config().Storage != jetstream.FileStorage {
		t.Errorf("%v, %v", status, err)
	}
}

// They are kept as the letters are by now.
func TestReplayClaimsAreAdapted(t *testing.T) {
	t.Parallel()
	js := setup(t)
	replayed(t, js, buried(t, js, streams.KindCheck, "publish.check.x", ""), false)
	dead := streamInfo(t, js, streams.StreamDead).Config
	dead.MaxAge = 90 * 24 * time.Hour
	updateStream(t, js, dead)
	replayed(t, js, buried(t, js, streams.KindCheck, "publish.check.x", ""), false)
	claims, err := js.KeyValue(t.Context(), streams.BucketReplays)
	if err != nil {
		t.Fatal(err)
	}
	if status, err := claims.Status(t.Context()); err != nil || status.Values() != 2 || status.TTL() != 91*24*time.Hour {
		t.Errorf("%v, %v", status, err)
	}
}
