package main

import (
	"encoding/json"
	"testing"
	"time"

	"publish-reconciler/cmd/publish-reconciler/bench"
)

// It measures; how much is another matter.
func TestBench(t *testing.T) {
	t.Parallel()
	p := spawn(t, nil, "bench", "--quick", "--only=latency,final", "--json")
	select {
	case <-p.ended:
	case <-time.After(2 * time.Minute):
		t.Fatal(p.stderr.String())
	}
	var figures []bench.Figure
	if err := json.Unmarshal([]byte(p.stdout.String()), &figures); err != nil || len(figures) != 3 {
		t.Fatalf("%v in %s\n%s", err, p.stdout.String(), p.stderr.String())
	}
	missed := 0
	for _, f := range figures {
		if f.Value <= 0 || len(f.Runs) != 1 || f.Target <= 0 {
			t.Errorf("%+v", f)
		}
		if !f.Met() {
			missed++
		}
	}
	if (p.status == exitOK) != (missed == 0) {
		t.Errorf("%d figures are not what they must be, and the status is %d", missed, p.status)
	}
}

func TestBenchRefuses(t *testing.T) {
	t.Parallel()
	p := begin(t, "bench", "--only=webhooks,speed", "--runs=0")
	p.exits(exitUsage, soon)
	p.says(`--only is "webhooks,speed": it must be some of webhooks, checks, final, sweep, sweep-large, latency, load, process, prune, cluster, separated by commas`)
	p.says(`--runs is "0": it must be a whole number from 1 to 100`)
}
