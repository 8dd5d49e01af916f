// Package streamstest runs a NATS server with JetStream inside the process: for tests, one each, and for
// the dev command.
package streamstest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

const (
	host = "127.0.0.1"

	// maxStore and maxMemory are limits, not reservations. Without them the server takes a share of what
	// is free, which on a small /tmp can be too little to begin with; a full disk speaks for itself.
	maxStore  = 64 << 30
	maxMemory = 256 << 20

	// readyTimeout is for a machine under load; a few milliseconds are usual.
	readyTimeout = 10 * time.Second

	// portTimeout is how long a server waits for a port that it had.
	portTimeout = 2 * time.Second
)

// Config says how the server runs. The zero value: a temporary store, a free port, no log.
type Config struct {
	// Dir is JetStream's store. Empty: a temporary directory that Stop removes.
	Dir string
	// Port on 127.0.0.1. Zero: a free one. -1: none, the server is reached by [Server.Connect] alone.
	Port int
	// ServerName is the name the server gives itself. Empty: a random one.
	ServerName string
	// Logger takes the server's own lines: its notices at debug, warnings and errors as such. Nil: silence.
	Logger *slog.Logger
}

// Server is a running NATS server with JetStream. It can be stopped and started again.
type Server struct {
	cfg Config
	tmp string // the store that Stop removes, or empty

	mu      sync.Mutex
	running *natsserver.Server // nil after Stop
	ran     bool               // so that the port is its own
}

// Start returns once the server takes connections; ctx bounds the start alone. For a port that is taken
// errors.Is tells syscall.EADDRINUSE.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	s := &Server{cfg: cfg}
	if cfg.Dir == "" {
		tmp, err := os.MkdirTemp("", "publish-nats-")
		if err != nil {
			return nil, fmt.Errorf("make NATS store: %w", err)
		}
		s.tmp, s.cfg.Dir = tmp, tmp
	}
	if cfg.Logger == nil {
		s.cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if err := s.Restart(ctx); err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

// Restart stops the server and starts it again on the same port and store. After Stop it starts it anew,
// with what is left of its store: a temporary one is gone. ctx bounds the start.
func (s *Server) Restart(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shutdown()
	running, err := start(ctx, s.cfg)
	// The last connections of a server that was just stopped hold its port for some milliseconds.
	for deadline := time.Now().Add(portTimeout); s.ran && errors.Is(err, syscall.EADDRINUSE) && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
		running, err = start(ctx, s.cfg)
	}
	if err != nil {
		return err
	}
	s.running, s.ran = running, true
	if addr, ok := running.Addr().(*net.TCPAddr); ok {
		s.cfg.Port = addr.Port
	}
	return nil
}

// Halt stops the server and waits until it is gone, but leaves its store: [Server.Restart] goes on where
// it stopped. Tests use it for an outage.
func (s *Server) Halt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shutdown()
}

// Stop stops the server, waits until it is gone and removes its store if it is a temporary one. Stopping
// twice is stopping once.
func (s *Server) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shutdown()
	if s.tmp != "" {
		_ = os.RemoveAll(s.tmp)
	}
}

func (s *Server) shutdown() {
	if s.running != nil {
		s.running.Shutdown()
		s.running.WaitForShutdown()
		s.running = nil
	}
}

// URL is where clients connect, such as "nats://127.0.0.1:4222". It stays the same over Restart. Empty
// without a port.
func (s *Server) URL() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cfg.Port < 0 {
		return ""
	}
	return "nats://" + net.JoinHostPort(host, strconv.Itoa(s.cfg.Port))
}

// Connect connects to the server, inside the process where it has no port. The caller closes the
// connection. Unlike nats.go's own defaults it never gives up reconnecting, and it tells what goes wrong
// later to the server's logger; opts may say otherwise.
func (s *Server) Connect(opts ...nats.Option) (*nats.Conn, error) {
	all := []nats.Option{
		nats.MaxReconnects(-1),
		nats.ReconnectWait(50 * time.Millisecond),
		// nats.go prints to standard error otherwise, at every restart too.
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { s.cfg.Logger.Warn("nats client", "err", err) }),
	}
	url := s.URL()
	if url == "" {
		all = append(all, nats.InProcessServer(s))
	}
	nc, err := nats.Connect(url, append(all, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("connect to the embedded NATS server: %w", err)
	}
	return nc, nil
}

// InProcessConn makes the server a nats.InProcessConnProvider that outlives Restart.
func (s *Server) InProcessConn() (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == nil {
		return nil, errors.New("the embedded NATS server is stopped")
	}
	return s.running.InProcessConn()
}

func start(ctx context.Context, cfg Config) (*natsserver.Server, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("start embedded NATS server in %s: %w", cfg.Dir, err)
	}
	opts := &natsserver.Options{
		ServerName:         cfg.ServerName,
		Host:               host,
		Port:               cfg.Port,
		NoSigs:             true,
		NoLog:              true, // the logger is set below
		JetStream:          true,
		StoreDir:           filepath.Clean(cfg.Dir),
		JetStreamMaxStore:  maxStore,
		JetStreamMaxMemory: maxMemory,
	}
	switch {
	case cfg.Port < 0:
		opts.DontListen = true
	case cfg.Port == 0:
		opts.Port = natsserver.RANDOM_PORT
	default:
		if err := portIsFree(ctx, cfg.Port); err != nil {
			return nil, err
		}
	}
	server, err := natsserver.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("start embedded NATS server in %s: %w", cfg.Dir, err)
	}
	log := &logAdapter{logger: cfg.Logger}
	server.SetLoggerV2(log, false, false, false)
	server.Start()
	if err := ready(ctx, server, log); err != nil {
		server.Shutdown()
		server.WaitForShutdown()
		return nil, fmt.Errorf("start embedded NATS server in %s: %w", cfg.Dir, err)
	}
	return server, nil
}

// portIsFree asks before the server does: the server tells a taken port in its log alone.
func portIsFree(ctx context.Context, port int) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return fmt.Errorf("port %d is not free for the embedded NATS server: %w", port, err)
	}
	return listener.Close()
}

func ready(ctx context.Context, server *natsserver.Server, log *logAdapter) error {
	for deadline := time.Now().Add(readyTimeout); ; {
		// A server that can't start says so in its log alone.
		if fatal := log.lastFatal(); fatal != "" {
			if taken := syscall.EADDRINUSE; strings.Contains(fatal, taken.Error()) { // somebody was quicker, or was just looking
				return fmt.Errorf("%w (%s)", taken, fatal)
			}
			return errors.New(fatal)
		}
		// It looks every 25 ms, but without a pause when asked for less.
		if server.ReadyForConnections(5*time.Millisecond) && server.JetStreamEnabled() {
			return nil
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case time.Now().After(deadline):
			return fmt.Errorf("it was not ready after %s", readyTimeout)
		}
	}
}
