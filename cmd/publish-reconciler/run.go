package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"publish-reconciler/repo"
)

type runCommand struct {
	settings       `embed:""`
	BatchSize      int           `name:"batch-size" hidden:"" help:"The most messages in one transaction; for bench."`
	GatherInterval time.Duration `name:"gather-interval" hidden:"" help:"How often the metrics' gauges are gathered; for tests."`
}

func (c *runCommand) run(ctx context.Context, out output) error {
	cfg, err := c.config()
	if err != nil {
		return err
	}
	cfg.batchSize, cfg.gatherInterval = c.BatchSize, c.GatherInterval
	logger := cfg.log.logger(out.stderr)
	program := built()
	logger.InfoContext(ctx, "starting", "version", program.version, "commit", program.commit)
	service, err := newService(ctx, cfg, logger)
	if err != nil {
		return err
	}
	return service.serve(ctx, func() {
		logger.InfoContext(ctx, "ready", "http", service.listener.Addr().String(), "nats", redactNATS(cfg.nats.NATSURL), "version", program.version)
	})
}

type migrateCommand struct {
	databaseSettings `embed:""`
}

func (c *migrateCommand) run(ctx context.Context, out output) error {
	var f faults
	url := c.read(&f)
	if err := f.err(); err != nil {
		return err
	}
	schema, err := repo.Migrate(ctx, url)
	switch {
	case err != nil:
	case schema.Newer():
		_, err = fmt.Fprintf(out.stdout, "schema is version %d, newer than this program's %d, which works with it: nothing to do\n", schema.Found, schema.Needed)
	case schema.Found == schema.Needed:
		_, err = fmt.Fprintf(out.stdout, "schema is up to date at version %d\n", schema.Needed)
	default:
		_, err = fmt.Fprintf(out.stdout, "schema migrated from version %d to %d\n", schema.Found, schema.Needed)
	}
	return err
}

type healthcheckCommand struct {
	HTTPAddr string `name:"http-addr" env:"HTTP_ADDR" default:"${http_addr}" help:"Where the service serves HTTP."`
}

func (c *healthcheckCommand) run(ctx context.Context, _ output) error {
	var f faults
	httpSettings{HTTPAddr: c.HTTPAddr, APIToken: "not needed to ask"}.check(&f)
	if err := f.err(); err != nil {
		return err
	}
	host, port, _ := net.SplitHostPort(c.HTTPAddr)
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1" // it listens everywhere
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/readyz", http.NoBody)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready: %s", response.Status)
	}
	return nil
}
