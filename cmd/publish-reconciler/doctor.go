package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

const (
	// doctorTimeout limits all that doctor looks at. What has not answered by then counts as away.
	doctorTimeout = 12 * time.Second
	// doctorPatience limits one question.
	doctorPatience = 3 * time.Second
)

type doctorCommand struct {
	settings `embed:""`
	JSON     bool `name:"json" help:"Print the findings as JSON."`
}

func (c *doctorCommand) run(ctx context.Context, out output) error {
	cfg, err := c.config()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, doctorTimeout)
	defer cancel()
	var nats, postgres findings
	var looking sync.WaitGroup
	looking.Go(func() { postgres = lookAtPostgres(ctx, cfg) })
	looking.Go(func() { nats = lookAtNATS(ctx, cfg, c.natsAccess) })
	looking.Wait()
	if errors.Is(ctx.Err(), context.Canceled) {
		return errors.New("stopped before all was looked at")
	}
	report := doctorAnswer{Findings: append(nats, postgres...)}
	for _, f := range report.Findings {
		switch f.Level {
		case levelWrong:
			report.Wrong++
		case levelWarning:
			report.Warnings++
		}
	}
	if c.JSON {
		err = printJSON(out.stdout, report)
	} else {
		printFindings(out.stdout, report.Findings)
	}
	if err == nil && report.Wrong > 0 {
		err = fmt.Errorf("wrong: %d, warnings: %d", report.Wrong, report.Warnings)
	}
	return err
}

// doctorAnswer is what doctor prints as JSON.
type doctorAnswer struct {
	Findings findings `json:"findings"`
	Wrong    int      `json:"wrong"`
	Warnings int      `json:"warnings"`
}

type level string

const (
	levelOK      level = "ok"
	levelWarning level = "warning"
	levelWrong   level = "wrong"
)

// finding is what became of one check: one line.
type finding struct {
	Level level  `json:"level"`
	Check string `json:"check"`
	// Text is what was found and, where that is not well, what to do about it.
	Text string `json:"text"`
}

type findings []finding

func (f *findings) add(l level, check, format string, args ...any) {
	text := strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "; ")
	*f = append(*f, finding{l, check, text})
}

func (f *findings) ok(check, format string, args ...any) { f.add(levelOK, check, format, args...) }

func (f *findings) warn(check, format string, args ...any) {
	f.add(levelWarning, check, format, args...)
}

func (f *findings) wrong(check, format string, args ...any) {
	f.add(levelWrong, check, format, args...)
}

func printFindings(w io.Writer, all findings) {
	t := newTable(w)
	for _, f := range all {
		t.line(string(f.Level), f.Check, visible(f.Text))
	}
	t.flush()
}

// Clocks are asked three times, and the quickest answer counts: half its way is the error.
const clockLooks = 3

// skewWarning is from when on clocks count as different: the service takes them for the same below.
const skewWarning = time.Second

// lookAtClock compares a server's clock with this machine's.
func (f *findings) lookAtClock(ctx context.Context, check string, ask func(context.Context) (time.Time, error)) {
	var ahead time.Duration
	way := time.Duration(-1)
	for range clockLooks {
		began := time.Now()
		at, err := ask(ctx)
		took := time.Since(began)
		if err != nil {
			f.wrong(check, "its time can't be told: %s", err)
			return
		}
		if way < 0 || took/2 < way {
			way, ahead = took/2, at.Sub(began.Add(took/2))
		}
	}
	place := "ahead of"
	if ahead < 0 {
		place = "behind"
	}
	words := fmt.Sprintf("%s %s this machine's, to within %s", ahead.Abs().Round(time.Millisecond), place, way.Round(time.Microsecond))
	if ahead.Abs() >= skewWarning {
		f.warn(check, "its clock is %s: have all machines keep time by NTP, or checks come early or late", words)
	} else {
		f.ok(check, "its clock is %s", words)
	}
}

// counted is a number with what it counts.
func counted[T int | uint64](n T, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
