package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"

	"publish-reconciler/repo"
	"publish-reconciler/repo/pgtest"
	"publish-reconciler/streams/streamstest"
)

// The usual ports; where one is taken, dev takes a free one.
const (
	usualNATSPort     = 4222
	usualPostgresPort = 5432
	usualHTTPPort     = 8080
)

type devCommand struct {
	settings `embed:""`
	DataDir  string `name:"data-dir" env:"DATA_DIR" help:"Where to keep the data; unset: in a temporary place, removed at the end."`
}

// errPostgresEnded ends dev: without Postgres there is nothing to develop against.
var errPostgresEnded = errors.New("the private postgres ended")

func (c *devCommand) run(ctx context.Context, out output) (err error) {
	own := c.DatabaseURL != "" || c.NATSURL != natsURLDefault
	c.DatabaseURL, c.NATSURL = "postgres:///", natsURLDefault // replaced below
	cfg, err := c.config()
	if err != nil {
		return err
	}
	logger := cfg.log.logger(out.stderr)
	if own {
		logger.WarnContext(ctx, "dev brings its own nats and postgres: NATS_URL and DATABASE_URL are not used")
	}
	natsConfig := streamstest.Config{ServerName: "publish-reconciler-dev", Logger: logger}
	postgresConfig := pgtest.Config{Durable: true, Logger: logger}
	if c.DataDir != "" {
		dir, err := filepath.Abs(c.DataDir)
		if err != nil {
			return fmt.Errorf("data directory: %w", err)
		}
		natsConfig.Dir, postgresConfig.Dir = filepath.Join(dir, "nats"), filepath.Join(dir, "postgres")
	}

	defer func() {
		if ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(ctx))) {
			err = nil // asked to stop before it was ready
		}
	}()
	// Postgres goes first: its lock keeps a second dev off the data directory.
	postgres, err := onPort(ctx, usualPostgresPort, func(port int) (*pgtest.Server, error) {
		postgresConfig.Port = port
		return pgtest.Start(ctx, postgresConfig)
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, postgres.Stop()) }()
	broker, err := onPort(ctx, usualNATSPort, func(port int) (*streamstest.Server, error) {
		natsConfig.Port = port
		return streamstest.Start(ctx, natsConfig)
	})
	if err != nil {
		return err
	}
	defer broker.Stop()
	if err := postgres.CreateDatabase(ctx, "publish"); err != nil {
		return err
	}
	cfg.natsURL, cfg.databaseURL = broker.URL(), postgres.URL("publish")
	if _, _, err := repo.Migrate(ctx, cfg.databaseURL); err != nil {
		return err
	}

	working, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-postgres.Exited():
			cancel(errPostgresEnded)
		case <-working.Done():
		}
	}()
	service, err := onPort(ctx, usualHTTPPort, func(port int) (*service, error) {
		if c.HTTPAddr == httpAddrDefault {
			cfg.httpAddr = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		}
		return newService(working, cfg, logger)
	})
	if err != nil {
		return err
	}
	err = service.serve(working, func() { c.greet(out.stdout, cfg, "http://"+service.listener.Addr().String()) })
	if cause := context.Cause(working); errors.Is(cause, errPostgresEnded) {
		return cause
	}
	return err
}

// greet prints where everything is, and what to type next.
func (c *devCommand) greet(w io.Writer, cfg config, httpURL string) {
	data := "in a temporary place, removed at the end (--data-dir keeps it)"
	if c.DataDir != "" {
		data = c.DataDir
	}
	nats := "nats"
	if _, err := exec.LookPath(nats); err != nil {
		nats = "go run github.com/nats-io/natscli/nats@v0.5.1"
	}
	fmt.Fprintf(w, `publish-reconciler is ready

  NATS      %[1]s
  Postgres  %[2]s
  HTTP      %[3]s
  Data      %[4]s

Type in another terminal:

  psql '%[2]s' -c "INSERT INTO publish_logs (id, platform, status, external_post_id) VALUES (gen_random_uuid(), 'instagram', 'processing', 'ig_123')"

  %[5]s pub -s %[1]s publish.webhook.instagram '{"external_post_id":"ig_123","media_url":"https://instagram.com/p/ABC/","status":"published"}'

  psql '%[2]s' -c "SELECT status, external_url, extra_metadata->>'reconciliation_reason' AS reason FROM publish_logs WHERE external_post_id = 'ig_123'"

Ctrl-C ends it.
`, cfg.natsURL, cfg.databaseURL, httpURL, data, nats)
}

// onPort starts something on its usual port, or on a free one. Where another dev, which starts at the same
// time, was quicker, it tries again.
func onPort[T any](ctx context.Context, usual int, start func(port int) (T, error)) (started T, err error) {
	for range 3 {
		port := usualOrFree(ctx, usual)
		started, err = start(port)
		if err == nil || usualOrFree(ctx, port) == port {
			break // nobody has the port: it failed for another reason
		}
	}
	return started, err
}

// usualOrFree is the usual port on 127.0.0.1, or a free one where that is taken.
func usualOrFree(ctx context.Context, usual int) int {
	for _, port := range []int{usual, 0} {
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		port = listener.Addr().(*net.TCPAddr).Port
		_ = listener.Close()
		return port
	}
	return 0 // no port at all is free; whoever listens will tell
}
