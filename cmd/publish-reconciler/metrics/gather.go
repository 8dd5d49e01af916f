package metrics

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// DefaultInterval is how often the gauges are gathered.
	DefaultInterval = 15 * time.Second
	// share is how much longer than a gather the pause behind it is at least: a backlog of a million logs takes a second
	// to count.
	share = 10
	// staleAfter is after how many pauses without a gather that succeeded the gauges are no longer shown.
	staleAfter = 4
	// retryAfter is the part of the interval that lies behind a gather that failed, at least.
	retryAfter = 5
)

// gatherer gathers gauges on a timer, and shows scrapes the latest.
type gatherer struct {
	descs  []*prometheus.Desc
	gather func(context.Context) ([]prometheus.Metric, error)
	// counts says that it costs as much as it takes, also where it fails. Else it may wait for somebody who is away.
	counts bool

	mu      sync.Mutex
	metrics []prometheus.Metric
	at      time.Time // zero: never yet
	until   time.Time // when what was gathered is stale
}

// run gathers until ctx ends.
func (g *gatherer) run(ctx context.Context, interval time.Duration, logger *slog.Logger) {
	for {
		start := time.Now()
		gathered, err := g.gather(ctx)
		least := share * time.Since(start)
		pause := max(interval, least)
		if err == nil {
			g.show(gathered, start, start.Add(staleAfter*pause))
		} else {
			logger.DebugContext(ctx, "gauges not gathered", "err", err)
			pause = interval / retryAfter
			if g.counts {
				pause = max(pause, least)
			}
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

func (g *gatherer) show(gathered []prometheus.Metric, at, until time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.metrics, g.at, g.until = gathered, at, until
}

// gathered is when it last succeeded; zero: never yet.
func (g *gatherer) gathered() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.at
}

// Describe is a collector's.
func (g *gatherer) Describe(ch chan<- *prometheus.Desc) {
	for _, desc := range g.descs {
		ch <- desc
	}
}

// Collect is a collector's.
func (g *gatherer) Collect(ch chan<- prometheus.Metric) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if time.Now().Before(g.until) {
		for _, metric := range g.metrics {
			ch <- metric
		}
	}
}

func gauge(desc *prometheus.Desc, value float64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
}
