package consumer_test

import (
	"context"
	"io"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// proxy passes TCP connections on to a server, and does to them what networks do.
type proxy struct {
	addr  string // where it listens
	delay atomic.Int64
	hole  atomic.Bool
	ended chan struct{} // when the test has

	mu    sync.Mutex
	conns map[net.Conn]bool // the clients' ends
}

// startProxy passes on to a server at network and address until the test ends.
func startProxy(t *testing.T, network, address string) *proxy {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: listener.Addr().String(), ended: make(chan struct{}), conns: make(map[net.Conn]bool)}
	var group sync.WaitGroup
	group.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // closed
			}
			upstream, err := new(net.Dialer).DialContext(context.Background(), network, address)
			if err != nil {
				_ = client.Close() // the server is away
				continue
			}
			p.mu.Lock()
			p.conns[client] = true
			p.mu.Unlock()
			group.Go(func() { p.pass(upstream, client) })
			group.Go(func() {
				p.pass(client, upstream)
				p.mu.Lock()
				delete(p.conns, client)
				p.mu.Unlock()
			})
		}
	})
	t.Cleanup(func() {
		close(p.ended)
		_ = listener.Close()
		p.reset()
		group.Wait()
	})
	return p
}

// pass copies until one side has closed, and closes the other. What comes while there is a black hole falls
// into it, and all that follows; neither side hears of the other's end.
func (p *proxy) pass(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	for buf := make([]byte, 32<<10); ; {
		n, err := from.Read(buf)
		time.Sleep(time.Duration(p.delay.Load()))
		if p.hole.Load() {
			_, _ = io.Copy(io.Discard, from)
			<-p.ended
			return
		}
		if _, writeErr := to.Write(buf[:n]); err != nil || writeErr != nil {
			return
		}
	}
}

// reset ends all connections as a router that has lost them does: with RST, not FIN, and whatever is on its
// way is lost.
func (p *proxy) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for client := range p.conns {
		if tcp, ok := client.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = client.Close()
	}
}

// postgresBehind is a proxy to the server of a database, and the database's URL through it.
func postgresBehind(t *testing.T, databaseURL string) (p *proxy, proxied string) {
	t.Helper()
	config, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	port := strconv.Itoa(int(config.Port))
	if filepath.IsAbs(config.Host) {
		p = startProxy(t, "unix", filepath.Join(config.Host, ".s.PGSQL."+port))
	} else {
		p = startProxy(t, "tcp", net.JoinHostPort(config.Host, port))
	}
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(config.User, config.Password), Host: p.addr,
		Path: "/" + config.Database, RawQuery: "sslmode=disable",
	}
	return p, u.String()
}

// natsBehind is a proxy to a world's NATS server.
func natsBehind(w *world) *proxy {
	w.Helper()
	return startProxy(w.T, "tcp", strings.TrimPrefix(w.nats.URL(), "nats://"))
}
