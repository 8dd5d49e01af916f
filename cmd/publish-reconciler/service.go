package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"publish-reconciler/cmd/publish-reconciler/metrics"
	"publish-reconciler/cmd/publish-reconciler/tracing"
	"publish-reconciler/consumer"
	"publish-reconciler/reconciler"
	"publish-reconciler/repo"
	"publish-reconciler/streams"
)

// publishTimeout is when a message that JetStream did not answer for is given up. Without one, nats.go counts
// it as on its way for ever, and refuses more once there are 4,000.
const publishTimeout = 5 * time.Second

// newerSchema is logged in a rolling upgrade by a replica of the release before, and after a rollback.
const newerSchema = "the schema is newer than the program, which works with it"

// service is everything that run and dev have in common, wired up.
type service struct {
	cfg        config
	logger     *slog.Logger
	nc         *nats.Conn
	state      *natsState
	js         jetstream.JetStream
	store      *repo.Store
	metrics    *metrics.Metrics
	tracing    *tracing.Tracing // nil where it is off
	reconciler metrics.Reconciler
	scheduler  *consumer.Scheduler
	consumer   *consumer.Consumer
	relay      *consumer.Relay // nil where outcome events are off
	listener   net.Listener
}

// newService wires the service up. It takes its HTTP port, and is otherwise not connected to anything yet.
func newService(ctx context.Context, cfg config, logger *slog.Logger) (_ *service, err error) {
	s := &service{cfg: cfg}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	s.tracing, err = tracing.Start(ctx, os.Getenv, version(), logger)
	if err != nil {
		return nil, usageError{err}
	}
	logger = s.tracing.Logger(logger)
	s.logger = logger
	s.listener, err = new(net.ListenConfig).Listen(ctx, "tcp", cfg.httpAddr)
	if err != nil {
		return nil, fmt.Errorf("serve http: %w", err)
	}
	s.nc, s.state, err = connectNATS(cfg.nats, logger, nats.CustomInboxPrefix(streams.ServiceInboxPrefix))
	if err != nil {
		return nil, err
	}
	s.js, err = jetstream.New(s.nc, jetstream.WithPublishAsyncTimeout(publishTimeout))
	if err != nil {
		return nil, err
	}
	s.scheduler = consumer.NewScheduler(s.js)
	s.metrics = metrics.New(metrics.Config{Policy: cfg.policy, Signing: slices.Collect(maps.Keys(cfg.webhookSecrets)), Version: version(), Revision: built().commit, Now: s.scheduler.Now, Logger: logger})
	s.store, err = repo.Open(repo.Config{URL: cfg.databaseURL, Outbox: cfg.events, Tracer: s.tracing.Postgres(s.metrics.Tracer())})
	if err != nil {
		return nil, err
	}
	cfg.probe.Logger = logger
	s.reconciler = s.metrics.Reconciler(reconciler.New(s.tracing.Store(s.store), s.scheduler, consumer.NewProber(s.nc, cfg.probe), consumer.NewInbox(s.js), cfg.policy, logger))
	s.consumer, err = consumer.New(s.js, s.reconciler, s.scheduler, s.store, consumer.Config{
		BatchSize:       cfg.batchSize,
		SweepInterval:   cfg.sweepInterval,
		SweepMin:        cfg.sweepMin,
		PeakHours:       cfg.peakHours,
		LedgerRetention: cfg.ledgerRetention,
		StoreTimeout:    repo.DefaultTimeout,
		Restore:         s.prepareStreams,
		Observer:        s.metrics,
		Tracer:          s.tracing.Tracer(),
		Logger:          logger,
	})
	if cfg.events {
		s.relay = consumer.NewRelay(s.metrics.Outbox(s.store), s.js, logger)
	}
	return s, err
}

// serve runs until ctx ends, and stops in this order: requests over NATS, messages, HTTP, NATS, Postgres. It
// calls ready once messages are consumed.
func (s *service) serve(ctx context.Context, ready func()) error {
	defer s.close()
	group, ctx := errgroup.WithContext(ctx)
	operator := &operator{
		service: s,
		rules:   s.reconciler,
		logs:    s.store,
		stop:    ctx.Done(),
	}
	server := &http.Server{
		Handler:           operator.handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
		ErrorLog:          slog.NewLogLogger(s.logger.Handler(), slog.LevelWarn),
	}
	group.Go(func() error {
		s.gather(ctx)
		return nil
	})
	group.Go(func() error { return s.state.watch(ctx, s.nc) })
	group.Go(func() error {
		if err := server.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve http: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		err := s.consume(ctx, operator, ready)
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if server.Shutdown(closing) != nil {
			_ = server.Close() // requests that take longer are cut off
		}
		return err
	})
	return group.Wait()
}

