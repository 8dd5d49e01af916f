package main

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"publish-reconciler/consumer"
)

const unknownWord = "unknown"

// printStatus prints one screen of 80 columns, as long as no number has more than seven digits.
func printStatus(w io.Writer, s statusAnswer) {
	t := newTable(w)
	for _, part := range slices.Sorted(maps.Keys(s.Ready)) {
		t.line(visible(part), visible(s.Ready[part]))
	}
	if s.Holds == nil {
		t.line("held", unknownWord)
	}
	for _, hold := range s.Holds {
		t.line("held", narrow(hold.Platform)+" until "+moment(&hold.Until))
	}
	t.line("parked webhooks", andOldest(s.Parked, s.OldestParked, s.Time))
	t.line("dead letters", orUnknown(s.Dead))
	t.line("outbox events", andOldest(s.Outbox, s.OldestOutbox, s.Time))
	t.line("next sweep", inWords(s.NextSweep))
	t.line("version", visible(s.Version))
	t.flush()
	fmt.Fprintln(w)
	t.line("PLATFORM", "OPEN", "DUE", "SKIPPED", "HELD", "OLDEST", "TIMEOUT")
	if s.Platforms == nil {
		t.line(unknownWord)
	}
	for _, p := range s.Platforms {
		t.line(narrow(p.Platform), strconv.Itoa(p.Open), strconv.Itoa(p.Due), strconv.Itoa(p.Skipped), strconv.Itoa(p.Held),
			age(p.OldestUpdate, s.Time), short(time.Duration(p.TimeoutMinutes*float64(time.Minute))))
	}
	t.flush()
	fmt.Fprintln(w)
	t.line("A MINUTE", "CONFIRMED", "TIMED OUT", "REJECTED", "RETRIED", "LATE")
	t.line(rateCells("last minute", s.Rates.Minute)...)
	t.line(rateCells("last hour", s.Rates.Hour)...)
	t.flush()
	fmt.Fprintln(w)
	t.line("CONSUMER", "PENDING", "IN HAND", "REDELIVERED")
	for _, c := range s.Consumers {
		t.line(visible(c.Name), strconv.FormatUint(c.Pending, 10), strconv.Itoa(c.InHand), strconv.Itoa(c.Redelivered))
	}
	t.flush()
}

func orUnknown[T int | uint64](n *T) string {
	if n == nil {
		return unknownWord
	}
	return fmt.Sprint(*n)
}

// andOldest is how many wait, and for how long.
func andOldest(n *int, oldest, now *time.Time) string {
	words := orUnknown(n)
	if since := age(oldest, now); since != "" {
		words += ", the oldest for " + since
	}
	return words
}

// inWords tells when the next sweep comes, and why then.
func inWords(next *consumer.NextSweep) string {
	switch {
	case next == nil:
		return unknownWord
	case next.Running:
		return "under way"
	case next.At.IsZero():
		return "none is pending: a replica schedules one within SWEEP_INTERVAL"
	}
	because := visible(string(next.Reason))
	if next.Delay > 0 {
		because += ", " + short(time.Duration(next.Delay)) + " after the last one"
	}
	return fmt.Sprintf("%s (%s)", moment(&next.At), because)
}

// rateCells are a line of rates.
func rateCells(name string, r *perMinute) []string {
	if r == nil {
		return []string{name, unknownWord, unknownWord, unknownWord, unknownWord, unknownWord}
	}
	cells := []string{name}
	for _, rate := range []float64{r.Confirmed, r.TimedOut, r.Rejected, r.Retried, r.Late} {
		digits := 0
		switch {
		case rate == math.Trunc(rate):
		case rate < 1: // one an hour is 0.02
			digits = 2
		case rate < 100:
			digits = 1
		}
		cells = append(cells, strconv.FormatFloat(rate, 'f', digits, 64))
	}
	return cells
}

// age is how long ago a time was, with two units at most; empty where that is not known.
func age(at, now *time.Time) string {
	if at == nil || now == nil {
		return ""
	}
	const day = 24 * time.Hour
	d := max(now.Sub(*at), 0)
	switch {
	case d < time.Minute:
		return d.Truncate(time.Second).String()
	case d < time.Hour:
		return short(d.Truncate(time.Second))
	case d < 2*day:
		return short(d.Truncate(time.Minute))
	default:
		return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
	}
}

// maxName is how wide a platform's name is shown.
const maxName = 20

// narrow is a name that leaves room for what stands beside it.
func narrow(name string) string {
	name = visible(name)
	if utf8.RuneCountInString(name) > maxName {
		return string([]rune(name)[:maxName-1]) + "…"
	}
	return name
}
