package monitoring

import (
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"publish-reconciler/cmd/publish-reconciler/metrics"
)

// described is how a description tells its name and its labels: nothing else does.
var described = regexp.MustCompile(`^Desc\{fqName: "(\w+)", .*constLabels: \{(.*)\}, variableLabels: \{(.*)\}\}$`)

// exposed are the series that the service has at any time, and what Prometheus adds of itself.
func exposed(t *testing.T) series {
	t.Helper()
	m := metrics.New(metrics.Config{Now: time.Now, Logger: slog.New(slog.DiscardHandler)})
	ch := make(chan *prometheus.Desc, 1000)
	m.Describe(ch)
	close(ch)
	s := series{"up": labelSet()}
	for desc := range ch {
		parts := described.FindStringSubmatch(desc.String())
		if parts == nil {
			t.Fatalf("%s tells no name and no labels", desc)
		}
		var labels []string
		for label := range strings.FieldsFuncSeq(parts[2]+","+parts[3], func(r rune) bool { return r == ',' }) {
			name, _, _ := strings.Cut(label, "=")
			labels = append(labels, name)
		}
		s.add(parts[1], labels...)
	}
	return s
}

// add knows a metric by its name, and by those that it has where it is a classic histogram.
func (s series) add(name string, labels ...string) {
	s[name] = labelSet(labels...)
	if strings.HasSuffix(name, "_seconds") || strings.HasSuffix(name, "_messages") {
		s[name+"_sum"], s[name+"_count"] = labelSet(labels...), labelSet(labels...)
		s[name+"_bucket"] = labelSet(append([]string{"le"}, labels...)...)
	}
}
