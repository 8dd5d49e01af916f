// Package metrics tells Prometheus what the service does: counters and histograms of what this replica committed, and
// gauges of what all replicas see alike, which are gathered on a timer and not by scrapes.
package metrics

import (
	"cmp"
	"log/slog"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"publish-reconciler/reconciler"
)

// namespace begins the name of every metric of the service's own.
const namespace = "publish_reconciler"

// Config says what is known before anything is measured.
type Config struct {
	// Policy names the platforms that have a label of their own in any case, and their timeouts.
	Policy reconciler.Policy
	// Signing are platforms that have a label, too: those whose webhooks are signed.
	Signing []string
	// Version is the program's, and Revision its commit; empty where that is not known.
	Version, Revision string
	// Now is the clock that stamps webhooks: the NATS server's.
	Now func() time.Time
	// Logger takes what goes wrong with a scrape.
	Logger *slog.Logger
}

// Metrics measures a service. Make one with [New]; its methods may be called at the same time.
type Metrics struct {
	cfg       Config
	registry  *prometheus.Registry
	platforms *platforms

	checked      *prometheus.CounterVec
	outcomes     *prometheus.CounterVec
	late         *prometheus.CounterVec
	confirmation *prometheus.HistogramVec
	delay        *prometheus.HistogramVec
	batch        *prometheus.HistogramVec
	statement    *prometheus.HistogramVec
	sweep        *prometheus.HistogramVec
	findings     *prometheus.CounterVec
	lastSweep    timestamp
	relayed      prometheus.Counter
	received     *prometheus.CounterVec
	requests     *prometheus.CounterVec
}

// Classic buckets, for a Prometheus that does not take native histograms.
var (
	// waitSeconds are for what takes milliseconds when all is well, and a platform's patience when it is not.
	waitSeconds = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 600, 1800, 3600, 14400, 86400}
	// workSeconds are for what has a time limit of ten seconds.
	workSeconds = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	// sweepSeconds are for what takes milliseconds, or as long as the backlog is large.
	sweepSeconds = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300}
	messages     = []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000}
)

// New returns metrics of which nothing is measured yet.
func New(cfg Config) *Metrics {
	own := slices.Concat(slices.Collect(maps.Keys(cfg.Policy.Timeouts)), slices.Collect(maps.Keys(cfg.Policy.Retries)), cfg.Signing)
	m := &Metrics{
		cfg:       cfg,
		registry:  prometheus.NewRegistry(),
		platforms: newPlatforms(own),

		checked:      counters("checked_total", "Logs looked at.", "trigger"),
		outcomes:     counters("outcomes_total", "What became of logs that were looked at, and of webhooks without a log.", "platform", "outcome", "reason", "trigger"),
		late:         counters("late_corrections_total", "Logs failed by silence that a late webhook made a success: false failures.", "platform"),
		confirmation: histograms("confirmation_seconds", "From a webhook in JetStream to its log's success.", waitSeconds, "platform"),
		delay:        histograms("decision_delay_seconds", "From a message in JetStream to the commit of what it led to.", waitSeconds, "trigger"),
		batch:        histograms("batch_messages", "Messages in a batch.", messages, "consumer"),
		statement:    histograms("db_statement_seconds", "Round trips to Postgres.", workSeconds, "statement"),
		sweep:        histograms("sweep_seconds", "Sweeps.", sweepSeconds, "trigger"),
		findings:     counters("sweep_findings_total", "What sweeps did with logs.", "outcome"),
		lastSweep:    newTimestamp("last_sweep_timestamp_seconds", "When a sweep that nobody asked for last came to its end here."),
		relayed:      prometheus.NewCounter(counterOpts("relay_published_total", "Outcome events told.")),
		received:     counters("webhooks_received_total", "Webhooks handed in over HTTP, and stored.", "platform"),
		requests:     counters("webhook_requests_total", "Requests that handed in webhooks over HTTP, and what became of them.", "platform", "outcome"),
	}
	m.registry.MustRegister(
		m.checked, m.outcomes, m.late, m.confirmation, m.delay, m.batch, m.statement, m.sweep, m.findings, &m.lastSweep, m.relayed, m.received, m.requests,
		buildInfo(cfg.Version, cfg.Revision),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	m.begin()
	return m
}

// begin has the counters begin at zero whose labels are known: Prometheus sees no increase in what was not there before.
func (m *Metrics) begin() {
	for _, trigger := range []reconciler.Trigger{
		reconciler.TriggerWebhook, reconciler.TriggerCheck, reconciler.TriggerSweep, reconciler.TriggerAPI, reconciler.TriggerOverride,
	} {
		m.checked.WithLabelValues(string(trigger))
	}
	for _, trigger := range []reconciler.Trigger{reconciler.TriggerSweep, reconciler.TriggerAPI} {
		m.sweep.WithLabelValues(string(trigger))
	}
	for _, result := range []reconciler.Result{reconciler.ResultSuccess, reconciler.ResultFailed, reconciler.ResultRetry, reconciler.ResultSkipped} {
		m.findings.WithLabelValues(string(result))
	}
	for _, platform := range m.platforms.names() {
		m.late.WithLabelValues(platform)
		m.received.WithLabelValues(platform)
		for _, outcome := range doorOutcomes {
			m.requests.WithLabelValues(platform, string(outcome))
		}
		for _, trigger := range []reconciler.Trigger{reconciler.TriggerCheck, reconciler.TriggerSweep} {
			m.outcomes.WithLabelValues(platform, string(reconciler.ResultFailed), string(reconciler.ReasonWebhookTimeout), string(trigger))
		}
	}
}

// Handler serves the metrics in Prometheus's formats.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorLog:      slog.NewLogLogger(m.cfg.Logger.Handler(), slog.LevelWarn),
		ErrorHandling: promhttp.ContinueOnError,
	})
}

func counterOpts(name, help string) prometheus.CounterOpts {
	return prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(counterOpts(name, help), labels)
}

// histogramOpts is a native histogram with classic buckets beside it; the scrape's format chooses. A factor of 1.1 and
// 160 buckets are what Prometheus's documentation recommends.
func histogramOpts(name, help string, buckets []float64) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{
		Namespace: namespace, Name: name, Help: help, Buckets: buckets,
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160, NativeHistogramMinResetDuration: time.Hour,
	}
}

func histograms(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(histogramOpts(name, help, buckets), labels)
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
}

func buildInfo(version, revision string) prometheus.Collector {
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: namespace, Name: "build_info", Help: "What was built, and by which Go. Always 1.",
		ConstLabels: prometheus.Labels{"version": version, "revision": cmp.Or(revision, "unknown"), "goversion": runtime.Version()},
	})
	info.Set(1)
	return info
}
