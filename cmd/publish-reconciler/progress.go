package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"publish-reconciler/cmd/publish-reconciler/simulate"
)

const (
	// barWidth is a bar's, in characters.
	barWidth = 30
	// lineEvery is how often a line is printed where there is no bar.
	lineEvery = 2 * time.Second
)

// tellNowAndThen returns a printf of lines for whoever looks on at a terminal.
func tellNowAndThen(w io.Writer) func(format string, args ...any) {
	last := time.Now()
	return func(format string, args ...any) {
		if isTerminal(w) && time.Since(last) > lineEvery {
			last = time.Now()
			fmt.Fprintf(w, format+"\n", args...)
		}
	}
}

// progress shows how far a simulation is: a bar on a terminal, a line now and then elsewhere.
type progress struct {
	w        io.Writer
	terminal bool
	last     time.Time
	drawn    bool
}

func newProgress(w io.Writer) *progress {
	return &progress{w: w, terminal: isTerminal(w), last: time.Now()}
}

func (p *progress) tell(now simulate.Progress) {
	if p.terminal {
		p.drawn = true
		// Carriage return, and what was there erased to the line's end (ECMA-48).
		fmt.Fprintf(p.w, "\r%s %s\x1b[K", bar(now.Done, now.Logs), words(now))
		return
	}
	if time.Since(p.last) >= lineEvery {
		p.last = time.Now()
		fmt.Fprintln(p.w, words(now))
	}
}

// end leaves the bar's line.
func (p *progress) end() {
	if p.drawn {
		p.drawn = false
		fmt.Fprintln(p.w)
	}
}

func words(now simulate.Progress) string {
	return fmt.Sprintf("%d of %d logs: %s", now.Done, now.Logs, now.Phase)
}

func bar(done, all int) string {
	full := barWidth
	if all > 0 {
		full = barWidth * done / all
	}
	return "[" + strings.Repeat("=", full) + strings.Repeat(" ", barWidth-full) + "]"
}
