package consumer

import (
	"fmt"
	"strings"
	"time"
)

// PeakHours are windows of the week in which sweeps keep to their shortest delay. They go by the clock on the
// wall: an hour that daylight saving time skips is no peak time, one that it repeats is peak time twice. The
// zero value has none. Make some with [ParsePeakHours].
type PeakHours struct {
	text    string
	windows []peakWindow
}

type peakWindow struct {
	days     [7]bool // by time.Weekday: on which the window begins
	from, to int     // minutes after midnight; to before from is the next day's
	zone     *time.Location
}

// ParsePeakHours reads windows, separated by semicolons. Each is "[days ]HH:MM-HH:MM[ zone]": days such as
// Mon-Fri or Sat,Sun, every day where they are left out; a zone such as Europe/Madrid, UTC where it is left
// out; the end may be 24:00, or lie on the next day. The empty text has no windows. An error says what is
// wrong and what is allowed.
func ParsePeakHours(text string) (PeakHours, error) {
	var peak PeakHours
	var texts []string
	for part := range strings.SplitSeq(text, ";") {
		fields := strings.Fields(part)
		if len(fields) == 0 {
			continue
		}
		window, err := parsePeakWindow(fields)
		if err != nil {
			return PeakHours{}, err
		}
		peak.windows = append(peak.windows, window)
		texts = append(texts, strings.Join(fields, " "))
	}
	peak.text = strings.Join(texts, ";")
	return peak, nil
}

func parsePeakWindow(fields []string) (w peakWindow, err error) {
	all := fields
	w.zone = time.UTC
	if first := fields[0][0]; first < '0' || first > '9' {
		if w.days, err = parseDays(fields[0]); err != nil {
			return w, err
		}
		fields = fields[1:]
	} else {
		w.days = [7]bool{true, true, true, true, true, true, true}
	}
	if len(fields) == 0 || len(fields) > 2 {
		return w, fmt.Errorf("%q must be [days ]HH:MM-HH:MM[ zone]", strings.Join(all, " "))
	}
	from, to, _ := strings.Cut(fields[0], "-")
	w.from, err = parseMinute(from)
	if err == nil {
		w.to, err = parseMinute(to)
	}
	switch {
	case err != nil:
		return w, fmt.Errorf("%q must be HH:MM-HH:MM: %w", fields[0], err)
	case w.from == minutesOfDay || w.from == w.to:
		return w, fmt.Errorf("%q must begin before 24:00, and not when it ends", fields[0])
	}
	if len(fields) == 2 {
		w.zone, err = time.LoadLocation(fields[1])
		if err != nil || w.zone == time.Local {
			return w, fmt.Errorf("zone %q is not known: it must be one such as Europe/Madrid", fields[1])
		}
	}
	return w, nil
}

const minutesOfDay = 24 * 60

func parseMinute(text string) (int, error) {
	if text == "24:00" {
		return minutesOfDay, nil
	}
	at, err := time.Parse("15:04", text)
	if err != nil || len(text) != len("15:04") {
		return 0, fmt.Errorf("%q is not a time from 00:00 to 24:00", text)
	}
	return at.Hour()*60 + at.Minute(), nil
}

// parseDays reads names and ranges of days, separated by commas.
func parseDays(text string) (days [7]bool, err error) {
	for part := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		from, known := parseDay(first)
		to, alsoKnown := parseDay(last)
		if !known || !alsoKnown {
			return days, fmt.Errorf("days %q must be names such as Mon-Fri or Sat,Sun", text)
		}
		for day := from; ; day = (day + 1) % 7 {
			days[day] = true
			if day == to {
				break
			}
		}
	}
	return days, nil
}

func parseDay(text string) (time.Weekday, bool) {
	for day := time.Sunday; day <= time.Saturday; day++ {
		if strings.EqualFold(text, day.String()[:3]) {
			return day, true
		}
	}
	return 0, false
}

// String is what was parsed, without needless white space; empty where there are no windows.
func (p PeakHours) String() string { return p.text }

// Contains tells whether it is peak time.
func (p PeakHours) Contains(at time.Time) bool {
	for _, w := range p.windows {
		local := at.In(w.zone)
		minute, day := local.Hour()*60+local.Minute(), local.Weekday()
		dayBefore := (day + 6) % 7
		switch {
		case w.from < w.to && w.days[day] && minute >= w.from && minute < w.to,
			w.from > w.to && w.days[day] && minute >= w.from,
			w.from > w.to && w.days[dayBefore] && minute < w.to:
			return true
		}
	}
	return false
}

// beginWithin is how long it is until peak time, where that is less than limit, which is a day at most. It
// looks at every minute: what a clock on the wall shows next is not worth being clever about.
func (p PeakHours) beginWithin(now time.Time, limit time.Duration) (time.Duration, bool) {
	if len(p.windows) == 0 {
		return 0, false
	}
	for at := now.Truncate(time.Minute).Add(time.Minute); at.Sub(now) < limit; at = at.Add(time.Minute) {
		if p.Contains(at) {
			return at.Sub(now), true
		}
	}
	return 0, false
}
