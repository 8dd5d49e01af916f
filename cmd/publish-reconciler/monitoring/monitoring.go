// Package monitoring holds what watches the service from outside: rules for Prometheus, and a dashboard for Grafana.
package monitoring

import _ "embed"

// Alerts are Prometheus rules, as a rule_files entry names them. Each alert has a severity, page or ticket, and says in
// its annotations what is wrong, how much, and what to do.
//
//go:embed alerts.yaml
var Alerts string

// Dashboard is a Grafana dashboard, to be imported or provisioned; it asks for its Prometheus.
//
//go:embed dashboard.json
var Dashboard string
