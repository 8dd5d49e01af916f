package streams_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"publish-reconciler/streams"
	"publish-reconciler/streams/streamstest"
)

func TestEnsureFresh(t *testing.T) {
	t.Parallel()
	js := setup(t)

	for _, want := range streams.Streams(1) {
		got := streamInfo(t, js, want.Name).Config
		if diff := cmp.Diff(want.Subjects, got.Subjects); diff != "" {
			t.Errorf("subjects of %s (-want +got):\n%s", want.Name, diff)
		}
		if got.Retention != want.Retention || got.Storage != jetstream.FileStorage || got.MaxAge != want.MaxAge ||
			got.Discard != want.Discard || got.Duplicates != want.Duplicates || got.Replicas != 1 ||
			got.AllowMsgSchedules != want.AllowMsgSchedules || got.AllowMsgTTL != want.AllowMsgTTL {
			t.Errorf("%s is %+v", want.Name, got)
		}
	}
	for _, want := range streams.Consumers() {
		got := consumerConfig(t, js, want.Stream, want.Config.Durable)
		if got.AckPolicy != jetstream.AckExplicitPolicy || got.MaxDeliver != -1 || got.AckWait != streams.AckWait ||
			got.MaxAckPending != want.Config.MaxAckPending || got.FilterSubject != want.Config.FilterSubject {
			t.Errorf("%s is %+v", want.Config.Durable, got)
		}
	}
	if err := streams.Verify(t.Context(), js, streams.Config{Replicas: 1}); err != nil {
		t.Errorf("Verify finds after Ensure: %v", err)
	}
}

func TestEnsureTwiceChangesNothing(t *testing.T) {
	t.Parallel()
	js := setup(t)
	sent := changesFrom(t, js)
	if err := streams.Ensure(t.Context(), js, streams.Config{}); err != nil {
		t.Fatal(err)
	}
	if changes := sent(); len(changes) != 0 {
		t.Errorf("the second Ensure sent %q", changes)
	}
}

