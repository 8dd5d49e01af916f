package metrics

import "github.com/prometheus/client_golang/prometheus"

// Describe tells of every metric, also of those that are not there before [Metrics.Gather]. It is called before that.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	m.registry.Describe(ch)
	for _, c := range []interface{ Describe(chan<- *prometheus.Desc) }{
		m.backlog(nil), gatherWaiting(nil, true), gatherMessages(nil), gatherReadiness(nil), poolCollector{}, newest{},
	} {
		c.Describe(ch)
	}
}
