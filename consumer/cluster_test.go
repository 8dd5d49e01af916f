package consumer_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"publish-reconciler/repo/pgtest/pgtestdb"
	"publish-reconciler/streams"
)

// cluster is three NATS servers with JetStream. Its streams are kept on all of them.
type cluster struct {
	*testing.T
	options []*natsserver.Options
	servers []*natsserver.Server // nil: stopped
}

func startCluster(t *testing.T) *cluster {
	t.Helper()
	const size = 3
	c := &cluster{T: t, servers: make([]*natsserver.Server, size)}
	var routes []*url.URL
	dir := t.TempDir()
	for i := range size {
		port := freePort(t)
		routes = append(routes, &url.URL{Scheme: "nats", Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(port))})
		name := fmt.Sprint("server-", i+1)
		c.options = append(c.options, &natsserver.Options{
			ServerName: name, Host: "127.0.0.1", Port: freePort(t), NoSigs: true, NoLog: true,
			JetStream: true, StoreDir: filepath.Join(dir, name), JetStreamMaxStore: 1 << 30, JetStreamMaxMemory: 64 << 20,
			Cluster: natsserver.ClusterOpts{Name: "faults", Host: "127.0.0.1", Port: port},
		})
	}
	for i, options := range c.options {
		options.Routes = routes
		c.restart(i)
	}
	t.Cleanup(func() {
		for i := range c.servers {
			c.halt(i)
		}
	})
	return c
}

// freePort is one that no connection takes by itself, since a server has to come back at the port it had.
func freePort(t *testing.T) int {
	t.Helper()
	for {
		port := 20_000 + rand.IntN(10_000)
		listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			_ = listener.Close()
			return port
		}
	}
}

func (c *cluster) restart(i int) {
	c.Helper()
	server, err := natsserver.NewServer(c.options[i].Clone())
	if err != nil {
		c.Fatal(err)
	}
	c.servers[i] = server
	server.Start()
	if !server.ReadyForConnections(soon) {
		c.Fatalf("server %d is not ready", i+1)
	}
}

func (c *cluster) halt(i int) {
	if c.servers[i] != nil {
		c.servers[i].Shutdown()
		c.servers[i].WaitForShutdown()
		c.servers[i] = nil
	}
}

// leader is the server that leads a stream; it waits for one.
func (c *cluster) leader(w *world, stream string) (i int) {
	c.Helper()
	w.until(stream+" has a leader", func() bool {
		i = slices.IndexFunc(c.servers, func(s *natsserver.Server) bool {
			return s != nil && s.JetStreamIsStreamLeader(natsserver.DEFAULT_GLOBAL_ACCOUNT, stream)
		})
		return i >= 0
	})
	return i
}

func (c *cluster) connect() (*nats.Conn, error) {
	var urls string
	for _, options := range c.options {
		urls += fmt.Sprintf("nats://127.0.0.1:%d,", options.Port)
	}
	return nats.Connect(urls, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
}

// world is one with all streams on the three servers.
func (c *cluster) world() *world {
	c.Helper()
	w := &world{T: c.T, url: pgtestdb.New(c.T, migrate)}
	w.connectPostgres()
	nc, err := c.connect()
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(nc.Close)
	if w.js, err = jetstream.New(nc); err != nil {
		c.Fatal(err)
	}
	for _, s := range c.servers {
		w.until("JetStream has a leader", func() bool { return s.JetStreamIsCurrent() })
	}
	if err := streams.Ensure(c.Context(), w.js, streams.Config{Replicas: len(c.servers)}); err != nil {
		c.Fatal(err)
	}
	w.tickAt(time.Now().Add(time.Hour))
	return w
}

// sendSurely publishes n messages, each until it is stored: the other side of "webhooks wait with their
// ingestors". The message id tells the stream what it has already.
func (w *world) sendSurely(n int, message func(i int) (subject, body string)) {
	w.Helper()
	for i := range n {
		subject, body := message(i)
		id := jetstream.WithMsgID(subject + body)
		w.until("message is stored", func() bool {
			ctx, cancel := context.WithTimeout(w.Context(), time.Second)
			defer cancel()
			_, err := w.js.Publish(ctx, subject, []byte(body), id)
			return err == nil
		})
	}
}

// There is more than a batch, so that the server says of a pull that it is complete before the messages come:
// these wait for their delivery to be replicated. None of them is lost, which would come again after the ack wait.
func TestABacklogOnACluster(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	w := c.world()
	const n = 200
	w.load(n)
	w.start(batchSize(20), unrestored, func(p *parts) { p.connect = c.connect })
	w.endsWell(n)
	equal(t, "redelivered", redelivered(w.consumerInfo(streams.ConsumerWebhooks)), 0)
}

// The server that leads a stream is lost, one after the other, under load. The others elect another leader.
func TestAClusterLosesItsLeaders(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	w := c.world()
	w.shortenAckWait(streams.ConsumerWebhooks)
	w.shortenAckWait(streams.ConsumerChecks)
	const n = 400
	logs := w.insertLogs("p", n, 0)
	for range 2 {
		w.start(batchSize(20), unrestored, func(p *parts) { p.connect, p.store.Outbox = c.connect, true })
	}
	w.relay(asIs)
	half := func(part int) {
		from := n / 2 * part
		w.sendSurely(n/2, func(i int) (subject, body string) { return webhooks, published(fmt.Sprint("p", from+i+1)) })
		w.sendSurely(n/2, func(i int) (subject, body string) { return streams.CheckSubject(logs[from+i]), "" })
	}
	for part, stream := range []string{streams.StreamWebhooks, streams.StreamChecks} {
		lost := c.leader(w, stream)
		w.until("it goes on", func() bool { return w.done() >= n/2*part })
		c.halt(lost)
		half(part)
		c.restart(lost)
		w.until("it is one of them again", func() bool { return c.servers[lost].JetStreamIsCurrent() })
	}
	for _, d := range streams.Consumers() {
		w.until(d.Config.Durable+" answers", func() bool {
			_, err := w.js.Consumer(t.Context(), d.Stream, d.Config.Durable)
			return err == nil
		})
	}
	w.endsWell(n)
	becomes(w, "untold", 0, w.untold)
	told, seen := w.stored(streams.StreamEvents, "publish.event.instagram.success"), make(map[string]bool)
	for _, event := range told {
		seen[event.Header.Get(nats.MsgIdHdr)] = true
	}
	equal(t, "events, and different ones", []int{len(told), len(seen)}, []int{n, n})
}
