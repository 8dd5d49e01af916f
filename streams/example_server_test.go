package streams_test

import (
	"context"

	"github.com/nats-io/nats.go/jetstream"

	"publish-reconciler/streams"
	"publish-reconciler/streams/streamstest"
)

// connected stands in the examples for jetstream.New on a connection to one's own server.
func connected() (js jetstream.JetStream, stop func()) {
	ctx := context.Background()
	server, err := streamstest.Start(ctx, streamstest.Config{})
	if err != nil {
		panic(err)
	}
	nc, err := server.Connect()
	if err != nil {
		panic(err)
	}
	if js, err = jetstream.New(nc); err != nil {
		panic(err)
	}
	return js, func() { nc.Close(); server.Stop() }
}

// connectedToService is connected to a server that a service has been at: its streams are there.
func connectedToService() (js jetstream.JetStream, stop func()) {
	js, stop = connected()
	if err := streams.Ensure(context.Background(), js, streams.Config{}); err != nil {
		panic(err)
	}
	return js, stop
}
