package streams_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"publish-reconciler/streams"
	"publish-reconciler/streams/streamstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what takes milliseconds on an idle machine.
const patience = 15 * time.Second

// setup is a server of the test's own with all streams and consumers, as the service leaves them.
func setup(t testing.TB) jetstream.JetStream {
	t.Helper()
	js := streamstest.New(t).JetStream(t)
	if err := streams.Ensure(t.Context(), js, streams.Config{}); err != nil {
		t.Fatal(err)
	}
	return js
}

// setupCluster is the same on three servers.
func setupCluster(t testing.TB) jetstream.JetStream {
	t.Helper()
	nc, err := streamstest.NewCluster(t).Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if err := streams.Ensure(t.Context(), js, streams.Config{Replicas: 3}); err != nil {
		t.Fatal(err)
	}
	return js
}

// next is the next message of a consumer; it fails the test when none comes within patience.
func next(t *testing.T, js jetstream.JetStream, stream, consumer string) jetstream.Msg {
	t.Helper()
	c, err := js.Consumer(t.Context(), stream, consumer)
	if err != nil {
		t.Fatal(err)
	}
	msg, err := c.Next(jetstream.FetchMaxWait(patience))
	if err != nil {
		t.Fatalf("next message of %s: %v", consumer, err)
	}
	return msg
}

// count is the number of messages a stream holds on a subject.
func count(t *testing.T, js jetstream.JetStream, stream, subject string) int {
	t.Helper()
	info := streamInfo(t, js, stream, jetstream.WithSubjectFilter(subject))
	total := 0
	for _, n := range info.State.Subjects {
		total += int(n)
	}
	return total
}

func streamInfo(t *testing.T, js jetstream.JetStream, stream string, opts ...jetstream.StreamInfoOpt) *jetstream.StreamInfo {
	t.Helper()
	s, err := js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	info, err := s.Info(t.Context(), opts...)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// eventually polls until ok, and fails the test when patience ends.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("not within %s: %s", patience, what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}
