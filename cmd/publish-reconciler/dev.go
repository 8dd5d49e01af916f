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

	"publish-reconciler/repo/pgtest"
	"publish-reconciler/streams/streamstest"
)

type devCommand struct {
	settings `embed:""`
	DataDir  string `name:"data-dir" env:"DATA_DIR" help:"Where to keep the data; unset: in a temporary place, removed at the end."`
}

func (c *devCommand) run(ctx context.Context, out output) (err error) {
	own := c.DatabaseURL != "" || c.NATSURL != natsURLDefault
	c.DatabaseURL, c.natsAccess = "postgres:///", natsAccess{NATSURL: natsURLDefault} // replaced below
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
	natsConfig.Port, postgresConfig.Port = usualNATSPort, usualPostgresPort
	servers, err := startEmbedded(ctx, natsConfig, postgresConfig)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, servers.stop()) }()
	cfg.nats.NATSURL, cfg.databaseURL = servers.natsURL(), servers.databaseURL()

	working, cancel := servers.while(ctx)
	defer cancel()
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
`, cfg.nats.NATSURL, cfg.databaseURL, httpURL, data, nats)
}
