package streamstest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// clusterSize is how many servers a cluster has: one may be lost.
const clusterSize = 3

// Cluster is three NATS servers with JetStream, whose streams can be kept on all of them. It is used by one
// goroutine.
type Cluster struct {
	dir     string
	options []*natsserver.Options
	servers []*natsserver.Server // nil: halted
}

// StartCluster returns once the servers take connections and JetStream has a leader, or ctx ends.
func StartCluster(ctx context.Context) (c *Cluster, err error) {
	dir, err := os.MkdirTemp("", "publish-nats-")
	if err != nil {
		return nil, fmt.Errorf("make NATS store: %w", err)
	}
	c = &Cluster{dir: dir, servers: make([]*natsserver.Server, clusterSize)}
	defer func() {
		if err != nil {
			c.Stop()
		}
	}()
	var routes []*url.URL
	for i := range clusterSize {
		port := quietPort(ctx)
		routes = append(routes, &url.URL{Scheme: "nats", Host: net.JoinHostPort(host, strconv.Itoa(port))})
		name := fmt.Sprint("server-", i+1)
		c.options = append(c.options, &natsserver.Options{
			ServerName: name, Host: host, Port: quietPort(ctx), NoSigs: true, NoLog: true,
			JetStream: true, StoreDir: filepath.Join(dir, name), JetStreamMaxStore: maxStore, JetStreamMaxMemory: maxMemory,
			Cluster: natsserver.ClusterOpts{Name: "embedded", Host: host, Port: port},
		})
	}
	for i, options := range c.options {
		options.Routes = routes
		if err := c.Restart(ctx, i); err != nil {
			return nil, err
		}
	}
	for !slices.ContainsFunc(c.servers, (*natsserver.Server).JetStreamIsLeader) || slices.ContainsFunc(c.servers, func(s *natsserver.Server) bool { return !s.JetStreamIsCurrent() }) {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return nil, fmt.Errorf("no leader of JetStream: %w", ctx.Err())
		}
	}
	return c, nil
}

// quietPort is one that no connection takes by itself, since a server has to come back at the port it had.
func quietPort(ctx context.Context) int {
	for {
		port := 20_000 + rand.IntN(10_000)
		if portIsFree(ctx, port) == nil || ctx.Err() != nil {
			return port
		}
	}
}

// Restart starts server i again, where it was halted.
func (c *Cluster) Restart(ctx context.Context, i int) error {
	server, err := natsserver.NewServer(c.options[i].Clone())
	if err != nil {
		return fmt.Errorf("start server %d of the embedded NATS cluster: %w", i+1, err)
	}
	c.servers[i] = server
	server.Start()
	for deadline := time.Now().Add(readyTimeout); !server.ReadyForConnections(10 * time.Millisecond); {
		if ctx.Err() != nil || time.Now().After(deadline) {
			return errors.Join(fmt.Errorf("server %d of the embedded NATS cluster is not ready", i+1), ctx.Err())
		}
	}
	return nil
}

// Halt stops server i and waits until it is gone, but leaves its store.
func (c *Cluster) Halt(i int) {
	if c.servers[i] != nil {
		c.servers[i].Shutdown()
		c.servers[i].WaitForShutdown()
		c.servers[i] = nil
	}
}

// Stop stops all servers and removes their stores.
func (c *Cluster) Stop() {
	for i := range c.servers {
		c.Halt(i)
	}
	_ = os.RemoveAll(c.dir)
}

// Leader is the server that leads a stream of the default account; -1 while there is none.
func (c *Cluster) Leader(stream string) int {
	return slices.IndexFunc(c.servers, func(s *natsserver.Server) bool {
		return s != nil && s.JetStreamIsStreamLeader(natsserver.DEFAULT_GLOBAL_ACCOUNT, stream)
	})
}

// Current tells whether server i runs and has all that JetStream's leader has.
func (c *Cluster) Current(i int) bool {
	return c.servers[i] != nil && c.servers[i].JetStreamIsCurrent()
}

// URL is where clients connect: all servers, separated by commas.
func (c *Cluster) URL() string {
	var urls []string
	for _, options := range c.options {
		urls = append(urls, "nats://"+net.JoinHostPort(host, strconv.Itoa(options.Port)))
	}
	return strings.Join(urls, ",")
}

// Connect connects to the servers as [Server.Connect] does, silently.
func (c *Cluster) Connect() (*nats.Conn, error) {
	return nats.Connect(c.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
}
