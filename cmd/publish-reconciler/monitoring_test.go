package main

import (
	"errors"
	"testing"

	"publish-reconciler/cmd/publish-reconciler/monitoring"
)

func TestMonitoring(t *testing.T) {
	t.Parallel()
	for what, want := range map[string]string{"alerts": monitoring.Alerts, "dashboard": monitoring.Dashboard} {
		p := begin(t, "monitoring", what)
		p.exits(exitOK, soon)
		if p.stdout.String() != want || want == "" {
			t.Errorf("monitoring %s prints\n%s", what, p.stdout.String())
		}
	}
}

// A script that redirects them into a file hears of a full disk.
func TestMonitoringTellsThatItCouldNotPrint(t *testing.T) {
	t.Parallel()
	full := errors.New("no space left on device")
	for _, what := range []string{"alerts", "dashboard"} {
		var stderr buffer
		if status := run(t.Context(), []string{"monitoring", what}, failing{full}, &stderr); status != exitFailure {
			t.Errorf("monitoring %s: status %d", what, status)
		}
		contains(t, stderr.String(), full.Error())
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }
