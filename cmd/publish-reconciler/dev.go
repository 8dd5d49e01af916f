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
	if cfg.httpAddr == httpAddrDefault {
		cfg.httpAddr = net.JoinHostPort("127.0.0.1", strconv.Itoa(usualOrFree(8080)))
	}
	natsConfig := streamstest.Config{Port: usualOrFree(usualNATSPort), ServerName: "publish-reconciler-dev", Logger: logger}
	postgresConfig := pgtest.Config{Port: usualOrFree(usualPostgresPort), Durable: true, Logger: logger}
	if c.DataDir != "" {
		dir, err := filepath.Abs(c.DataDir)
		if err != nil {
			return fmt.Errorf("data directory: %w", err)
		}
		natsConfig.Dir, postgresConfig.Dir = filepath.Join(dir, "nats"), filepath.Join(dir, "postgres")
	}

	broker, err := streamstest.Start(ctx, natsConfig)
	if err != nil {
		return err
	}
	defer broker.Stop()
	postgres, err := pgtest.Start(ctx, postgresConfig)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, postgres.Stop()) }()
	if err := postgres.CreateDatabase(ctx, "publish"); err != nil {
		return err
	}
	cfg.natsURL, cfg.databaseURL = broker.URL(), postgres.URL("publish")
	if _, _, err := repo.Migrate(ctx, cfg.databaseURL); err != nil {
		return err
	}

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-postgres.Exited():
			cancel(errPostgresEnded)
		case <-ctx.Done():
		}
	}()
	service, err := newService(ctx, cfg, logger)
	if err != nil {
		return err
	}
	err = service.serve(ctx, func() { c.greet(out.stdout, cfg, "http://"+service.listener.Addr().String()) })
	if cause := context.Cause(ctx); errors.Is(cause, errPostgresEnded) {
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

// usualOrFree is the usual port on 127.0.0.1, or a free one where that is taken.
func usualOrFree(usual int) int {
	for _, port := range []int{usual, 0} {
		listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		defer listener.Close()
		return listener.Addr().(*net.TCPAddr).Port
	}
	return 0 // no port at all is free; whoever listens will tell
}
