package streamstest

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// TB is what the helpers use of a testing.TB. It is spelled out so that a program that links this
// package, as the dev command does, does not link testing and its flags.
type TB interface {
	Helper()
	Cleanup(f func())
	Fatalf(format string, args ...any)
	TempDir() string
}

// New starts a server of the test's own on a free port and stops it when the test ends.
func New(tb TB) *Server {
	tb.Helper()
	server, err := Start(context.Background(), Config{Dir: tb.TempDir()})
	if err != nil {
		tb.Fatalf("%v", err)
	}
	tb.Cleanup(server.Stop)
	return server
}

// JetStream connects to the server and closes the connection when the test ends.
func (s *Server) JetStream(tb TB, opts ...nats.Option) jetstream.JetStream {
	tb.Helper()
	nc, err := s.Connect(opts...)
	if err != nil {
		tb.Fatalf("%v", err)
	}
	tb.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		tb.Fatalf("%v", err)
	}
	return js
}

// NewCluster starts a cluster and stops it when the test ends.
func NewCluster(tb TB) *Cluster {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cluster, err := StartCluster(ctx)
	if err != nil {
		tb.Fatalf("%v", err)
	}
	tb.Cleanup(cluster.Stop)
	return cluster
}
