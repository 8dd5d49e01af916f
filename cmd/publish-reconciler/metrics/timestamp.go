package metrics

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// timestamp is a gauge of when something last happened; it is not there before the first time.
type timestamp struct {
	desc *prometheus.Desc
	at   atomic.Int64 // Unix, in milliseconds; zero: never
}

func newTimestamp(name, help string) timestamp { return timestamp{desc: desc(name, help)} }

func (t *timestamp) set(at time.Time) { t.at.Store(at.UnixMilli()) }

// Describe is a collector's.
func (t *timestamp) Describe(ch chan<- *prometheus.Desc) { ch <- t.desc }

// Collect is a collector's.
func (t *timestamp) Collect(ch chan<- prometheus.Metric) {
	if at := t.at.Load(); at != 0 {
		ch <- prometheus.MustNewConstMetric(t.desc, prometheus.GaugeValue, float64(at)/1000)
	}
}
