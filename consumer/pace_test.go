package consumer_test

import (
	"strings"
	"testing"
	"time"
	_ "time/tzdata"

	"pgregory.net/rapid"

	"publish-reconciler/consumer"
)

func peakHours(tb testing.TB, text string) consumer.PeakHours {
	tb.Helper()
	peak, err := consumer.ParsePeakHours(text)
	if err != nil {
		tb.Fatal(err)
	}
	return peak
}

// utc is a moment of one week: 2026-03-23 is a Monday, and on the Sunday after it Madrid's clocks jump from
// 2:00 to 3:00 (01:00 UTC).
func utc(tb testing.TB, text string) time.Time {
	tb.Helper()
	at, err := time.Parse("2006-01-02 15:04:05", text)
	if err != nil {
		tb.Fatal(err)
	}
	return at
}

func TestPace(t *testing.T) {
	t.Parallel()
	const s, m = time.Second, time.Minute
	const evening = "18:00-23:00 Europe/Madrid"
	tests := map[string]struct {
		least, most time.Duration
		peak        string
		now         string
		previous    time.Duration
		foundWork   bool
		delay       time.Duration
		reason      consumer.SweepReason
	}{
		"work halves it":                 {5 * s, m, "", "2026-03-23 12:00:00", 40 * s, true, 20 * s, "found_work"},
		"down to the least":              {5 * s, m, "", "2026-03-23 12:00:00", 7 * s, true, 5 * s, "found_work"},
		"none doubles it":                {5 * s, m, "", "2026-03-23 12:00:00", 20 * s, false, 40 * s, "found_none"},
		"up to the most":                 {5 * s, m, "", "2026-03-23 12:00:00", 40 * s, false, m, "found_none"},
		"unknown before, work":           {5 * s, m, "", "2026-03-23 12:00:00", 0, true, 30 * s, "found_work"},
		"unknown before, none":           {5 * s, m, "", "2026-03-23 12:00:00", 0, false, m, "found_none"},
		"of longer settings, work":       {5 * s, m, "", "2026-03-23 12:00:00", time.Hour, true, 30 * s, "found_work"},
		"of shorter settings, none":      {5 * s, m, "", "2026-03-23 12:00:00", s, false, 10 * s, "found_none"},
		"a least above the most":         {m, 10 * s, "", "2026-03-23 12:00:00", 10 * s, true, 10 * s, "found_work"},
		"at peak":                        {5 * s, m, evening, "2026-03-23 17:00:00", m, false, 5 * s, "peak_hours"},
		"at the end of peak":             {5 * s, m, evening, "2026-03-23 21:59:59", m, false, 5 * s, "peak_hours"},
		"after it":                       {5 * s, m, evening, "2026-03-23 22:00:00", 5 * s, false, 10 * s, "found_none"},
		"before it":                      {5 * s, m, evening, "2026-03-23 16:59:20", m, false, 40 * s, "peak_hours"},
		"less than the least before it":  {5 * s, m, evening, "2026-03-23 16:59:58", m, false, 5 * s, "peak_hours"},
		"exactly as long before it":      {5 * s, m, evening, "2026-03-23 16:59:00", m, false, m, "found_none"},
		"in summer an hour earlier":      {5 * s, m, evening, "2026-03-30 16:00:00", m, false, 5 * s, "peak_hours"},
		"a peak that the night skips":    {5 * s, 24 * time.Hour, "02:15-02:45 Europe/Madrid", "2026-03-29 00:30:00", time.Hour, false, 2 * time.Hour, "found_none"},
		"a peak that begins in the gap":  {5 * s, time.Hour, "02:30-04:00 Europe/Madrid", "2026-03-29 00:30:00", time.Hour, false, 30 * m, "peak_hours"},
		"a peak that the night repeats":  {5 * s, m, "02:15-02:45 Europe/Madrid", "2026-10-25 01:20:00", m, false, 5 * s, "peak_hours"},
		"and before its second time":     {5 * s, time.Hour, "02:15-02:45 Europe/Madrid", "2026-10-25 00:50:00", time.Hour, false, 25 * m, "peak_hours"},
		"over midnight, before":          {5 * s, m, "Fri 22:00-02:00", "2026-03-27 23:00:00", m, false, 5 * s, "peak_hours"},
		"over midnight, after":           {5 * s, m, "Fri 22:00-02:00", "2026-03-28 01:59:00", m, false, 5 * s, "peak_hours"},
		"over midnight, not the day":     {5 * s, m, "Fri 22:00-02:00", "2026-03-28 22:00:00", m, false, m, "found_none"},
		"over midnight, not the morning": {5 * s, m, "Fri 22:00-02:00", "2026-03-27 01:00:00", m, false, m, "found_none"},
		"the second window":              {5 * s, m, "Mon-Fri 18:00-23:00 Europe/Madrid; sat,sun 10:00-24:00", "2026-03-28 23:59:59", m, false, 5 * s, "peak_hours"},
		"between two windows":            {5 * s, m, "Mon-Fri 18:00-23:00 Europe/Madrid; sat,sun 10:00-24:00", "2026-03-28 09:59:30", m, false, 30 * s, "peak_hours"},
		"days over the end of the week":  {5 * s, m, "Sat-Mon 00:00-24:00", "2026-03-23 12:00:00", m, false, 5 * s, "peak_hours"},
		"the day after them":             {5 * s, m, "Sat-Mon 00:00-24:00", "2026-03-24 12:00:00", m, false, m, "found_none"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			delay, reason := consumer.NextDelay(tt.least, tt.most, peakHours(t, tt.peak), tt.previous, tt.foundWork, utc(t, tt.now))
			equal(t, "delay", delay, tt.delay)
			equal(t, "reason", reason, tt.reason)
		})
	}
}