func TestEnsureFiveAtOnce(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(*testing.T, jetstream.JetStream){
		"nothing there": func(*testing.T, jetstream.JetStream) {},
		"something differs": func(t *testing.T, js jetstream.JetStream) {
			createStream(t, js, jetstream.StreamConfig{Name: streams.StreamWebhooks, Subjects: []string{"publish.webhook.*"}, MaxAge: time.Hour})
			createConsumer(t, js, streams.StreamWebhooks, jetstream.ConsumerConfig{Durable: "webhooks", AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Second})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := streamstest.New(t)
			prepare(t, server.JetStream(t))
			var all sync.WaitGroup
			for range 5 {
				js := server.JetStream(t)
				all.Go(func() {
					if err := streams.Ensure(t.Context(), js, streams.Config{}); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			if err := streams.Verify(t.Context(), server.JetStream(t), streams.Config{}); err != nil {
				t.Error(err)
			}
		})
	}
}

// Another replica, of an older version perhaps, creates the same thing otherwise between look and leap.
func TestEnsureLosesRaces(t *testing.T) {
	t.Parallel()
	js := &overtaken{JetStream: streamstest.New(t).JetStream(t)}
	if err := streams.Ensure(t.Context(), js, streams.Config{}); err != nil {
		t.Fatal(err)
	}
	if js.races != 7 {
		t.Errorf("%d races were run", js.races)
	}
	if err := streams.Verify(t.Context(), js, streams.Config{}); err != nil {
		t.Error(err)
	}
}

// overtaken is a JetStream where somebody else is always quicker to create something.
type overtaken struct {
	jetstream.JetStream
	races int
}

func (o *overtaken) CreateStream(ctx context.Context, cfg jetstream.StreamConfig) (jetstream.Stream, error) {
	o.races++
	other := cfg
	other.Duplicates = time.Minute
	if _, err := o.JetStream.CreateStream(ctx, other); err != nil {
		return nil, err
	}
	return o.JetStream.CreateStream(ctx, cfg)
}

func (o *overtaken) CreateConsumer(ctx context.Context, stream string, cfg jetstream.ConsumerConfig) (jetstream.Consumer, error) {
	o.races++
	other := cfg
	other.AckWait = time.Second
	if _, err := o.JetStream.CreateConsumer(ctx, stream, other); err != nil {
		return nil, err
	}
	return o.JetStream.CreateConsumer(ctx, stream, cfg)
}

// What is more than the definition asks for, or none of its business, stays.
func TestEnsureKeeps(t *testing.T) {
	t.Parallel()
	js := setup(t)
	webhooks := streamInfo(t, js, streams.StreamWebhooks).Config
	webhooks.Description = "ours"
	webhooks.MaxBytes = 1 << 20
	webhooks.MaxMsgs = 1000
	webhooks.MaxMsgsPerSubject = 500
	webhooks.MaxMsgSize = 4096
	webhooks.MaxAge = 0
	webhooks.Duplicates = time.Hour
	webhooks.Compression = jetstream.S2Compression
	webhooks.Subjects = append(webhooks.Subjects, "more.>")
	webhooks.AllowDirect = true
	webhooks.Metadata["team"] = "publishing"
	webhooks.RePublish = &jetstream.RePublish{Source: "publish.webhook.*", Destination: "copy.{{wildcard(1)}}"}
	updateStream(t, js, webhooks)
	// Both consumers' settings together: a wider stream subject, no limit, unusual but sufficient waits.
	checks := streamInfo(t, js, streams.StreamChecks).Config
	checks.Subjects = []string{"publish.check.>", "publish.sweep", "publish.schedule.>"}
	updateStream(t, js, checks)
	consumer := consumerConfig(t, js, streams.StreamWebhooks, streams.ConsumerWebhooks)
	consumer.AckWait = time.Minute
	consumer.MaxAckPending = 9000
	consumer.BackOff = []time.Duration{time.Minute, time.Hour}
	consumer.Description = "ours"
	consumer.MaxRequestBatch = 600
	updateConsumer(t, js, streams.StreamWebhooks, consumer)
	unlimited := consumerConfig(t, js, streams.StreamChecks, streams.ConsumerChecks)
	unlimited.MaxAckPending = -1
	updateConsumer(t, js, streams.StreamChecks, unlimited)
	before := everything(t, js)

	sent := changesFrom(t, js)
	if err := streams.Verify(t.Context(), js, streams.Config{}); err != nil {
		t.Errorf("Verify: %v", err)
	}
	if err := streams.Ensure(t.Context(), js, streams.Config{}); err != nil {
		t.Errorf("Ensure: %v", err)
	}
	if changes := sent(); len(changes) != 0 {
		t.Errorf("sent %q", changes)
	}

	// With something to raise in the same stream, the rest must survive the update too.
	webhooks = streamInfo(t, js, streams.StreamWebhooks).Config
	webhooks.Discard = jetstream.DiscardOld
	updateStream(t, js, webhooks)
	consumer.HeadersOnly = true
	updateConsumer(t, js, streams.StreamWebhooks, consumer)
	if err := streams.Ensure(t.Context(), js, streams.Config{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, everything(t, js)); diff != "" {
		t.Errorf("settings changed (-before +after):\n%s", diff)
	}
}

func TestEnsureRaises(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change   func(t *testing.T, js jetstream.JetStream)
		mismatch string
	}{
		"max age": {
			changedStream(streams.StreamDead, func(c *jetstream.StreamConfig) { c.MaxAge = 2 * time.Hour }),
			"stream PUBLISH_DEAD: max_age is 2h0m0s, must be at least 720h0m0s",
		},
		"max age where there is none": {
			changedStream(streams.StreamChecks, func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour }),
			"stream PUBLISH_CHECKS: max_age is 1h0m0s, must be unlimited",
		},
		"duplicate window": {
			changedStream(streams.StreamWebhooks, func(c *jetstream.StreamConfig) { c.Duplicates = time.Second }),
			"stream PUBLISH_WEBHOOKS: duplicate_window is 1s, must be at least 2m0s",
		},
		"discard": {
			changedStream(streams.StreamWebhooks, func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld }),
			"stream PUBLISH_WEBHOOKS: discard is DiscardOld, must be DiscardNew",
		},
		"interest retention": {
			changedStream(streams.StreamEvents, func(c *jetstream.StreamConfig) { c.Retention = jetstream.InterestPolicy }),
			"stream PUBLISH_EVENTS: retention is Interest, must be Limits",
		},
		"no ack": {
			changedStream(streams.StreamEvents, func(c *jetstream.StreamConfig) { c.NoAck = true }),
			"stream PUBLISH_EVENTS: no_ack is true, must be false",
		},
		"subject missing": {changedStream(streams.StreamChecks, func(c *jetstream.StreamConfig) {
			c.Subjects = []string{"publish.check.*", "publish.sweep", "publish.schedule.check.*"}
		}), "stream PUBLISH_CHECKS: subjects is publish.check.* publish.sweep publish.schedule.check.*, must be publish.check.* publish.sweep publish.schedule.> among others"},
		"ack wait": {
			changedConsumer(streams.StreamChecks, "checks", func(c *jetstream.ConsumerConfig) { c.AckWait = time.Second }),
			"consumer checks of stream PUBLISH_CHECKS: ack_wait is 1s, must be at least 30s",
		},
		"backoff": {changedConsumer(streams.StreamChecks, "checks", func(c *jetstream.ConsumerConfig) {
			c.BackOff = []time.Duration{time.Minute, time.Second}
		}), "consumer checks of stream PUBLISH_CHECKS: backoff is [1m0s 1s], must be at least 30s at every step"},
		"max deliver": {
			changedConsumer(streams.StreamWebhooks, "webhooks", func(c *jetstream.ConsumerConfig) { c.MaxDeliver = 5 }),
			"consumer webhooks of stream PUBLISH_WEBHOOKS: max_deliver is 5, must be unlimited",
		},
		"max ack pending": {
			changedConsumer(streams.StreamWebhooks, "webhooks", func(c *jetstream.ConsumerConfig) { c.MaxAckPending = 10 }),
			"consumer webhooks of stream PUBLISH_WEBHOOKS: max_ack_pending is 10, must be at least 8000",
		},
		"two sweeps at a time": {
			changedConsumer(streams.StreamChecks, "sweeper", func(c *jetstream.ConsumerConfig) { c.MaxAckPending = 2 }),
			"consumer sweeper of stream PUBLISH_CHECKS: max_ack_pending is 2, must be 1",
		},
		"filter": {
			changedConsumer(streams.StreamWebhooks, "webhooks", func(c *jetstream.ConsumerConfig) { c.FilterSubject = "publish.webhook.tiktok" }),
			"consumer webhooks of stream PUBLISH_WEBHOOKS: filter_subject is publish.webhook.tiktok, must be publish.webhook.*",
		},
		"filters": {changedConsumer(streams.StreamWebhooks, "webhooks", func(c *jetstream.ConsumerConfig) {
			c.FilterSubject, c.FilterSubjects = "", []string{"publish.webhook.tiktok", "publish.webhook.instagram"}
		}), "consumer webhooks of stream PUBLISH_WEBHOOKS: filter_subject is publish.webhook.tiktok publish.webhook.instagram, must be publish.webhook.*"},
		"no bodies": {
			changedConsumer(streams.StreamWebhooks, "webhooks", func(c *jetstream.ConsumerConfig) { c.HeadersOnly = true }),
			"consumer webhooks of stream PUBLISH_WEBHOOKS: headers_only is true, must be false",
		},
		"vanishes": {
			changedConsumer(streams.StreamWebhooks, "webhooks", func(c *jetstream.ConsumerConfig) { c.InactiveThreshold = time.Hour }),
			"consumer webhooks of stream PUBLISH_WEBHOOKS: inactive_threshold is 1h0m0s, must be 0s",
		},
		"consumer gone": {func(t *testing.T, js jetstream.JetStream) {
			if err := js.DeleteConsumer(t.Context(), streams.StreamChecks, "checks"); err != nil {
				t.Fatal(err)
			}
		}, "consumer checks of stream PUBLISH_CHECKS is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			js := setup(t)
			test.change(t, js)
			before := everything(t, js)
			if err := streams.Verify(t.Context(), js, streams.Config{}); err == nil || err.Error() != test.mismatch {
				t.Fatalf("Verify: %v, want\n%s", err, test.mismatch)
			}
			if diff := cmp.Diff(before, everything(t, js)); diff != "" {
				t.Fatalf("Verify changed (-before +after):\n%s", diff)
			}
			sent := changesFrom(t, js)
			if err := streams.Ensure(t.Context(), js, streams.Config{}); err != nil {
				t.Fatal(err)
			}
			if changes := sent(); len(changes) != 1 {
				t.Errorf("for one difference Ensure sent %q", changes)
			}
			if err := streams.Verify(t.Context(), js, streams.Config{}); err != nil {
				t.Errorf("after Ensure: %v", err)
			}
		})
	}
}

