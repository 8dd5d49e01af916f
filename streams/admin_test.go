package streams_test

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"
)

// What an administrator does to the streams, before or after the service came.

func createStream(t *testing.T, js jetstream.JetStream, cfg jetstream.StreamConfig) {
	t.Helper()
	if _, err := js.CreateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
}

func updateStream(t *testing.T, js jetstream.JetStream, cfg jetstream.StreamConfig) {
	t.Helper()
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
}

func createConsumer(t *testing.T, js jetstream.JetStream, stream string, cfg jetstream.ConsumerConfig) {
	t.Helper()
	if _, err := js.CreateConsumer(t.Context(), stream, cfg); err != nil {
		t.Fatal(err)
	}
}

func createAnyConsumer(t *testing.T, js jetstream.JetStream, stream string, cfg jetstream.ConsumerConfig) {
	t.Helper()
	if cfg.DeliverSubject == "" {
		createConsumer(t, js, stream, cfg)
	} else if _, err := js.CreatePushConsumer(t.Context(), stream, cfg); err != nil {
		t.Fatal(err)
	}
}

func updateConsumer(t *testing.T, js jetstream.JetStream, stream string, cfg jetstream.ConsumerConfig) {
	t.Helper()
	if _, err := js.UpdateConsumer(t.Context(), stream, cfg); err != nil {
		t.Fatal(err)
	}
}

func changedStream(name string, change func(*jetstream.StreamConfig)) func(*testing.T, jetstream.JetStream) {
	return func(t *testing.T, js jetstream.JetStream) {
		t.Helper()
		cfg := streamInfo(t, js, name).Config
		change(&cfg)
		updateStream(t, js, cfg)
	}
}

func changedConsumer(stream, name string, change func(*jetstream.ConsumerConfig)) func(*testing.T, jetstream.JetStream) {
	return func(t *testing.T, js jetstream.JetStream) {
		t.Helper()
		cfg := consumerConfig(t, js, stream, name)
		change(&cfg)
		updateConsumer(t, js, stream, cfg)
	}
}

func consumerConfig(t *testing.T, js jetstream.JetStream, stream, name string) jetstream.ConsumerConfig {
	t.Helper()
	consumer, err := js.Consumer(t.Context(), stream, name)
	if err != nil {
		t.Fatal(err)
	}
	return consumer.CachedInfo().Config
}

func streamNames(t *testing.T, js jetstream.JetStream) []string {
	t.Helper()
	lister := js.StreamNames(t.Context())
	var names []string
	for name := range lister.Name() {
		names = append(names, name)
	}
	if err := lister.Err(); err != nil {
		t.Fatal(err)
	}
	return names
}

// everything is the settings of all streams and consumers there are, by name.
func everything(t *testing.T, js jetstream.JetStream) map[string]any {
	t.Helper()
	all := make(map[string]any)
	for _, name := range streamNames(t, js) {
		stream, err := js.Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = stream.CachedInfo().Config
		lister := stream.ListConsumers(t.Context())
		for info := range lister.Info() {
			all[name+" "+info.Name] = info.Config
		}
		if err := lister.Err(); err != nil {
			t.Fatal(err)
		}
	}
	return all
}
