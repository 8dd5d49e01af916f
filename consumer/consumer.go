package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"golang.org/x/sync/errgroup"

	"publish-reconciler/reconciler"
	"publish-reconciler/streams"
)

// Defaults of [Config].
const (
	DefaultBatchSize     = 500
	DefaultSweepInterval = time.Minute
	DefaultSweepMin      = 5 * time.Second
	DefaultDrainTimeout  = 5 * time.Second
)

// Reconciler decides what messages ask for. It has to be safe to do the same request twice.
type Reconciler interface {
	Webhooks(ctx context.Context, webhooks []reconciler.Webhook) ([]reconciler.Outcome, error)
	Checks(ctx context.Context, checks []reconciler.Check) ([]reconciler.Outcome, error)
	Sweep(ctx context.Context, request reconciler.SweepRequest) (reconciler.SweepResult, error)
	Prune(ctx context.Context, request reconciler.PruneRequest) (reconciler.PruneResult, error)
}

// Clock asks the store for its time; an answer means that the store can be written to.
type Clock interface {
	Now(ctx context.Context) (time.Time, error)
}

// Config says how messages are consumed. Zero values take the defaults.
type Config struct {
	// BatchSize is the most messages in one transaction. A consumer holds up to four times as many: two batches in
	// flight, one that waits for them, and the next one in the making.
	BatchSize int
	// SweepInterval is the most that lies between the end of a sweep and the next one: while sweeps find
	// nothing to do.
	SweepInterval time.Duration
	// SweepMin is the least, while they find something. Above SweepInterval it counts as that.
	SweepMin time.Duration
	// PeakHours hold the next sweep at SweepMin, whatever sweeps find.
	PeakHours PeakHours
	// LedgerRetention is how old the logs' ledger events get, which are deleted once a day. Zero: as old as they like.
	LedgerRetention time.Duration
	// DrainTimeout is how long the batches in hand may take after a stop was asked for.
	DrainTimeout time.Duration
	// StoreTimeout is the store's limit for one transaction; it must leave room in [streams.AckWait].
	StoreTimeout time.Duration
	// Restore makes the streams and consumers anew that went missing while running. Nil: never.
	Restore func(context.Context) error
	// Observer is told what is consumed. Nil: nobody is.
	Observer Observer
	// Tracer makes a span of each batch. Nil: there are none.
	Tracer trace.Tracer
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.BatchSize == 0 {
		c.BatchSize = DefaultBatchSize
	}
	if c.SweepInterval == 0 {
		c.SweepInterval = DefaultSweepInterval
	}
	if c.SweepMin == 0 {
		c.SweepMin = DefaultSweepMin
	}
	if c.DrainTimeout == 0 {
		c.DrainTimeout = DefaultDrainTimeout
	}
	if c.Restore == nil {
		c.Restore = func(context.Context) error { return nil }
	}
	if c.Observer == nil {
		c.Observer = unobserved{}
	}
	if c.Tracer == nil {
		c.Tracer = noop.Tracer{}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// inHand is how many batches a consumer holds: those in flight, one that waits for them, and one in the making.
const inHand = jobsInFlight + 2

func (c Config) validate() error {
	var faults []error
	if c.BatchSize < 1 || inHand*c.BatchSize > streams.MaxAckPending {
		faults = append(faults, fmt.Errorf("batch size is %d: it must be from 1 to %d", c.BatchSize, streams.MaxAckPending/inHand))
	}
	if c.SweepInterval < time.Second {
		faults = append(faults, fmt.Errorf("sweep interval is %s: it must be at least 1s", c.SweepInterval))
	}
	if c.SweepMin < time.Second {
		faults = append(faults, fmt.Errorf("sweep minimum is %s: it must be at least 1s", c.SweepMin))
	}
	if c.DrainTimeout < 0 {
		faults = append(faults, fmt.Errorf("drain timeout is %s: it must not be negative", c.DrainTimeout))
	}
	// A message may wait for the batch before its own. One with a probe in it can take longer still where
	// Postgres is about to give up: then messages come twice, which changes nothing.
	if streams.AckWait <= 2*c.StoreTimeout {
		faults = append(faults, fmt.Errorf("store timeout is %s: twice that must be less than the ack wait of %s, or messages come back while in hand", c.StoreTimeout, streams.AckWait))
	}
	return errors.Join(faults...)
}

// Consumer consumes the service's messages. Make one with [New].
type Consumer struct {
	js         jetstream.JetStream
	reconciler Reconciler
	scheduler  *Scheduler
	cfg        Config
	pace       pace
	gate       *gate
	workers    []*worker
	logger     *slog.Logger
}

// New returns a consumer of the streams' durable consumers, which have to be there when it runs. The error
// names every fault of the settings.
func New(js jetstream.JetStream, r Reconciler, scheduler *Scheduler, store Clock, cfg Config) (*Consumer, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	c := &Consumer{
		js:         js,
		reconciler: r,
		scheduler:  scheduler,
		cfg:        cfg,
		pace:       pace{least: cfg.SweepMin, most: cfg.SweepInterval, peak: cfg.PeakHours},
		gate:       newGate(store, cfg.Logger),
		logger:     cfg.Logger,
	}
	c.workers = []*worker{
		c.newWorker(streams.StreamWebhooks, streams.ConsumerWebhooks, cfg.BatchSize, c.webhooks),
		c.newWorker(streams.StreamChecks, streams.ConsumerChecks, cfg.BatchSize, c.checks),
		c.newWorker(streams.StreamChecks, streams.ConsumerSweeper, 1, c.sweep),
	}
	return c, nil
}

// Run consumes until ctx ends, and returns nil after it finished what was in hand:
//
//  1. no more pulls; what the last one still brings (it ends within a second) is taken along
//  2. the batches in hand are committed and their messages acknowledged; DrainTimeout after ctx ended the
//     store's calls are cancelled and the messages handed back
//  3. the acknowledgements are flushed to the server
//
// The connections to NATS and to the store are the caller's to close, in this order.
func (c *Consumer) Run(ctx context.Context) error {
	working, cancel := linger(ctx, c.cfg.DrainTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		c.logger.InfoContext(working, "draining", "drain_timeout", c.cfg.DrainTimeout.String())
	})
	defer stop()

	var group, attendants errgroup.Group
	attendantsCtx, dismiss := context.WithCancel(ctx)
	defer dismiss()
	attendants.Go(func() error { return c.gate.run(attendantsCtx) })
	attendants.Go(func() error { return c.keepTick(attendantsCtx) })
	for _, w := range c.workers {
		group.Go(func() error { return w.run(ctx, working) })
	}
	err := group.Wait()
	dismiss()
	err = errors.Join(err, attendants.Wait())
	if flushErr := c.js.Conn().FlushTimeout(time.Second); flushErr != nil && err == nil {
		// The messages come again, and change nothing.
		c.logger.WarnContext(working, "last acknowledgements may be lost", "err", flushErr)
	}
	return err
}

// linger returns a context that ends a while after ctx, for what is in hand then.
func linger(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	lingering, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-time.After(d):
			cancel()
		case <-lingering.Done():
		}
	})
	return lingering, func() {
		stop()
		cancel()
	}
}

// Ready returns nil while messages are consumed; else an error that says which consumer does not, and why.
func (c *Consumer) Ready() error {
	faults := make([]error, 0, len(c.workers))
	for _, w := range c.workers {
		if err := w.fault(); err != nil {
			faults = append(faults, fmt.Errorf("consumer %s: %w", w.name, err))
		}
	}
	return errors.Join(faults...)
}
