package bench

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// processStats is what the system says about a process.
type processStats struct {
	peak, now float64 // resident memory, MiB
	cpu       time.Duration
}

// ticksPerSecond is how Linux counts a process's time (man 5 proc_pid_stat; 100 on every architecture of Go's).
const ticksPerSecond = 100

// stats reads /proc, which only Linux has.
func stats(pid int) (s processStats, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return s, fmt.Errorf("memory and processor time are known on Linux alone: %w", err)
	}
	for text := range strings.Lines(string(status)) {
		name, rest, _ := strings.Cut(text, ":")
		fields := strings.Fields(rest)
		switch name {
		case "VmHWM":
			s.peak, err = strconv.ParseFloat(fields[0], 64)
			s.peak /= 1024
		case "VmRSS":
			s.now, err = strconv.ParseFloat(fields[0], 64)
			s.now /= 1024
		}
		if err != nil {
			return s, err
		}
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return s, err
	}
	// The second field, the name, may hold anything but its closing parenthesis.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	const user, system = 14 - 3, 15 - 3
	for _, field := range []int{user, system} {
		ticks, err := strconv.Atoi(fields[field])
		if err != nil {
			return s, err
		}
		s.cpu += time.Duration(ticks) * time.Second / ticksPerSecond
	}
	return s, nil
}

// process measures the service's process: how long it takes to start, what it takes while idle and under full load.
func process(ctx context.Context, w *world) ([]Figure, error) {
	s, err := w.start(ctx)
	if err != nil {
		return nil, err
	}
	figures := []Figure{{Line: "process", What: "start → ready", Value: s.took.Seconds(), Unit: "s", Target: 1, Most: true}}
	idle, err := w.idle(ctx, s)
	if err != nil {
		return nil, err
	}
	figures = append(figures, idle...)
	if _, err := w.confirm(ctx, w.scale(200_000, 10_000)); err != nil {
		return nil, err
	}
	loaded, err := stats(s.cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	return append(figures, Figure{Line: "process", What: "memory under full load, at most", Value: loaded.peak, Unit: "MiB", Target: 128, Most: true}), nil
}

// idle looks at a service that has nothing to do.
func (w *world) idle(ctx context.Context, s *service) ([]Figure, error) {
	const transactionsSQL = `SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()`
	look := func() (at processStats, transactions float64, err error) {
		if err := w.db.QueryRow(ctx, transactionsSQL).Scan(&transactions); err != nil {
			return at, 0, err
		}
		at, err = stats(s.cmd.Process.Pid)
		return at, transactions, err
	}
	pause := func(d time.Duration) error {
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	// Postgres counts with a delay of up to ten seconds (PostgreSQL manual, 28.2).
	if err := pause(time.Duration(w.scale(11, 1)) * time.Second); err != nil {
		return nil, err
	}
	before, first, err := look()
	if err != nil {
		return nil, err
	}
	long := time.Duration(w.scale(60, 3)) * time.Second
	if err := pause(long); err != nil {
		return nil, err
	}
	after, last, err := look()
	if err != nil {
		return nil, err
	}
	figures := []Figure{
		{Line: "process", What: "memory while idle", Value: after.now, Unit: "MiB", Target: 40, Most: true},
		{Line: "process", What: "processor while idle", Value: 100 * (after.cpu - before.cpu).Seconds() / long.Seconds(), Unit: "%", Target: 0.5, Most: true},
	}
	if !w.cfg.Quick { // Postgres may not have counted them yet
		figures = append(figures, Figure{Line: "process", What: "transactions while idle", Value: (last - first) / long.Seconds(), Unit: "/s", Target: 1, Most: true})
	}
	return figures, nil
}
