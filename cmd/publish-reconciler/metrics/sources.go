package metrics

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"publish-reconciler/repo"
	"publish-reconciler/streams"
)

// gatherTimeout limits what asks NATS, and how long readiness is asked for.
const gatherTimeout = 5 * time.Second

// Store is what the gauges read of Postgres.
type Store interface {
	// Now is the database's clock.
	Now(ctx context.Context) (time.Time, error)
	Backlogs(ctx context.Context, timeout time.Duration, timeouts map[string]time.Duration, holds bool) ([]repo.Backlog, error)
	Waiting(ctx context.Context) (repo.Waiting, error)
	Pool() repo.PoolState
}

// Sources are where gauges are gathered.
type Sources struct {
	Store Store
	// JetStream has the streams and their consumers.
	JetStream jetstream.JetStream
	// Ready are the parts of the service; an error is why one is not ready.
	Ready map[string]func(context.Context) error
	// Events says that the outbox is emptied. Without, its gauges are left out: what lies there waits for nothing.
	Events bool
	// Interval is how often the gauges are gathered, or more seldom where that takes long. Zero: [DefaultInterval].
	Interval time.Duration
}

// Gather gathers the gauges until ctx ends. It is called once.
func (m *Metrics) Gather(ctx context.Context, s Sources) {
	if s.Interval == 0 {
		s.Interval = DefaultInterval
	}
	backlog, waiting, msgs, readiness := m.backlog(s.Store), gatherWaiting(s.Store, s.Events), gatherMessages(s.JetStream), gatherReadiness(s.Ready)
	m.registry.MustRegister(backlog, waiting, msgs, readiness, poolCollector{s.Store}, newest{backlog, waiting, msgs})
	var gathering sync.WaitGroup
	for _, g := range []*gatherer{backlog, waiting, msgs, readiness} {
		gathering.Go(func() { g.run(ctx, s.Interval, m.cfg.Logger) })
	}
	gathering.Wait()
}

var (
	openDesc         = desc("open_logs", "Logs that have to be closed.", "platform")
	dueDesc          = desc("due_logs", "Open logs whose deadline has passed.", "platform")
	skippedDesc      = desc("skipped_logs", "Due logs that stay open because their evidence is unclear.", "platform")
	heldDesc         = desc("held_logs", "Due logs that stay open because their platform is under a hold.", "platform")
	oldestOpenDesc   = desc("oldest_open_log_age_seconds", "Time since the last update of the open log that was longest without one.", "platform")
	timeoutDesc      = desc("timeout_seconds", "The timeout in force.", "platform")
	parkedDesc       = desc("parked_webhooks", "Webhooks that wait for their log.")
	oldestParkedDesc = desc("oldest_parked_webhook_age_seconds", "Time since the first of the parked webhooks came.")
	outboxDesc       = desc("outbox_events", "Outcome events that are not told yet.")
	oldestOutboxDesc = desc("oldest_outbox_event_age_seconds", "Time since the first of the events in the outbox was written.")

	pendingDesc     = desc("consumer_pending_messages", "Messages that were not delivered yet.", "consumer")
	inHandDesc      = desc("consumer_in_hand_messages", "Messages that were delivered, and are not acknowledged yet.", "consumer")
	redeliveredDesc = desc("consumer_redelivered_messages", "Messages in hand that were delivered more than once.", "consumer")
	deadDesc        = desc("dead_letters", "Messages that could not be processed.")

	readyDesc    = desc("ready", "Whether a part of the service works: 1, or 0.", "part")
	gatheredDesc = desc("gathered_timestamp_seconds", "When the gauges of Postgres and of NATS were last gathered, the oldest of these times.")

	connectionsDesc = desc("pool_connections", "Connections to Postgres: in use, open and idle, and the most there may be.", "state")
	waitsDesc       = desc("pool_waits_total", "How often somebody waited for a connection to Postgres to be free, or to be made.")
	waitedDesc      = desc("pool_wait_seconds_total", "How long was waited for connections to Postgres.")
)

// backlog are the gauges of the open logs.
func (m *Metrics) backlog(store Store) *gatherer {
	descs := []*prometheus.Desc{openDesc, dueDesc, skippedDesc, heldDesc, oldestOpenDesc, timeoutDesc}
	return &gatherer{descs: descs, counts: true, gather: func(ctx context.Context) ([]prometheus.Metric, error) {
		backlogs, err := store.Backlogs(ctx, m.cfg.Policy.DefaultTimeout, m.cfg.Policy.Timeouts, m.cfg.Policy.HoldMax > 0)
		if err != nil {
			return nil, err
		}
		now, err := store.Now(ctx)
		if err != nil {
			return nil, err
		}
		return m.backlogs(backlogs, now), nil
	}}
}

// gatherWaiting are the gauges of the parked webhooks, and of the outbox where it is emptied.
func gatherWaiting(store Store, events bool) *gatherer {
	descs := []*prometheus.Desc{parkedDesc, oldestParkedDesc, outboxDesc, oldestOutboxDesc}
	return &gatherer{descs: descs, counts: true, gather: func(ctx context.Context) ([]prometheus.Metric, error) {
		waiting, err := store.Waiting(ctx)
		if err != nil {
			return nil, err
		}
		now, err := store.Now(ctx)
		if err != nil {
			return nil, err
		}
		gauges := []prometheus.Metric{gauge(parkedDesc, float64(waiting.Parked)), gauge(oldestParkedDesc, age(now, waiting.OldestParked))}
		if events {
			gauges = append(gauges, gauge(outboxDesc, float64(waiting.Outbox)), gauge(oldestOutboxDesc, age(now, waiting.OldestOutbox)))
		}
		return gauges, nil
	}}
}

