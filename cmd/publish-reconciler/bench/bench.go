// Package bench measures how fast the service is, beside what the same machine can do at most.
//
//	servers ──── a Postgres that is durable, and a NATS with JetStream, of the run's own
//	service ──── the real program, `publish-reconciler run`, as a process
//	lines ────── what is measured; for each run a database and streams that are new
//	limits ───── the same work without the service: the rows in one SQL statement, the messages without Postgres
//
// Every line warms up: the service has reconciled a few thousand logs before it is measured. A backlog is made
// while the consumer is paused, and its time is from the moment it goes on until the last acknowledgement.
package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"publish-reconciler/repo/pgtest"
	"publish-reconciler/streams/streamstest"
)

// Config says what is measured.
type Config struct {
	// Program is the path of publish-reconciler.
	Program string
	// NATS and Postgres are nobody else's.
	NATS     *streamstest.Server
	Postgres *pgtest.Server
	// Quick is for a short look: fewer logs, one run of each line.
	Quick bool
	// Runs is how often each line is measured; the median counts.
	Runs int
	// Only are the lines to measure; empty: all. See [Lines].
	Only []string
	// Progress is told what is done.
	Progress func(what string)
}

// Figure is one result.
type Figure struct {
	// Line is the name by which it can be chosen; What says what was measured.
	Line string `json:"line"`
	What string `json:"what"`
	// Value is the median of Runs, in Unit.
	Value float64   `json:"value"`
	Unit  string    `json:"unit"`
	Runs  []float64 `json:"runs"`
	// Target is what it must be: at least, or at most where Most is set. Zero: there is none.
	Target float64 `json:"target"`
	Most   bool    `json:"at_most"`
	// Limits are what the machine could do at most, and other ways to do it, in the same unit.
	Limits []Limit `json:"limits,omitempty"`
}

// Met tells whether the target is met, and those beside the limits.
func (f Figure) Met() bool {
	if f.Most && f.Target > 0 {
		return f.Value <= f.Target
	}
	for _, limit := range f.Limits {
		if !limit.Met() {
			return false
		}
	}
	return f.Value >= f.Target
}

// Limit is a figure to compare with.
type Limit struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	// Ratio is the figure's value by this one, Target what that must be at least; zero: there is none.
	Ratio  float64 `json:"ratio"`
	Target float64 `json:"target,omitempty"`

	runs []float64
}

// Met tells whether the ratio is as it must be.
func (l Limit) Met() bool { return l.Ratio >= l.Target }

// line measures one thing, once. It returns its figures with a single value each.
type line struct {
	name    string
	measure func(context.Context, *world) ([]Figure, error)
}

func lines() []line {
	return []line{
		{"webhooks", webhooks},
		{"checks", checks},
		{"final", finalChecks},
		{"sweep", sweep},
		{"sweep-large", sweepLarge},
		{"latency", latency},
		{"load", latencyUnderLoad},
		{"process", process},
		{"prune", pruneUnderLoad},
		{"cluster", clusterOfThree},
	}
}

// Lines are the names of all lines.
func Lines() (names []string) {
	for _, l := range lines() {
		names = append(names, l.name)
	}
	return names
}

// Run measures. The figures are those of the lines that were done, also when there is an error.
func Run(ctx context.Context, cfg Config) (figures []Figure, err error) {
	runs := 0
	for _, l := range lines() {
		if len(cfg.Only) > 0 && !slices.Contains(cfg.Only, l.name) {
			continue
		}
		var all []Figure
		for run := range cfg.Runs {
			runs++
			cfg.Progress(fmt.Sprintf("%s, run %d of %d", l.name, run+1, cfg.Runs))
			measured, failed := once(ctx, cfg, runs, l)
			if failed != nil {
				err = errors.Join(err, fmt.Errorf("%s: %w", l.name, failed))
				break // the other lines are worth knowing all the same
			}
			all = merge(all, measured)
		}
		figures = append(figures, all...)
		if ctx.Err() != nil {
			break
		}
	}
	return figures, err
}

// merge adds the values of one run to those before. The medians count, of the limits too.
func merge(all, once []Figure) []Figure {
	if all == nil {
		all = once
	}
	for i, figure := range once {
		all[i].Runs = append(all[i].Runs, figure.Value)
		all[i].Value = median(all[i].Runs)
		for j, limit := range figure.Limits {
			of := &all[i].Limits[j]
			of.runs = append(of.runs, limit.Value)
			of.Value = median(of.runs)
			of.Ratio = all[i].Value / of.Value
		}
	}
	return all
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// once measures a line, in a world of its own.
func once(ctx context.Context, cfg Config, run int, l line) (_ []Figure, err error) {
	w, err := newWorld(ctx, cfg, fmt.Sprintf("%s_%d", strings.ReplaceAll(l.name, "-", "_"), run))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.close(ctx)) }()
	return l.measure(ctx, w)
}
