package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"publish-reconciler/cmd/publish-reconciler/simulate"
	"publish-reconciler/reconciler"
	"publish-reconciler/repo"
	"publish-reconciler/repo/pgtest"
	"publish-reconciler/streams"
	"publish-reconciler/streams/streamstest"
)

const (
	// reachTimeout is how long a simulation tries to reach NATS and Postgres before it begins; whoever types
	// wants to know.
	reachTimeout = 10 * time.Second
	// cleanupTimeout limits what is done after a run was broken off.
	cleanupTimeout = time.Minute
)

func (*simulateCommand) Help() string {
	return `It plays publishers and platforms against a running service, or with --embedded against one of its own: it
inserts logs, schedules their checks and sends webhooks. At the end it looks at every log: status, reason,
state changes in the ledger, metadata, messages left, dead letters, parked webhooks, outcome events. It exits
with 0 when all are as they must be, else with 1 and the histories of the first that are not.

The same seed tells the same story. The platforms are sim-instagram, sim-tiktok, sim-youtube and sim-x, and the
posts' ids have the run's number in them: nothing else in the database or the streams is touched.

It expects the default rules: no PLATFORM_RETRIES for its platforms, LATE_WEBHOOKS=accept, OUTAGE_HOLD=off,
nobody who answers probes for them, and a DEFAULT_TIMEOUT longer than --timeout. NATS, Postgres and the service
may be restarted meanwhile. A log whose deadline passed before JetStream had its webhook fails and is corrected,
or stays failed where the webhook did not confirm it: such logs are right, and counted as overtaken.

Its rows, ledger events, dead letters and parked webhooks stay, for you to look at; --cleanup removes them.`
}

func (c *simulateCommand) run(ctx context.Context, out output) (err error) {
	cfg, err := c.read()
	if err != nil {
		return err
	}
	if c.Story {
		return printStory(ctx, out.stdout, cfg.Plan)
	}
	logger := logConfig{level: slog.LevelWarn}.logger(out.stderr)
	if !c.Embedded {
		return c.against(ctx, out, cfg, c.natsAccess, c.DatabaseURL, logger)
	}
	natsConfig := streamstest.Config{ServerName: "publish-reconciler-simulate", Logger: logger}
	servers, err := startEmbedded(ctx, natsConfig, pgtest.Config{Durable: true, Logger: logger})
	if err != nil {
		return stopped(ctx, err)
	}
	defer func() { err = errors.Join(err, servers.stop()) }()
	working, cancel := servers.while(ctx)
	defer cancel()
	access := natsAccess{NATSURL: servers.natsURL()}
	service, err := newService(working, ownConfig(access, servers.databaseURL(), cfg.Events), logger)
	if err != nil {
		return stopped(ctx, err)
	}
	group, working := errgroup.WithContext(working)
	serving, stop := context.WithCancel(working)
	ready := make(chan struct{})
	group.Go(func() error { return service.serve(serving, func() { close(ready) }) })
	group.Go(func() error {
		defer stop()
		select {
		case <-ready:
			return c.against(working, out, cfg, access, servers.databaseURL(), logger)
		case <-working.Done():
			return stopped(working, nil)
		}
	})
	return group.Wait()
}

// ownConfig is that of the service which a simulation brings along: the default rules.
func ownConfig(access natsAccess, databaseURL string, events bool) config {
	return config{
		nats: access, streamReplicas: 1, manageStreams: true,
		databaseURL: databaseURL, httpAddr: "127.0.0.1:0", events: events,
		policy:        reconciler.Policy{DefaultTimeout: reconciler.DefaultTimeout},
		sweepInterval: time.Minute,
	}
}

// against plays against a service that is there, looks at what became of it, and tells.
func (c *simulateCommand) against(ctx context.Context, out output, cfg simulate.Config, access natsAccess, databaseURL string, logger *slog.Logger) error {
	pool, err := openPool(ctx, databaseURL)
	if err != nil {
		return stopped(ctx, err)
	}
	defer pool.Close()
	nc, js, err := openJetStream(ctx, access, logger)
	if err != nil {
		return stopped(ctx, err)
	}
	defer nc.Close()
	progress := newProgress(out.stderr)
	cfg.JS, cfg.DB, cfg.Logger, cfg.Progress = js, pool, logger, progress.tell
	simulation := simulate.New(cfg)
	if c.Recheck == "" {
		fmt.Fprintf(out.stderr, "simulation %d: %d logs, %g a second, seed %d\n", cfg.Run, cfg.Plan.Logs, cfg.Plan.Rate, cfg.Plan.Seed)
	}
	err = c.conclude(ctx, out, simulation, databaseURL, progress)
	switch {
	case c.Embedded: // all of it vanishes
	case c.Cleanup:
		cleaning, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
		defer cancel()
		if failed := simulation.CleanUp(cleaning); failed != nil {
			err = errors.Join(err, fmt.Errorf("clean up: %w", failed))
		}
	default:
		fmt.Fprintf(out.stderr, "simulation %[1]d leaves its rows behind: --recheck %[1]d --cleanup removes them\n", cfg.Run)
	}
	return err
}