// age is zero where there is nothing that has one.
func age(now time.Time, since *time.Time) float64 {
	if since == nil {
		return 0
	}
	return seconds(now.Sub(*since))
}

// backlogs are the gauges of each platform with a label of its own, and of all others together, where there are some.
func (m *Metrics) backlogs(backlogs []repo.Backlog, now time.Time) []prometheus.Metric {
	type backlog struct {
		open, due, skipped, held int
		oldest                   float64
	}
	byLabel := make(map[string]backlog)
	for _, b := range backlogs {
		label := m.platforms.label(b.Platform)
		sum := byLabel[label]
		byLabel[label] = backlog{sum.open + b.Open, sum.due + b.Due, sum.skipped + b.Skipped, sum.held + b.Held, max(sum.oldest, age(now, b.OldestUpdate))}
	}
	for _, name := range m.platforms.names() {
		if _, some := byLabel[name]; !some {
			byLabel[name] = backlog{} // that nothing is open is told, too
		}
	}
	gauges := make([]prometheus.Metric, 0, 6*len(byLabel))
	for label, b := range byLabel {
		gauges = append(gauges,
			gauge(openDesc, float64(b.open), label), gauge(dueDesc, float64(b.due), label),
			gauge(skippedDesc, float64(b.skipped), label), gauge(heldDesc, float64(b.held), label),
			gauge(oldestOpenDesc, b.oldest, label), gauge(timeoutDesc, m.cfg.Policy.Timeout(label).Seconds(), label))
	}
	return gauges
}

// gatherMessages are the gauges of NATS.
func gatherMessages(js jetstream.JetStream) *gatherer {
	descs := []*prometheus.Desc{pendingDesc, inHandDesc, redeliveredDesc, deadDesc}
	return &gatherer{descs: descs, gather: func(ctx context.Context) ([]prometheus.Metric, error) {
		ctx, cancel := context.WithTimeout(ctx, gatherTimeout)
		defer cancel()
		var gauges []prometheus.Metric
		for name, stream := range map[string]string{
			streams.ConsumerWebhooks: streams.StreamWebhooks,
			streams.ConsumerChecks:   streams.StreamChecks,
			streams.ConsumerSweeper:  streams.StreamChecks,
		} {
			consumer, err := js.Consumer(ctx, stream, name)
			if err != nil {
				return nil, fmt.Errorf("consumer %s: %w", name, err)
			}
			info := consumer.CachedInfo()
			gauges = append(gauges,
				gauge(pendingDesc, float64(info.NumPending), name), gauge(inHandDesc, float64(info.NumAckPending), name),
				gauge(redeliveredDesc, float64(info.NumRedelivered), name))
		}
		dead, err := js.Stream(ctx, streams.StreamDead)
		if err != nil {
			return nil, fmt.Errorf("stream %s: %w", streams.StreamDead, err)
		}
		return append(gauges, gauge(deadDesc, float64(dead.CachedInfo().State.Msgs))), nil
	}}
}

func gatherReadiness(parts map[string]func(context.Context) error) *gatherer {
	return &gatherer{descs: []*prometheus.Desc{readyDesc}, gather: func(ctx context.Context) ([]prometheus.Metric, error) {
		ctx, cancel := context.WithTimeout(ctx, gatherTimeout)
		defer cancel()
		gauges := make([]prometheus.Metric, 0, len(parts))
		for part, fault := range parts {
			ready := 1.0
			if fault(ctx) != nil {
				ready = 0
			}
			gauges = append(gauges, gauge(readyDesc, ready, part))
		}
		return gauges, nil
	}}
}

// newest tells when all of the gatherers last succeeded.
type newest []*gatherer

// Describe is a collector's.
func (newest) Describe(ch chan<- *prometheus.Desc) { ch <- gatheredDesc }

// Collect is a collector's.
func (n newest) Collect(ch chan<- prometheus.Metric) {
	at := n[0].gathered()
	for _, g := range n[1:] {
		if other := g.gathered(); other.Before(at) {
			at = other
		}
	}
	if !at.IsZero() {
		ch <- gauge(gatheredDesc, float64(at.UnixMilli())/1000)
	}
}

// poolCollector reads the pool's own counters, which costs nothing, at each scrape.
type poolCollector struct{ store Store }

// Describe is a collector's.
func (poolCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- connectionsDesc
	ch <- waitsDesc
	ch <- waitedDesc
}

// Collect is a collector's.
func (p poolCollector) Collect(ch chan<- prometheus.Metric) {
	pool := p.store.Pool()
	ch <- gauge(connectionsDesc, float64(pool.Acquired), "acquired")
	ch <- gauge(connectionsDesc, float64(pool.Idle), "idle")
	ch <- gauge(connectionsDesc, float64(pool.Max), "max")
	ch <- prometheus.MustNewConstMetric(waitsDesc, prometheus.CounterValue, float64(pool.Waits))
	ch <- prometheus.MustNewConstMetric(waitedDesc, prometheus.CounterValue, pool.Waited.Seconds())
}