func TestEnsureEnablesSchedules(t *testing.T) {
	t.Parallel()
	js := streamstest.New(t).JetStream(t)
	createStream(t, js, jetstream.StreamConfig{
		Name: streams.StreamChecks, Subjects: []string{"publish.check.*"}, Retention: jetstream.WorkQueuePolicy,
		Discard: jetstream.DiscardNew, DiscardNewPerSubject: true, MaxMsgsPerSubject: 7,
	})
	err := streams.Verify(t.Context(), js, streams.Config{})
	for _, want := range []string{
		"stream PUBLISH_WEBHOOKS is missing",
		"stream PUBLISH_DEAD is missing",
		"stream PUBLISH_EVENTS is missing",
		"stream PUBLISH_CHECKS: allow_msg_schedules is false, must be true",
		"stream PUBLISH_CHECKS: allow_msg_ttl is false, must be true",
		"stream PUBLISH_CHECKS: allow_rollup_hdrs is false, must be true",
		"stream PUBLISH_CHECKS: discard is DiscardNew, must be DiscardOld",
		"stream PUBLISH_CHECKS: discard_new_per_subject is true, must be false",
		"stream PUBLISH_CHECKS: subjects is publish.check.*, must be publish.check.* publish.sweep publish.schedule.> among others",
		"consumer webhooks of stream PUBLISH_WEBHOOKS is missing",
		"consumer checks of stream PUBLISH_CHECKS is missing",
		"consumer sweeper of stream PUBLISH_CHECKS is missing",
	} {
		if err == nil || !strings.Contains("\n"+err.Error()+"\n", "\n"+want+"\n") {
			t.Errorf("Verify does not say %q", want)
		}
	}
	if names := streamNames(t, js); len(names) != 1 {
		t.Errorf("Verify left the streams %q", names)
	}
	if err := streams.Ensure(t.Context(), js, streams.Config{}); err != nil {
		t.Fatal(err)
	}
	if got := streamInfo(t, js, streams.StreamChecks).Config; got.MaxMsgsPerSubject != 7 {
		t.Errorf("MaxMsgsPerSubject became %d", got.MaxMsgsPerSubject)
	}
}

