package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"publish-reconciler/cmd/publish-reconciler/simulate"
)

type simulateCommand struct {
	natsAccess       `embed:""`
	databaseSettings `embed:""`
	eventSettings    `embed:""`

	Embedded bool `name:"embedded" help:"Bring NATS, Postgres and the service along; nothing of them is left."`

	Logs    string `name:"logs" default:"1000" help:"How many logs."`
	Rate    string `name:"rate" default:"500/s" help:"How many begin, such as 500/s."`
	Seed    string `name:"seed" default:"1" help:"What the story is made from."`
	Timeout string `name:"timeout" default:"6s" help:"Patience of each log's check; webhooks on time come within two fifths of it."`

	Rejected  string `name:"rejected" default:"0.05" help:"Share of logs that the platform refuses."`
	Duplicate string `name:"duplicate" default:"0.05" help:"Share of logs whose webhook comes two or three times."`
	Reordered string `name:"reordered" default:"0.05" help:"Share of logs with an unclear and a clear webhook, in either order."`
	Reviewed  string `name:"reviewed" default:"0.03" help:"Share of logs with an unclear webhook, and a clear one after the deadline."`
	Unclear   string `name:"unclear" default:"0.02" help:"Share of logs with an unclear webhook and nothing else."`
	Late      string `name:"late" default:"0.05" help:"Share of logs whose webhook comes after they failed."`
	Lost      string `name:"lost" default:"0.05" help:"Share of logs whose webhook never comes."`
	BeforeRow string `name:"before-row" default:"0.05" help:"Share of logs whose webhook comes before their row."`
	Malformed string `name:"malformed" default:"0.03" help:"Share of logs with a broken webhook beside a good one."`

	Patience string `name:"patience" default:"2m" help:"How long nothing at all may move before it is broken off."`
	Show     string `name:"show" default:"5" help:"How many logs to show that are not as they must be."`
	Cleanup  bool   `name:"cleanup" help:"Remove its rows, ledger events, dead letters and parked webhooks at the end."`
	JSON     bool   `name:"json" help:"Print the result as JSON."`
	Story    bool   `name:"story" help:"Print the story, one log a line, as JSON, and do nothing else."`
	Recheck  string `name:"recheck" help:"Play nothing, and look again at what the simulation of this number left; all else must be as it was then."`
}

// Limits of a simulation.
const (
	minSimulatedRate, maxSimulatedRate = 0.001, 100_000.0
	// A check's message can wait a quarter of a second to be delivered.
	minSimulatedTimeout, maxSimulatedTimeout = time.Second, time.Hour
	maxShown                                 = 1000
)

// shares are the flags of the kinds; what is left is confirmed.
func (c *simulateCommand) shares() map[simulate.Kind]string {
	return map[simulate.Kind]string{
		simulate.Rejected: c.Rejected, simulate.Duplicate: c.Duplicate, simulate.Reordered: c.Reordered,
		simulate.Reviewed: c.Reviewed, simulate.Unclear: c.Unclear, simulate.Late: c.Late, simulate.Lost: c.Lost,
		simulate.BeforeRow: c.BeforeRow, simulate.Malformed: c.Malformed,
	}
}

// read reads all flags. Its error tells of every fault.
func (c *simulateCommand) read() (simulate.Config, error) {
	var f faults
	cfg := simulate.Config{
		Run: simulate.NewRun(),
		Plan: simulate.Plan{
			Logs:    f.whole("logs", c.Logs, 1, simulate.MaxLogs),
			Rate:    f.perSecond("rate", c.Rate),
			Timeout: f.length("timeout", c.Timeout, minSimulatedTimeout, maxSimulatedTimeout),
			Shares:  f.shares(c.shares()),
		},
		Patience: f.length("patience", c.Patience, time.Second, maxTimeout),
		Events:   oneOf(&f, "events", "EVENTS", c.Events, map[string]bool{"on": true, "off": false}),
		Show:     f.whole("show", c.Show, 0, maxShown),
	}
	var err error
	if cfg.Plan.Seed, err = strconv.ParseUint(c.Seed, 10, 64); err != nil {
		f.flag("seed", c.Seed, fmt.Sprintf("a whole number from 0 to %d", uint64(math.MaxUint64)))
	}
	if cfg.Plan.Timeout > 0 && cfg.Patience > 0 && cfg.Patience <= cfg.Plan.Timeout {
		f.flag("patience", c.Patience, fmt.Sprintf("longer than --timeout, which is %s: until then it is right that nothing moves", c.Timeout))
	}
	if c.Recheck != "" {
		var ok bool
		if cfg.Run, ok = simulate.ParseRun(c.Recheck); !ok {
			f.flag("recheck", c.Recheck, "the number of a simulation, twelve digits")
		}
		if c.Embedded {
			f.flag("recheck", c.Recheck, "without --embedded, of which nothing is left")
		}
	}
	if !c.Embedded && !c.Story {
		c.natsAccess.check(&f)
		c.databaseSettings.read(&f)
	}
	return cfg, f.err()
}

// flag tells of a flag that has no variable.
func (f *faults) flag(name, value, allowed string) {
	f.all = append(f.all, fmt.Errorf("--%s is %q: it must be %s", name, value, allowed))
}

func (f *faults) whole(name, value string, least, most int) int {
	n, err := strconv.Atoi(value)
	if err != nil || n < least || n > most {
		f.flag(name, value, fmt.Sprintf("a whole number from %d to %d", least, most))
	}
	return n
}

func (f *faults) length(name, value string, least, most time.Duration) time.Duration {
	d, ok := parseDuration(value, least, most)
	if !ok {
		f.flag(name, value, fmt.Sprintf("a duration such as %s, from %s to %s", short(2*least), short(least), short(most)))
		return 0
	}
	return d
}

// perSecond reads a rate, with "/s" or without.
func (f *faults) perSecond(name, value string) float64 {
	n, err := strconv.ParseFloat(strings.TrimSuffix(value, "/s"), 64)
	if err != nil || !(n >= minSimulatedRate && n <= maxSimulatedRate) {
		f.flag(name, value, fmt.Sprintf("a number of logs a second such as 500/s, from %g to %g", minSimulatedRate, maxSimulatedRate))
	}
	return n
}

// shares reads the kinds' shares, each by itself and all together.
func (f *faults) shares(values map[simulate.Kind]string) map[simulate.Kind]float64 {
	all, sum, wrong := make(map[simulate.Kind]float64), 0.0, false
	var given []string
	for _, kind := range simulate.Kinds() {
		value, is := values[kind]
		if !is {
			continue
		}
		share, err := strconv.ParseFloat(value, 64)
		if err != nil || !(share >= 0 && share <= 1) {
			f.flag(string(kind), value, "a share of the logs such as 0.05, from 0 to 1")
			wrong = true
			continue
		}
		all[kind] = share
		if sum += share; share > 0 {
			given = append(given, fmt.Sprintf("--%s %s", kind, value))
		}
	}
	const rounding = 1e-9
	if !wrong && sum > 1+rounding {
		f.all = append(f.all, fmt.Errorf("%s add up to %.4g: together they must be at most 1", strings.Join(given, ", "), sum))
	}
	return all
}