// conclude plays, unless that was done before, and judges. Its error tells that not all is as it must be.
func (c *simulateCommand) conclude(ctx context.Context, out output, simulation *simulate.Simulation, databaseURL string, progress *progress) error {
	var stalled *simulate.StalledError
	if c.Recheck != "" {
		simulation.All()
	} else if err := simulation.Play(ctx); err != nil && !errors.As(err, &stalled) {
		progress.end()
		return stopped(ctx, err)
	}
	result, err := simulation.Examine(ctx)
	progress.end()
	if err != nil {
		return stopped(ctx, err)
	}
	report := newReport(result, result.OK() && stalled == nil, offenders(ctx, databaseURL, result))
	if err := report.print(out.stdout, c.JSON); err != nil {
		return err
	}
	switch {
	case stalled != nil:
		return stalled
	case result.Wrong > 0:
		return fmt.Errorf("%d of %d logs are not as they must be", result.Wrong, result.Logs)
	case !report.OK:
		return errors.New("not all webhooks are acknowledged")
	}
	return nil
}

// offenders are the logs that are not as they must be, as the service would show them.
func offenders(ctx context.Context, databaseURL string, result simulate.Result) []logAnswer {
	store, err := repo.Open(repo.Config{URL: databaseURL})
	if err != nil {
		return nil // it was opened before
	}
	defer store.Close()
	policy := reconciler.Policy{DefaultTimeout: reconciler.DefaultTimeout}
	var logs []logAnswer
	for _, offence := range result.Offences {
		if view, err := store.View(ctx, offence.LogID); err == nil { // else the faults say that there is no row
			logs = append(logs, logAnswer{view, policy.Explain(view)})
		}
	}
	return logs
}

// stopped is why a run was broken off: an interrupted one proves nothing.
func stopped(ctx context.Context, err error) error {
	switch {
	case errors.Is(context.Cause(ctx), errPostgresEnded):
		return errPostgresEnded
	case ctx.Err() != nil:
		return errors.New("stopped before the end: nothing is proven")
	default:
		return err
	}
}

func openPool(ctx context.Context, url string) (*pgxpool.Pool, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, reachTimeout, fmt.Errorf("no answer within %s", reachTimeout))
	defer cancel()
	if _, err := repo.CheckSchema(ctx, url); err != nil {
		return nil, fmt.Errorf("postgres at --database-url (DATABASE_URL): %w", err)
	}
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	cfg.ConnConfig.RuntimeParams["application_name"] = "publish-reconciler (simulate)"
	return pgxpool.NewWithConfig(context.WithoutCancel(ctx), cfg)
}

// openJetStream is connected, and comes back for ever when that is lost.
func openJetStream(ctx context.Context, access natsAccess, logger *slog.Logger) (*nats.Conn, jetstream.JetStream, error) {
	nc, state, err := connectNATS(access, logger)
	if err != nil {
		return nil, nil, err
	}
	for deadline := time.Now().Add(reachTimeout); !nc.IsConnected() && time.Now().Before(deadline) && ctx.Err() == nil; {
		time.Sleep(5 * time.Millisecond)
	}
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncTimeout(publishTimeout))
	if err == nil {
		looking, cancel := state.untilRefused(ctx)
		_, err = js.Stream(looking, streams.StreamChecks)
		err = orRefusal(looking, err)
		cancel()
	}
	switch {
	case err == nil:
		return nc, js, nil
	case !nc.IsConnected():
		err = access.notLetIn(errors.Join(nc.LastError(), err))
	case errors.Is(err, jetstream.ErrStreamNotFound):
		err = fmt.Errorf("there is no stream %s at %s: is the service running (publish-reconciler run)?", streams.StreamChecks, redactNATS(access.NATSURL))
	}
	nc.Close()
	return nil, nil, err
}
