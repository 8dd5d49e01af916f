package streams_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"publish-reconciler/streams"
)

// A worker has posted a clip, and its row of publish_logs is committed: the row is looked at in ten minutes, and is
// failed then if its platform has said nothing.
func ExampleScheduleCheck() {
	js, stop := connectedToService() // js, err := jetstream.New(nc)
	defer stop()
	ctx := context.Background()
	logID := uuid.MustParse("6f1c2d3e-4b5a-4978-8f6e-5d4c3b2a1908")

	if err := streams.ScheduleCheck(ctx, js, streams.Check{LogID: logID}, time.Now().Add(10*time.Minute)); err != nil {
		fmt.Println(err)
		return
	}
	// This takes its place: a log has one pending check. The platform has 90 minutes by then, whatever its timeout is.
	patience := 90 * time.Minute
	if err := streams.ScheduleCheck(ctx, js, streams.Check{LogID: logID, Timeout: &patience}, time.Now().Add(patience)); err != nil {
		fmt.Println(err)
		return
	}

	stream, err := js.Stream(ctx, streams.StreamChecks)
	if err != nil {
		fmt.Println(err)
		return
	}
	pending, err := stream.Info(ctx, jetstream.WithSubjectFilter(streams.ScheduleCheckSubject(logID)))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(pending.State.Subjects)
	// Output: map[publish.schedule.check.6f1c2d3e-4b5a-4978-8f6e-5d4c3b2a1908:1]
}

// The worker has taken the post back: there is nothing to check any more.
func ExampleCancelCheck() {
	js, stop := connectedToService() // js, err := jetstream.New(nc)
	defer stop()
	ctx := context.Background()
	logID := uuid.MustParse("6f1c2d3e-4b5a-4978-8f6e-5d4c3b2a1908")

	if err := streams.ScheduleCheck(ctx, js, streams.Check{LogID: logID}, time.Now().Add(10*time.Minute)); err != nil {
		fmt.Println(err)
		return
	}
	if err := streams.CancelCheck(ctx, js, logID); err != nil {
		fmt.Println(err)
		return
	}

	stream, err := js.Stream(ctx, streams.StreamChecks)
	if err != nil {
		fmt.Println(err)
		return
	}
	// What took its place is no schedule, and is gone after a second.
	scheduled := false
	if msg, err := stream.GetLastMsgForSubject(ctx, streams.ScheduleCheckSubject(logID)); err == nil {
		_, scheduled = streams.ScheduledAt(msg.Header)
	}
	fmt.Println("still scheduled:", scheduled)
	// Output: still scheduled: false
}

// An ingestor hands in what a platform said, as it came. With an id of the platform's event it may do so twice; what
// could only become a dead letter is refused.
func ExamplePublishWebhook() {
	js, stop := connectedToService() // js, err := jetstream.New(nc)
	defer stop()
	ctx := context.Background()

	body := []byte(`{"external_post_id":"ig_123","media_url":"https://instagram.com/p/ABC/","status":"published"}`)
	for range 2 {
		if err := streams.PublishWebhook(ctx, js, "instagram", body, jetstream.WithMsgID("instagram-ig_123-published")); err != nil {
			fmt.Println(err)
			return
		}
	}
	err := streams.PublishWebhook(ctx, js, "instagram", []byte(`{"status":"published"}`))
	if refused, ok := errors.AsType[*streams.DecodeError](err); ok {
		fmt.Printf("%s: %s\n", refused.Reason, refused.Detail)
	}

	stream, err := js.Stream(ctx, streams.StreamWebhooks)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("stored:", stream.CachedInfo().State.Msgs)
	// Output:
	// missing_external_post_id: external_post_id is missing: it must be a string or a number
	// stored: 1
}

// Before a service has ever run, or for a test of one's own producers: all streams and consumers, as the service makes
// them.
func ExampleEnsure() {
	js, stop := connected() // js, err := jetstream.New(nc)
	defer stop()
	ctx := context.Background()

	if err := streams.Ensure(ctx, js, streams.Config{Replicas: 1}); err != nil {
		fmt.Println(err)
		return
	}

	for _, definition := range streams.Consumers() {
		consumer, err := js.Consumer(ctx, definition.Stream, definition.Config.Durable)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(definition.Stream, consumer.CachedInfo().Name, consumer.CachedInfo().Config.FilterSubject)
	}
	// Output:
	// PUBLISH_WEBHOOKS webhooks publish.webhook.*
	// PUBLISH_CHECKS checks publish.check.*
	// PUBLISH_CHECKS sweeper publish.sweep
}

// Whoever wants to react reads the outcome events, with a durable consumer of its own: what became of Instagram's logs.
func ExampleEventSubject() {
	js, stop := connectedToService() // js, err := jetstream.New(nc)
	defer stop()
	ctx := context.Background()
	// The service's part.
	if _, err := js.Publish(ctx, streams.EventSubject("instagram", "success"), []byte(`{"log_id":"6f1c2d3e-4b5a-4978-8f6e-5d4c3b2a1908","platform":"instagram","external_post_id":"ig_123","from":"processing","to":"success","reason":"webhook_confirmed","trigger":"webhook","url":"https://instagram.com/p/ABC/","time":"2026-01-15T10:30:00Z"}`)); err != nil {
		fmt.Println(err)
		return
	}

	consumer, err := js.CreateOrUpdateConsumer(ctx, streams.StreamEvents, jetstream.ConsumerConfig{
		Durable:       "notifier",
		FilterSubject: streams.EventSubject("instagram", "*"),
		AckPolicy:     jetstream.AckExplicitPolicy,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	msg, err := consumer.Next()
	if err != nil {
		fmt.Println(err)
		return
	}
	var event struct {
		LogID  uuid.UUID `json:"log_id"`
		To     string    `json:"to"`
		Reason string    `json:"reason"`
		URL    string    `json:"url"`
	}
	if err := json.Unmarshal(msg.Data(), &event); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(event.LogID, event.To, event.Reason, event.URL)
	if err := msg.Ack(); err != nil {
		fmt.Println(err)
	}
	// Output: 6f1c2d3e-4b5a-4978-8f6e-5d4c3b2a1908 success webhook_confirmed https://instagram.com/p/ABC/
}

// Whoever can ask TikTok answers for it: before a log fails by silence, it is asked what became of the post.
func ExampleProbeRequest() {
	js, stop := connected() // nc, err := nats.Connect(url)
	defer stop()
	nc := js.Conn()

	if _, err := nc.QueueSubscribe(streams.ProbeSubject("tiktok"), "tiktok-prober", func(msg *nats.Msg) {
		var request streams.ProbeRequest
		if err := json.Unmarshal(msg.Data, &request); err != nil {
			return // who does not know must not reply
		}
		fmt.Println("asked about", request.ExternalPostID)
		_ = msg.Respond([]byte(`{"status":"published"}`)) // what TikTok's own interface says of it
	}); err != nil {
		fmt.Println(err)
		return
	}

	// The service's part.
	request := streams.ProbeRequest{LogID: uuid.New(), ExternalPostID: "tt_1", Platform: "tiktok"}
	answer, err := nc.Request(streams.ProbeSubject(request.Platform), request.Body(), 2*time.Second)
	if err != nil {
		fmt.Println(err)
		return
	}
	said, err := streams.DecodeProbe(request, answer.Data)
	fmt.Println(said["status"], err)
	// Output:
	// asked about tt_1
	// published <nil>
}