// gather gathers the metrics' gauges until ctx ends.
func (s *service) gather(ctx context.Context) {
	s.metrics.Gather(ctx, metrics.Sources{
		Store:     s.store,
		JetStream: s.js,
		Ready: map[string]func(context.Context) error{
			"postgres": func(ctx context.Context) error {
				_, err := s.store.Now(ctx)
				return err
			},
			"nats": func(context.Context) error {
				if !s.nc.IsConnected() {
					return nats.ErrDisconnected
				}
				return nil
			},
			"consumers": func(context.Context) error { return s.consumer.Ready() },
		},
		Events:   s.cfg.events,
		Interval: s.cfg.gatherInterval,
	})
}

// consume waits for Postgres and NATS, makes sure that both are as they should be, answers requests over NATS
// and consumes.
func (s *service) consume(ctx context.Context, operator *operator, ready func()) error {
	err := await(ctx, s.logger, "postgres", func(ctx context.Context) error {
		if _, err := s.store.Now(ctx); err != nil {
			return final(err, isRefusedLogin(err))
		}
		schema, err := repo.CheckSchema(ctx, s.cfg.databaseURL)
		if schema.Newer() {
			s.logger.InfoContext(ctx, newerSchema, "schema", schema.Found, "program", schema.Needed)
		}
		var refused *repo.SchemaError
		return final(err, errors.As(err, &refused))
	})
	if err == nil {
		err = await(ctx, s.logger, "nats", func(ctx context.Context) error {
			err := s.prepareStreams(ctx)
			if err != nil && !s.nc.IsConnected() {
				return s.state.notConnected(s.cfg.nats.NATSURL)
			}
			return final(err, err != nil && !isPassing(err))
		})
	}
	switch {
	case ctx.Err() != nil:
		return nil // asked to stop before it began
	case err != nil:
		return err
	}
	doors, err := operator.openNATS(ctx)
	if err != nil {
		return err
	}
	defer doors.close(ctx)
	// Messages are consumed until the last request is answered.
	consuming, stopConsuming := context.WithCancel(context.WithoutCancel(ctx))
	defer stopConsuming()
	defer context.AfterFunc(ctx, func() {
		doors.close(ctx)
		stopConsuming()
	})()
	watch, cancel := context.WithCancel(ctx)
	var announcing sync.WaitGroup
	announcing.Go(func() { s.announce(watch, ready) })
	defer announcing.Wait()
	defer cancel()
	stopRelay := s.startRelay(ctx)
	err = s.consumer.Run(consuming)
	stopRelay() // after the last commit, so that its events go out too
	s.logger.InfoContext(ctx, "stopped")
	return err
}

// startRelay publishes outcome events until the function it returns is called, which waits for the last.
func (s *service) startRelay(ctx context.Context) (stop func()) {
	if s.relay == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.relay.Run(ctx)
	}()
	return func() {
		cancel()
		<-done
	}
}

// announce calls ready when the consumers are.
func (s *service) announce(ctx context.Context, ready func()) {
	for s.consumer.Ready() != nil {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return
		}
	}
	ready()
}

// prepareStreams creates, updates or verifies the streams and consumers.
func (s *service) prepareStreams(ctx context.Context) error {
	ctx, giveBack := s.state.untilRefused(ctx)
	defer giveBack()
	cfg := streams.Config{Replicas: s.cfg.streamReplicas}
	if s.cfg.manageStreams {
		return orRefusal(ctx, streams.Ensure(ctx, s.js, cfg))
	}
	err := orRefusal(ctx, streams.Verify(ctx, s.js, cfg))
	if err == nil || isPassing(err) {
		return err
	}
	return fmt.Errorf("streams are not as they must be, and --manage-streams (MANAGE_STREAMS) is false:\n%w", err)
}

func (s *service) close() {
	if s.nc != nil {
		s.nc.Close()
	}
	if s.store != nil {
		s.store.Close()
	}
	s.tracing.Stop(context.Background())
	if s.listener != nil {
		_ = s.listener.Close() // closed already where it was served
	}
}

func final(err error, inVain bool) error {
	if inVain {
		return vainError{err}
	}
	return err
}

// isRefusedLogin tells whether Postgres is there and will not have us, however often we ask: a wrong
// password or role, a database that does not exist (PostgreSQL manual, appendix A).
func isRefusedLogin(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && (strings.HasPrefix(pgErr.Code, "28") || pgErr.Code == "3D000")
}

// isPassing tells whether JetStream may answer differently a moment later: while a cluster elects a
// leader, for example.
func isPassing(err error) bool {
	const codeNoLeader = 10008 // of JetStream's API
	if api, ok := errors.AsType[*jetstream.APIError](err); ok && api.ErrorCode == codeNoLeader {
		return true
	}
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) ||
		errors.Is(err, nats.ErrPermissionViolation) || // until the right is granted
		errors.Is(err, nats.ErrDisconnected) || errors.Is(err, nats.ErrConnectionReconnecting)
}
