package consumer_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"publish-reconciler/consumer"
	"publish-reconciler/reconciler"
	"publish-reconciler/repo"
	"publish-reconciler/streams"
)

// replica is one running consumer with a NATS connection and a store of its own.
type replica struct {
	*consumer.Consumer
	w    *world
	nc   *nats.Conn
	logs *logbook
	// cancel asks it to stop; done is closed when Run has returned err.
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

// parts are what a replica is made of; a test changes them before it starts.
type parts struct {
	cfg        consumer.Config
	policy     reconciler.Policy
	probe      consumer.ProbeConfig
	store      repo.Config
	connect    func() (*nats.Conn, error)
	transact   transactHook
	reconciler func(consumer.Reconciler) consumer.Reconciler
}

// start starts a replica that stops at the end of the test, where it must have ended well.
func (w *world) start(changes ...func(*parts)) *replica {
	w.Helper()
	r := &replica{w: w, logs: &logbook{}, done: make(chan struct{})}
	p := parts{
		cfg: consumer.Config{
			SweepInterval: time.Hour,
			StoreTimeout:  repo.DefaultTimeout,
			Restore:       func(ctx context.Context) error { return streams.Ensure(ctx, w.js, streams.Config{}) },
			Logger:        slog.New(slog.NewTextHandler(r.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
		},
		policy:     reconciler.Policy{DefaultTimeout: reconciler.DefaultTimeout},
		store:      repo.Config{URL: w.url},
		connect:    func() (*nats.Conn, error) { return w.nats.Connect() },
		transact:   func(_ context.Context, do func() error) error { return do() },
		reconciler: func(r consumer.Reconciler) consumer.Reconciler { return r },
	}
	for _, change := range changes {
		change(&p)
	}
	store, err := repo.Open(p.store)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(store.Close)
	if r.nc, err = p.connect(); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(r.nc.Close)
	js, err := jetstream.New(r.nc)
	if err != nil {
		w.Fatal(err)
	}
	scheduler := consumer.NewScheduler(js)
	reconciles := p.reconciler(reconciler.New(hookedStore{store, p.transact}, scheduler, consumer.NewProber(r.nc, p.probe), consumer.NewInbox(js), p.policy, p.cfg.Logger))
	if r.Consumer, err = consumer.New(js, reconciles, scheduler, store, p.cfg); err != nil {
		w.Fatal(err)
	}
	var ctx context.Context
	ctx, r.cancel = context.WithCancel(context.Background())
	go func() {
		defer close(r.done)
		r.err = r.Run(ctx)
	}()
	w.Cleanup(r.stop)
	return r
}

// stop asks the replica to stop and waits for it.
func (r *replica) stop() {
	r.w.Helper()
	r.cancel()
	select {
	case <-r.done:
	case <-time.After(soon):
		r.w.Fatalf("Run did not return within %s", soon)
	}
	if r.err != nil {
		r.w.Errorf("Run: %v", r.err)
	}
}

// ready waits until all consumers work.
func (r *replica) ready() {
	r.w.Helper()
	r.w.until("ready", func() bool { return r.Ready() == nil })
}

// notReady waits until the replica says that it does not consume.
func (r *replica) notReady(says string) {
	r.w.Helper()
	r.w.until("not ready: "+says, func() bool {
		err := r.Ready()
		return err != nil && strings.Contains(err.Error(), says)
	})
}

// transactHook stands around every transaction of a store; do is the transaction.
type transactHook func(ctx context.Context, do func() error) error

type hookedStore struct {
	reconciler.Store
	hook transactHook
}

func (s hookedStore) Transact(ctx context.Context, keys reconciler.Keys, decide func(reconciler.Locked) reconciler.Changes) error {
	return s.hook(ctx, func() error { return s.Store.Transact(ctx, keys, decide) })
}

func transacting(hook transactHook) func(*parts) {
	return func(p *parts) { p.transact = hook }
}

// sweepHook stands around every sweep.
type sweepHook struct {
	consumer.Reconciler
	hook func(do func() (reconciler.SweepResult, error)) (reconciler.SweepResult, error)
}

func (s sweepHook) Sweep(ctx context.Context, request reconciler.SweepRequest) (reconciler.SweepResult, error) {
	return s.hook(func() (reconciler.SweepResult, error) { return s.Reconciler.Sweep(ctx, request) })
}

func sweeping(hook func(do func() (reconciler.SweepResult, error)) (reconciler.SweepResult, error)) func(*parts) {
	return func(p *parts) {
		p.reconciler = func(r consumer.Reconciler) consumer.Reconciler { return sweepHook{r, hook} }
	}
}

// unrestored leaves the streams as the test made them.
func unrestored(p *parts) { p.cfg.Restore = nil }

func batchSize(n int) func(*parts) { return func(p *parts) { p.cfg.BatchSize = n } }

func sweepEvery(d time.Duration) func(*parts) { return func(p *parts) { p.cfg.SweepInterval = d } }

func timeout(d time.Duration) func(*parts) { return func(p *parts) { p.policy.DefaultTimeout = d } }

// latch holds up who passes, until it is opened.
type latch struct {
	reached, open chan struct{}
	once          [2]sync.Once
}

func newLatch() *latch { return &latch{reached: make(chan struct{}), open: make(chan struct{})} }

func (l *latch) pass(ctx context.Context) error {
	l.once[0].Do(func() { close(l.reached) })
	select {
	case <-l.open:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *latch) release() { l.once[1].Do(func() { close(l.open) }) }

// await waits until somebody is held up.
func (l *latch) await(w *world) {
	w.Helper()
	select {
	case <-l.reached:
	case <-time.After(soon):
		w.Fatal("nobody came")
	}
}

// logbook keeps a logger's lines.
type logbook struct {
	mu    sync.Mutex
	lines []string
}

func (l *logbook) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(bytes.TrimSpace(line)))
	return len(line), nil
}

// with returns the lines that hold a text.
func (l *logbook) with(text string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []string
	for _, line := range l.lines {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}
