package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"publish-reconciler/cmd/publish-reconciler/bench"
	"publish-reconciler/repo/pgtest"
	"publish-reconciler/streams/streamstest"
)

type benchCommand struct {
	Quick bool   `name:"quick" help:"A look within some two minutes: fewer logs, and one run of each line."`
	Only  string `name:"only" help:"Only these lines, separated by commas: ${bench_lines}."`
	Runs  string `name:"runs" help:"How often each line is measured; the median counts. Default 3, with --quick 1."`
	JSON  bool   `name:"json" help:"Print the figures as JSON."`
}

func (*benchCommand) Help() string {
	return `It brings NATS and Postgres along, durable ones (with max_wal_size=8GB: no checkpoint falls into a line), and measures
this program as it runs in production, all on this machine. Beside the figures stand what they must be, and what the
machine does at most with the same rows and the same messages, in the same run. It takes some fifteen minutes; leave
the machine to it.

It exits with 1 when a figure is not what it must be. The targets are those of a machine with 2 cores.`
}

func (c *benchCommand) run(ctx context.Context, out output) error {
	cfg, err := c.read()
	if err != nil {
		return err
	}
	cfg.Progress = func(what string) { fmt.Fprintln(out.stderr, what) }
	figures, err := c.measure(ctx, cfg)
	if ctx.Err() != nil {
		err = fmt.Errorf("stopped: %w", ctx.Err())
	}
	if c.JSON {
		text, failed := json.MarshalIndent(figures, "", "  ")
		if failed != nil {
			return failed
		}
		fmt.Fprintf(out.stdout, "%s\n", text)
	} else {
		printFigures(out, figures)
	}
	if err != nil {
		return err
	}
	if missed := slices.DeleteFunc(figures, bench.Figure.Met); len(missed) > 0 {
		return fmt.Errorf("%d figures are not what they must be", len(missed))
	}
	return nil
}

func (*benchCommand) measure(ctx context.Context, cfg bench.Config) (_ []bench.Figure, err error) {
	// No checkpoint falls into one line and not into the next.
	settings := map[string]string{"max_wal_size": "8GB", "checkpoint_timeout": "1h"}
	servers, err := startEmbedded(ctx, streamstest.Config{ServerName: "publish-reconciler-bench"}, pgtest.Config{Durable: true, Settings: settings})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, servers.stop()) }()
	cfg.NATS, cfg.Postgres = servers.broker, servers.postgres
	return bench.Run(ctx, cfg)
}

// read tells every fault.
func (c *benchCommand) read() (bench.Config, error) {
	var f faults
	cfg := bench.Config{Quick: c.Quick, Runs: 3}
	if c.Quick {
		cfg.Runs = 1
	}
	if c.Runs != "" {
		cfg.Runs = f.whole("runs", c.Runs, 1, 100)
	}
	if c.Only != "" {
		for name := range strings.SplitSeq(c.Only, ",") {
			if name = strings.TrimSpace(name); !slices.Contains(bench.Lines(), name) {
				f.flag("only", c.Only, "some of "+strings.Join(bench.Lines(), ", ")+", separated by commas")
				break
			}
			cfg.Only = append(cfg.Only, name)
		}
	}
	var err error
	if cfg.Program, err = os.Executable(); err != nil {
		return cfg, err
	}
	return cfg, f.err()
}

func printFigures(out output, figures []bench.Figure) {
	t := newTable(out.stdout)
	t.line("LINE", "WHAT", "FIGURE", "MUST BE", "", "RATIO")
	for _, f := range figures {
		bound, met := "≥ ", ok(f.Met())
		if f.Most {
			bound = "≤ "
		}
		must := bound + amount(f.Target)
		if f.Target == 0 {
			must, met = "", ""
		}
		t.line(f.Line, f.What, amount(f.Value)+" "+f.Unit, must, met, "")
		for _, limit := range f.Limits {
			must, met := "", ""
			if limit.Target > 0 {
				must, met = "≥ "+amount(limit.Target)+" ×", ok(limit.Met())
			}
			t.line("", "  "+limit.Name, amount(limit.Value)+" "+f.Unit, must, met, amount(limit.Ratio)+" ×")
		}
	}
	t.flush()
}

func ok(met bool) string {
	if met {
		return "ok"
	}
	return "no"
}

// amount has three digits that count, or all before the point.
func amount(x float64) string {
	switch {
	case x >= 100:
		return strconv.FormatFloat(x, 'f', 0, 64)
	case x >= 10:
		return strconv.FormatFloat(x, 'f', 1, 64)
	}
	return strconv.FormatFloat(x, 'f', 2, 64)
}
