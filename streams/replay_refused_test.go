package streams_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"publish-reconciler/streams"
)

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

	// Those that there is just no room for, with the headers that are added.
	for spare := 0; spare < 600; spare += 10 {
		sequence := buried(t, js, streams.KindWebhook, "publish.webhook.tiktok", strings.Repeat("w", limit-spare)).Sequence
		if _, err := replayer(t, js).Replay(t.Context(), sequence); err != nil {
			if refusal := (*streams.ReplayError)(nil); !errors.As(err, &refusal) || !refusal.Begun.IsZero() {
				t.Errorf("%d bytes below the limit: %v", spare, err)
			}
			continue
		}
		arrived(t, js, streams.KindWebhook)
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

// What is missing is named, all of it.
func TestReplayNeedsItsStreams(t *testing.T) {
	t.Parallel()
	js := setup(t)
	for _, name := range []string{streams.StreamWebhooks, streams.StreamChecks} {
		if err := js.DeleteStream(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := open(t, js).Replayer(t.Context(), false); err == nil || err.Error() != "stream PUBLISH_WEBHOOKS is missing\nstream PUBLISH_CHECKS is missing" {
		t.Error(err)
	}
	if err := js.DeleteStream(t.Context(), streams.StreamDead); err != nil {
		t.Fatal(err)
	}
	if _, err := streams.OpenLetters(t.Context(), js); err == nil || err.Error() != "stream PUBLISH_DEAD is missing" {
		t.Error(err)
	}
}

// A stream that takes nothing more leaves the letter as it was, in no doubt.
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
	shrinkWindow(t, js)
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

// Who may not publish is told so, and leaves the letter in no doubt.
func TestReplayWithoutPermission(t *testing.T) {
	t.Parallel()
	url := plainServer(t, &natsserver.Options{
		JetStream: true, StoreDir: t.TempDir(),
		Users: []*natsserver.User{
			{Username: "admin", Password: "secret"},
			{Username: "reader", Password: "secret", Permissions: &natsserver.Permissions{Publish: &natsserver.SubjectPermission{Deny: []string{"publish.webhook.>"}}}},
		},
	})
	as := func(user string) jetstream.JetStream {
		return connect(t, url, nats.UserInfo(user, "secret"), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	}
	admin := as("admin")
	if err := streams.Ensure(t.Context(), admin, streams.Config{}); err != nil {
		t.Fatal(err)
	}
	shrinkWindow(t, admin)
	letter := buried(t, admin, streams.KindWebhook, "publish.webhook.tiktok", tiktokBody)
	if _, err := replayer(t, as("reader")).Replay(t.Context(), letter.Sequence); !errors.Is(err, nats.ErrPermissionViolation) {
		t.Error(err)
	}
	replayed(t, admin, letter, false)
}