func TestEnsureReplicas(t *testing.T) {
	t.Parallel()
	js := streamstest.New(t).JetStream(t)
	for _, replicas := range []int{-1, 2, 4} {
		if err := streams.Ensure(t.Context(), js, streams.Config{Replicas: replicas}); err == nil || !strings.Contains(err.Error(), "it must be 1 or 3") {
			t.Errorf("%d replicas: %v", replicas, err)
		}
	}
	// A single server refuses three replicas: all four streams are named.
	err := streams.Ensure(t.Context(), js, streams.Config{Replicas: 3})
	for _, want := range streams.Streams(3) {
		if err == nil || !strings.Contains(err.Error(), "create stream "+want.Name+": ") {
			t.Errorf("error does not name %s: %v", want.Name, err)
		}
	}
	if _, ok := errors.AsType[*jetstream.APIError](err); !ok {
		t.Errorf("error is %v", err)
	}
}

// changesFrom listens to what is sent to JetStream's API from now on; the function it returns tells what
// would change something.
func changesFrom(t *testing.T, js jetstream.JetStream) func() []string {
	t.Helper()
	sub, err := js.Conn().SubscribeSync("$JS.API.>")
	if err != nil {
		t.Fatal(err)
	}
	return func() []string {
		t.Helper()
		// What this connection sent before its flush has come back to it after.
		if err := js.Conn().Flush(); err != nil {
			t.Fatal(err)
		}
		var changes []string
		heard := 0
		for {
			msg, err := sub.NextMsg(time.Millisecond)
			if errors.Is(err, nats.ErrTimeout) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			heard++
			if !strings.Contains(msg.Subject, ".INFO") && !strings.Contains(msg.Subject, ".NAMES") {
				changes = append(changes, msg.Subject)
			}
		}
		if heard == 0 {
			t.Fatal("nothing was heard at all: the test does not listen")
		}
		return changes
	}
}
