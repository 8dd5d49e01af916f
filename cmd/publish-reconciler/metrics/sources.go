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
	Backlogs(ctx context.Context, timeout time.Duration, timeouts map[string]time.Duration) ([]repo.Backlog, error)
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
	// Interval is how often the gauges are gathered, or more seldom where that takes long. Zero: [DefaultInterval].
	Interval time.Duration
}

// Gather gathers the gauges until ctx ends. It is called once.
func (m *Metrics) Gather(ctx context.Context, s Sources) {
	if s.Interval == 0 {
		s.Interval = DefaultInterval
	}
	rows, msgs, readiness := m.rows(s.Store), gatherMessages(s.JetStream), gatherReadiness(s.Ready)
	m.registry.MustRegister(rows, msgs, readiness, poolCollector{s.Store}, newest{rows, msgs})
	var gathering sync.WaitGroup
	for _, g := range []*gatherer{rows, msgs, readiness} {
		gathering.Go(func() { g.run(ctx, s.Interval, m.cfg.Logger) })
	}
	gathering.Wait()
}

var (
	openDesc         = desc("open_logs", "Logs that have to be closed.", "platform")
	dueDesc          = desc("due_logs", "Open logs whose deadline has passed.", "platform")
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
	gatheredDesc = desc("gathered_timestamp_seconds", "When the gauges of Postgres and of NATS were last gathered, the older of the two.")

	connectionsDesc = desc("pool_connections", "Connections to Postgres: in use, open and idle, and the most there may be.", "state")
	waitsDesc       = desc("pool_waits_total", "How often somebody waited for a connection to Postgres to be free, or to be made.")
	waitedDesc      = desc("pool_wait_seconds_total", "How long was waited for connections to Postgres.")
)

// rows are the gauges of Postgres.
func (m *Metrics) rows(store Store) *gatherer {
	descs := []*prometheus.Desc{openDesc, dueDesc, oldestOpenDesc, timeoutDesc, parkedDesc, oldestParkedDesc, outboxDesc, oldestOutboxDesc}
	return &gatherer{descs: descs, gather: func(ctx context.Context) ([]prometheus.Metric, error) {
		backlogs, err := store.Backlogs(ctx, m.cfg.Policy.DefaultTimeout, m.cfg.Policy.Timeouts)
		if err != nil {
			return nil, err
		}
		waiting, err := store.Waiting(ctx)
		if err != nil {
			return nil, err
		}
		now, err := store.Now(ctx)
		if err != nil {
			return nil, err
		}
		age := func(since *time.Time) float64 {
			if since == nil {
				return 0
			}
			return seconds(now.Sub(*since))
		}
		return append(m.backlogs(backlogs, age),
			gauge(parkedDesc, float64(waiting.Parked)), gauge(oldestParkedDesc, age(waiting.OldestParked)),
			gauge(outboxDesc, float64(waiting.Outbox)), gauge(oldestOutboxDesc, age(waiting.OldestOutbox)),
		), nil
	}}
}

// backlogs are the gauges of each platform with a label of its own, and of all others together, where there are some.
func (m *Metrics) backlogs(backlogs []repo.Backlog, age func(*time.Time) float64) []prometheus.Metric {
	type backlog struct {
		open, due int
		oldest    float64
	}
	byLabel := make(map[string]backlog)
	for _, b := range backlogs {
		label := m.platforms.label(b.Platform)
		sum := byLabel[label]
		byLabel[label] = backlog{sum.open + b.Open, sum.due + b.Due, max(sum.oldest, age(b.OldestUpdate))}
	}
	for _, name := range m.platforms.names() {
		if _, some := byLabel[name]; !some {
			byLabel[name] = backlog{} // that nothing is open is told, too
		}
	}
	gauges := make([]prometheus.Metric, 0, 4*len(byLabel))
	for label, b := range byLabel {
		gauges = append(gauges,
			gauge(openDesc, float64(b.open), label), gauge(dueDesc, float64(b.due), label),
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

// newest tells when both gatherers last succeeded.
type newest struct{ rows, msgs *gatherer }

// Describe is a collector's.
func (newest) Describe(ch chan<- *prometheus.Desc) { ch <- gatheredDesc }

// Collect is a collector's.
func (n newest) Collect(ch chan<- prometheus.Metric) {
	at := n.rows.gathered()
	if msgs := n.msgs.gathered(); msgs.Before(at) {
		at = msgs
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
