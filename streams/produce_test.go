package streams_test

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"publish-reconciler/streams"
)

func TestPublishWebhook(t *testing.T) {
	t.Parallel()
	js := setup(t)
	if err := streams.PublishWebhook(t.Context(), js, "Instagram", []byte(instagramBody)); err != nil {
		t.Fatal(err)
	}
	msg := next(t, js, streams.StreamWebhooks, streams.ConsumerWebhooks)
	if msg.Subject() != "publish.webhook.instagram" || string(msg.Data()) != instagramBody {
		t.Errorf("stored %s on %s", msg.Data(), msg.Subject())
	}

	for name, test := range map[string]struct {
		platform, body string
		reason         streams.Reason
	}{
		"broken": {"tiktok", `{"external_post_id":`, streams.ReasonMalformedJSON},
		"no id":  {"tiktok", `{}`, streams.ReasonMissingExternalPostID},
		"tokens": {"tik.tok", tiktokBody, streams.ReasonInvalidPlatform},
	} {
		err := streams.PublishWebhook(t.Context(), js, test.platform, []byte(test.body))
		var undecodable *streams.DecodeError
		if !errors.As(err, &undecodable) || undecodable.Reason != test.reason {
			t.Errorf("%s: error is %v", name, err)
		}
	}
	for range 2 {
		if err := streams.PublishWebhook(t.Context(), js, "tiktok", []byte(tiktokBody), jetstream.WithMsgID("once")); err != nil {
			t.Fatal(err)
		}
	}
	if n := count(t, js, streams.StreamWebhooks, "publish.webhook.tiktok"); n != 1 {
		t.Errorf("tiktok's webhook is stored %d times", n)
	}
}

func TestPublishWebhookWithoutStream(t *testing.T) {
	t.Parallel()
	js := setup(t)
	if err := js.DeleteStream(t.Context(), streams.StreamWebhooks); err != nil {
		t.Fatal(err)
	}
	err := streams.PublishWebhook(t.Context(), js, "tiktok", []byte(tiktokBody))
	if err == nil || !strings.HasPrefix(err.Error(), "publish webhook of tiktok: ") {
		t.Errorf("error is %v", err)
	}
}

func TestScheduleCheck(t *testing.T) {
	t.Parallel()
	js := setup(t)
	patient, impatient := 10*time.Minute, time.Duration(0)
	for name, check := range map[string]streams.Check{
		"no timeout":   {LogID: uuid.New()},
		"timeout":      {LogID: uuid.New(), Timeout: &patient},
		"zero timeout": {LogID: uuid.New(), Timeout: &impatient},
	} {
		at := time.Now().Add(300 * time.Millisecond)
		if err := streams.ScheduleCheck(t.Context(), js, check, at); err != nil {
			t.Fatal(err)
		}
		msg := next(t, js, streams.StreamChecks, streams.ConsumerChecks)
		if early := time.Until(at); early > 0 {
			t.Errorf("%s: it fired %s early", name, early)
		}
		got, err := streams.DecodeCheck(msg.Subject(), msg.Data())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got.LogID != check.LogID || (got.Timeout == nil) != (check.Timeout == nil) || got.Timeout != nil && *got.Timeout != *check.Timeout {
			t.Errorf("%s: %+v arrived as %+v", name, check, got)
		}
		if err := msg.DoubleAck(t.Context()); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the fired schedule is gone", func() bool { return count(t, js, streams.StreamChecks, ">") == 0 })
	}
}

