package main

import (
	"context"
	"io"

	"publish-reconciler/cmd/publish-reconciler/monitoring"
)

// monitoringCommands print what lies in the binary: it fits the metrics of this very version.
type monitoringCommands struct {
	Alerts    alertsCommand    `cmd:"" help:"Alerting rules for Prometheus, as YAML."`
	Dashboard dashboardCommand `cmd:"" help:"A dashboard for Grafana, as JSON."`
}

type alertsCommand struct{}

func (*alertsCommand) run(_ context.Context, out output) error {
	_, err := io.WriteString(out.stdout, monitoring.Alerts)
	return err
}

type dashboardCommand struct{}

func (*dashboardCommand) run(_ context.Context, out output) error {
	_, err := io.WriteString(out.stdout, monitoring.Dashboard)
	return err
}