func TestPaceProperties(t *testing.T) {
	t.Parallel()
	peaks := map[string]consumer.PeakHours{}
	for _, text := range []string{
		"", "18:00-23:00 Europe/Madrid", "Fri-Sun 22:30-04:00 Europe/Madrid", "02:30-02:31 Europe/Madrid",
		"Mon-Fri 09:00-12:00 America/New_York;Sat 00:00-24:00 Asia/Kathmandu",
	} {
		peaks[text] = peakHours(t, text)
	}
	// Around the nights in which Madrid's clocks jump, and of a week in between.
	starts := []time.Time{utc(t, "2026-03-28 12:00:00"), utc(t, "2026-10-24 12:00:00"), utc(t, "2026-06-01 00:00:00")}
	rapid.Check(t, func(t *rapid.T) {
		peak := peaks[rapid.SampledFrom([]string{
			"", "18:00-23:00 Europe/Madrid", "Fri-Sun 22:30-04:00 Europe/Madrid", "02:30-02:31 Europe/Madrid",
			"Mon-Fri 09:00-12:00 America/New_York;Sat 00:00-24:00 Asia/Kathmandu",
		}).Draw(t, "peak")]
		least := time.Duration(rapid.Int64Range(int64(time.Second), int64(time.Hour)).Draw(t, "least"))
		most := time.Duration(rapid.Int64Range(int64(time.Second), int64(24*time.Hour)).Draw(t, "most"))
		previous := time.Duration(rapid.Int64Range(0, int64(48*time.Hour)).Draw(t, "previous"))
		foundWork := rapid.Bool().Draw(t, "found work")
		now := rapid.SampledFrom(starts).Draw(t, "start").Add(time.Duration(rapid.Int64Range(0, int64(7*24*time.Hour)).Draw(t, "later")))
		delay, reason := consumer.NextDelay(least, most, peak, previous, foundWork, now)
		least = min(least, most)
		if delay < least || delay > most {
			t.Errorf("delay %s is not from %s to %s", delay, least, most)
		}
		if peak.Contains(now) {
			if delay != least || reason != consumer.SweepPeakHours {
				t.Errorf("delay %s for %s in peak hours", delay, reason)
			}
			return
		}
		for at := now.Add(least); at.Before(now.Add(delay)); at = at.Add(10 * time.Second) {
			if peak.Contains(at) {
				t.Fatalf("delay %s at %s lasts into the peak hours at %s", delay, now, at)
			}
		}
		if reason == consumer.SweepPeakHours && delay > least && !peak.Contains(now.Add(delay)) {
			t.Errorf("no peak hours begin at %s", now.Add(delay))
		}
	})
}

func TestParsePeakHours(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": "", " ; ": "",
		"  Mon-Fri   18:00-23:00  Europe/Madrid ;00:00-24:00;": "Mon-Fri 18:00-23:00 Europe/Madrid;00:00-24:00",
		"mon,SAT-tue 23:59-00:00 UTC":                          "mon,SAT-tue 23:59-00:00 UTC",
	} {
		equal(t, text, peakHours(t, text).String(), want)
	}
	for text, want := range map[string]string{
		"18-23":                         `"18-23" must be HH:MM-HH:MM: "18" is not a time from 00:00 to 24:00`,
		"18:00":                         `"18:00" must be HH:MM-HH:MM: "" is not a time from 00:00 to 24:00`,
		"8:00-9:00":                     `"8:00" is not a time`,
		"18:00-25:00":                   `"25:00" is not a time`,
		"18:00-23:60":                   `"23:60" is not a time`,
		"24:00-02:00":                   `"24:00-02:00" must begin before 24:00, and not when it ends`,
		"18:00-18:00":                   `"18:00-18:00" must begin before 24:00, and not when it ends`,
		"Mon":                           `"Mon" must be [days ]HH:MM-HH:MM[ zone]`,
		"Mon 18:00-23:00 UTC UTC":       `"Mon 18:00-23:00 UTC UTC" must be [days ]HH:MM-HH:MM[ zone]`,
		"Monday 18:00-23:00":            `days "Monday" must be names such as Mon-Fri or Sat,Sun`,
		"Mon-,Tue 18:00-23:00":          `days "Mon-,Tue" must be`,
		"18:00-23:00 Europe/Madird":     `zone "Europe/Madird" is not known: it must be one such as Europe/Madrid`,
		"18:00-23:00 Local":             `zone "Local" is not known`,
		"18:00-23:00;19:00-20:00 ../..": `zone "../.." is not known`,
	} {
		peak, err := consumer.ParsePeakHours(text)
		if err == nil || !strings.Contains(err.Error(), want) || peak.String() != "" {
			t.Errorf("%q: error %v, want %s", text, err, want)
		}
	}
}

func FuzzParsePeakHours(f *testing.F) {
	for _, text := range []string{
		"", "18:00-23:00", "18:00-23:00 Europe/Madrid", "Mon-Fri 18:00-23:00 Europe/Madrid;Sat,Sun 10:00-24:00", "Fri 22:00-02:00", ";-:,",
	} {
		f.Add(text)
	}
	start := utc(f, "2026-03-23 00:00:00")
	f.Fuzz(func(t *testing.T, text string) {
		peak, err := consumer.ParsePeakHours(text)
		if err != nil {
			return
		}
		again := peakHours(t, peak.String())
		for at := start; at.Before(start.Add(8 * 24 * time.Hour)); at = at.Add(37 * time.Minute) {
			if peak.Contains(at) != again.Contains(at) {
				t.Fatalf("%q and %q differ at %s", text, peak, at)
			}
		}
	})
}