func TestScheduleCheckReplaces(t *testing.T) {
	t.Parallel()
	js := setup(t)
	check := streams.Check{LogID: uuid.New()}
	for range 3 {
		if err := streams.ScheduleCheck(t.Context(), js, check, time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	if n := count(t, js, streams.StreamChecks, streams.ScheduleCheckSubject(check.LogID)); n != 1 {
		t.Fatalf("%d checks are pending", n)
	}
	// Of the hour nothing is left: the check comes now, once.
	timeout := time.Minute
	check.Timeout = &timeout
	start := time.Now()
	if err := streams.ScheduleCheck(t.Context(), js, check, start); err != nil {
		t.Fatal(err)
	}
	msg := next(t, js, streams.StreamChecks, streams.ConsumerChecks)
	if string(msg.Data()) != `{"timeout_minutes":1}` {
		t.Errorf("body is %s", msg.Data())
	}
	if err := msg.DoubleAck(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the stream is empty", func() bool { return count(t, js, streams.StreamChecks, ">") == 0 })
}

func TestScheduleCheckInThePast(t *testing.T) {
	t.Parallel()
	js := setup(t)
	for name, at := range map[string]time.Time{
		"just now":   time.Now(),
		"long ago":   time.Now().Add(-24 * time.Hour),
		"other zone": time.Now().Add(-time.Hour).In(time.FixedZone("east", 8*3600)),
		"zero":       {},
	} {
		start := time.Now()
		check := streams.Check{LogID: uuid.New()}
		if err := streams.ScheduleCheck(t.Context(), js, check, at); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		msg := next(t, js, streams.StreamChecks, streams.ConsumerChecks)
		if took := time.Since(start); msg.Subject() != streams.CheckSubject(check.LogID) || took > 5*time.Second {
			t.Errorf("%s: %s came after %s", name, msg.Subject(), took)
		}
		if err := msg.Ack(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCancelCheck(t *testing.T) {
	t.Parallel()
	js := setup(t)
	one, other := streams.Check{LogID: uuid.New()}, streams.Check{LogID: uuid.New()}
	at := time.Now().Add(2 * time.Second)
	for check, at := range map[*streams.Check]time.Time{&one: at, &other: at.Add(500 * time.Millisecond)} {
		if err := streams.ScheduleCheck(t.Context(), js, *check, at); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // the second time there is none
		if err := streams.CancelCheck(t.Context(), js, one.LogID); err != nil {
			t.Fatal(err)
		}
	}
	if n := count(t, js, streams.StreamChecks, streams.ScheduleCheckSubject(one.LogID)); n != 1 {
		t.Errorf("%d messages hold the place of the check", n)
	}
	eventually(t, "the other log's check", func() bool {
		return count(t, js, streams.StreamChecks, streams.CheckSubject(other.LogID)) == 1
	})
	if n := count(t, js, streams.StreamChecks, "publish.*."+one.LogID.String()); n != 0 {
		t.Error("the check came all the same")
	}
	if n := count(t, js, streams.StreamChecks, "publish.schedule.>"); n != 0 {
		t.Errorf("%d messages are left", n)
	}
	// Another check of the log takes the place of the cancellation.
	if err := streams.CancelCheck(t.Context(), js, one.LogID); err != nil {
		t.Fatal(err)
	}
	if err := streams.ScheduleCheck(t.Context(), js, one, time.Now()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a check after the cancellation", func() bool {
		return count(t, js, streams.StreamChecks, streams.CheckSubject(one.LogID)) == 1
	})
	if err := js.DeleteStream(t.Context(), streams.StreamChecks); err != nil {
		t.Fatal(err)
	}
	if err := streams.CancelCheck(t.Context(), js, one.LogID); !errors.Is(err, jetstream.ErrNoStreamResponse) {
		t.Errorf("without the stream: %v", err)
	}
}

func TestRetrySchedule(t *testing.T) {
	t.Parallel()
	js := setup(t)
	first, msg := triedAgain(t, js, 3)
	check, err := streams.DecodeCheck(msg.Subject(), msg.Data())
	if err != nil {
		t.Fatal(err)
	}
	for header, want := range map[string]string{
		streams.HeaderTries:         "3",
		streams.HeaderFirstSequence: strconv.FormatUint(first.Sequence.Stream, 10),
		"traceparent":               "00-1-2-01",
	} {
		if got := msg.Headers().Get(header); got != want {
			t.Errorf("%s is %q, want %q", header, got, want)
		}
	}
	if string(msg.Data()) != `{"timeout_minutes": 1e1 }` {
		t.Errorf("the body is %s", msg.Data())
	}

	origin, err := msg.Metadata()
	if err != nil {
		t.Fatal(err)
	}
	pending := time.Now().Add(time.Hour)
	if err := streams.ScheduleCheck(t.Context(), js, check, pending); err != nil {
		t.Fatal(err)
	}
	if _, err := js.PublishMsg(t.Context(), streams.RetrySchedule(check.LogID, msg, origin, 4, time.Now())); err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), streams.StreamChecks)
	if err != nil {
		t.Fatal(err)
	}
	left, err := stream.GetLastMsgForSubject(t.Context(), streams.ScheduleCheckSubject(check.LogID))
	if err != nil {
		t.Fatalf("the pending check: %v", err)
	}
	if at, ok := streams.ScheduledAt(left.Header); !ok || !at.Equal(pending.Truncate(0)) {
		t.Errorf("the pending check is due at %s, want %s", at, pending)
	}
}

func TestSweepSchedule(t *testing.T) {
	t.Parallel()
	js := setup(t)
	for _, at := range []time.Time{time.Now().Add(time.Hour), time.Now()} {
		if _, err := js.PublishMsg(t.Context(), streams.SweepSchedule(at, 90*time.Second, "found_none")); err != nil {
			t.Fatal(err)
		}
	}
	msg := next(t, js, streams.StreamChecks, streams.ConsumerSweeper)
	if msg.Subject() != streams.SubjectSweep || len(msg.Data()) != 0 || !streams.IsTick(msg.Headers()) {
		t.Errorf("%s on %s with %v", msg.Data(), msg.Subject(), msg.Headers())
	}
	if delay, reason := streams.SweepPace(msg.Headers()); delay != 90*time.Second || reason != "found_none" {
		t.Errorf("delay %s, reason %q", delay, reason)
	}
	for _, none := range []nats.Header{nil, {streams.HeaderSweepDelay: {"soon"}}, {streams.HeaderSweepDelay: {"-1s"}}} {
		if delay, reason := streams.SweepPace(none); delay != 0 || reason != "" {
			t.Errorf("%v: delay %s, reason %q", none, delay, reason)
		}
	}
	if streams.IsTick(nil) {
		t.Error("a sweep asked for by hand is a tick")
	}
	if err := msg.DoubleAck(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "no second sweep is pending", func() bool { return count(t, js, streams.StreamChecks, ">") == 0 })
}

// One tick in hand over all replicas: the second waits until the first is settled.
func TestOneSweepAtATime(t *testing.T) {
	t.Parallel()
	js := setup(t)
	for range 2 {
		if _, err := js.Publish(t.Context(), streams.SubjectSweep, nil); err != nil {
			t.Fatal(err)
		}
	}
	first := next(t, js, streams.StreamChecks, streams.ConsumerSweeper)
	sweeper, err := js.Consumer(t.Context(), streams.StreamChecks, streams.ConsumerSweeper)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sweeper.Next(jetstream.FetchMaxWait(100 * time.Millisecond)); !errors.Is(err, nats.ErrTimeout) {
		t.Errorf("a second sweep came beside the first: %v", err)
	}
	if err := first.Ack(); err != nil {
		t.Fatal(err)
	}
	next(t, js, streams.StreamChecks, streams.ConsumerSweeper)
}

func TestScheduledAt(t *testing.T) {
	t.Parallel()
	at := time.Date(2024, 1, 15, 10, 30, 0, 123456789, time.UTC)
	msg := streams.CheckSchedule(streams.Check{LogID: uuid.New()}, at.In(time.FixedZone("west", -5*3600)))
	if got, ok := streams.ScheduledAt(msg.Header); !ok || !got.Equal(at) {
		t.Errorf("scheduled at %s, want %s", got, at)
	}
	for _, other := range []string{"", "@every 1m", "0 * * * * *", "@at tomorrow"} {
		if got, ok := streams.ScheduledAt(nats.Header{"Nats-Schedule": {other}}); ok {
			t.Errorf("%q is scheduled at %s", other, got)
		}
	}
}

func TestEventSubject(t *testing.T) {
	t.Parallel()
	for platform, want := range map[string]string{
		"instagram":                   "publish.event.instagram.success",
		"":                            "publish.event._.success",
		"a.b*c>d e\tf\r\ng\x00h\x7fi": "publish.event.a_b_c_d_e_f__g_h_i.success",
		"ВКонтакте":                   "publish.event.ВКонтакте.success",
		strings.Repeat("x", 5000):     "publish.event." + strings.Repeat("x", streams.MaxPlatformBytes) + ".success",
		"x" + strings.Repeat("я", 64): "publish.event.x" + strings.Repeat("я", 63) + ".success",
	} {
		if got := streams.EventSubject(platform, "success"); got != want {
			t.Errorf("%q: %s, want %s", platform, got, want)
		}
	}
	js := setup(t)
	for _, platform := range []string{"", "a.b*c>d e", strings.Repeat("я", 5000), "\xff"} {
		if _, err := js.Publish(t.Context(), streams.EventSubject(platform, "failed"), nil); err != nil {
			t.Errorf("%q: the server refuses: %v", platform, err)
		}
	}
}
