package streams_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"publish-reconciler/streams"
	"publish-reconciler/streams/streamstest"
)

const move = ", which JetStream can't change in place: an administrator has to move it out of the way"

// What can't be changed in place is named, all of it, and nothing at all is touched.
func TestEnsureFixed(t *testing.T) {
	t.Parallel()
	explicit := jetstream.AckExplicitPolicy
	for name, test := range map[string]struct {
		stream   jetstream.StreamConfig
		consumer *jetstream.ConsumerConfig
		want     []string
	}{
		"retention": {
			stream: jetstream.StreamConfig{Name: streams.StreamChecks, Subjects: []string{"publish.check.*"}},
			want:   []string{"stream PUBLISH_CHECKS: retention is Limits, must be WorkQueue"},
		},
		"work queue and memory at once": {
			stream: jetstream.StreamConfig{Name: streams.StreamWebhooks, Subjects: []string{"publish.webhook.*"}, Retention: jetstream.WorkQueuePolicy, Storage: jetstream.MemoryStorage},
			want: []string{
				"stream PUBLISH_WEBHOOKS: retention is WorkQueue, must be Limits",
				"stream PUBLISH_WEBHOOKS: storage is Memory, must be File",
			},
		},
		"purge denied": {
			stream: jetstream.StreamConfig{Name: streams.StreamChecks, Subjects: []string{"publish.check.*"}, Retention: jetstream.WorkQueuePolicy, DenyPurge: true},
			want:   []string{"stream PUBLISH_CHECKS: deny_purge is true, must be false"},
		},
		"deliver policy": {
			stream:   jetstream.StreamConfig{Name: streams.StreamWebhooks, Subjects: []string{"publish.webhook.*"}},
			consumer: &jetstream.ConsumerConfig{Durable: "webhooks", AckPolicy: explicit, DeliverPolicy: jetstream.DeliverNewPolicy},
			want:     []string{"consumer webhooks of stream PUBLISH_WEBHOOKS: deliver_policy is new, must be all"},
		},
		"ack and replay policy, memory": {
			stream:   jetstream.StreamConfig{Name: streams.StreamWebhooks, Subjects: []string{"publish.webhook.*"}},
			consumer: &jetstream.ConsumerConfig{Durable: "webhooks", AckPolicy: jetstream.AckAllPolicy, ReplayPolicy: jetstream.ReplayOriginalPolicy, MemoryStorage: true},
			want: []string{
				"consumer webhooks of stream PUBLISH_WEBHOOKS: ack_policy is AckAll, must be AckExplicit",
				"consumer webhooks of stream PUBLISH_WEBHOOKS: replay_policy is original, must be instant",
				"consumer webhooks of stream PUBLISH_WEBHOOKS: mem_storage is true, must be false",
			},
		},
		"push": {
			stream:   jetstream.StreamConfig{Name: streams.StreamWebhooks, Subjects: []string{"publish.webhook.*"}},
			consumer: &jetstream.ConsumerConfig{Durable: "webhooks", AckPolicy: explicit, DeliverSubject: "elsewhere"},
			want:     []string{"consumer webhooks of stream PUBLISH_WEBHOOKS: deliver_subject is set, must be unset, as a pull consumer has it"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			js := streamstest.New(t).JetStream(t)
			createStream(t, js, test.stream)
			subject := strings.Replace(test.stream.Subjects[0], "*", "x", 1)
			if _, err := js.Publish(t.Context(), subject, []byte("precious")); err != nil {
				t.Fatal(err)
			}
			if test.consumer != nil {
				createAnyConsumer(t, js, test.stream.Name, *test.consumer)
			}
			before := streamInfo(t, js, test.stream.Name)

			err := streams.Ensure(t.Context(), js, streams.Config{})
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range test.want {
				if !strings.Contains("\n"+err.Error()+"\n", "\n"+want+move+"\n") {
					t.Errorf("error is\n%v, want\n%s", err, want+move)
				}
			}
			for _, fault := range err.(interface{ Unwrap() []error }).Unwrap() {
				var mismatch *streams.MismatchError
				if !errors.As(fault, &mismatch) || !mismatch.Fixed || mismatch.Stream != test.stream.Name {
					t.Errorf("error is %#v", fault)
				}
			}
			if names := streamNames(t, js); len(names) != 1 {
				t.Errorf("streams are %q: something was created", names)
			}
			after := streamInfo(t, js, test.stream.Name)
			if diff := cmp.Diff(before.Config, after.Config); diff != "" {
				t.Errorf("settings changed (-before +after):\n%s", diff)
			}
			if after.State.Msgs != 1 || after.Created != before.Created {
				t.Errorf("the stream's message is gone: %+v", after.State)
			}
		})
	}
}

func TestEnsureMirror(t *testing.T) {
	t.Parallel()
	js := streamstest.New(t).JetStream(t)
	createStream(t, js, jetstream.StreamConfig{Name: "ORIGIN", Subjects: []string{"origin"}})
	createStream(t, js, jetstream.StreamConfig{Name: streams.StreamEvents, Mirror: &jetstream.StreamSource{Name: "ORIGIN"}})
	err := streams.Ensure(t.Context(), js, streams.Config{})
	if want := "stream PUBLISH_EVENTS: mirror is ORIGIN, must be none" + move; err == nil || err.Error() != want {
		t.Errorf("error is %v, want %s", err, want)
	}
}

// A subject in another stream stops the one that needs it, and no other.
func TestEnsureOverlap(t *testing.T) {
	t.Parallel()
	js := streamstest.New(t).JetStream(t)
	createStream(t, js, jetstream.StreamConfig{Name: "OTHERS", Subjects: []string{"publish.event.tiktok.*", "publish.sweep"}})
	err := streams.Ensure(t.Context(), js, streams.Config{})
	want := "stream PUBLISH_CHECKS: subject publish.sweep is taken by stream OTHERS, must be its own" + move +
		"\nstream PUBLISH_EVENTS: subject publish.event.> is taken by stream OTHERS, must be its own" + move
	if err == nil || err.Error() != want {
		t.Errorf("error is\n%v, want\n%s", err, want)
	}
	if names := streamNames(t, js); len(names) != 3 {
		t.Errorf("streams are %q", names)
	}
	consumerConfig(t, js, streams.StreamWebhooks, streams.ConsumerWebhooks)
}

func TestEnsureEndsWithContext(t *testing.T) {
	t.Parallel()
	js := streamstest.New(t).JetStream(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := streams.Ensure(ctx, js, streams.Config{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
}

func TestTakesIn(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		outer, inner string
		want         bool
	}{
		"same":                  {"a.b", "a.b", true},
		"other":                 {"a.b", "a.c", false},
		"star takes a token":    {"a.*", "a.b", true},
		"star takes a star":     {"a.*", "a.*", true},
		"token takes no star":   {"a.b", "a.*", false},
		"star takes no rest":    {"a.*", "a.>", false},
		"star takes one token":  {"a.*", "a.b.c", false},
		"rest takes all":        {"a.>", "a.*.c", true},
		"rest takes a rest":     {"a.>", "a.b.>", true},
		"rest takes itself":     {"a.>", "a.>", true},
		"rest needs one":        {"a.>", "a", false},
		"narrower rest":         {"a.b.>", "a.>", false},
		"longer":                {"a.b.c", "a.b", false},
		"everything":            {">", "a.b", true},
		"overlap is not enough": {"*.b", "a.*", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := streams.TakesIn(test.outer, test.inner); got != test.want {
				t.Errorf("%s takes in %s: %t", test.outer, test.inner, got)
			}
		})
	}
}
