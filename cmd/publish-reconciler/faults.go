package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"publish-reconciler/consumer"
)

// oneOf is what a word stands for.
func oneOf[T any](f *faults, flag, variable, value string, words map[string]T) T {
	meaning, known := words[value]
	if !known {
		allowed := slices.DeleteFunc(slices.Sorted(maps.Keys(words)), func(word string) bool { return word == "" })
		f.add(flag, variable, value, "one of "+strings.Join(allowed, ", "))
	}
	return meaning
}

func (f *faults) boolean(flag, variable, value string) bool {
	b, err := strconv.ParseBool(value)
	if err != nil {
		f.add(flag, variable, value, "true or false")
	}
	return b
}

func (f *faults) duration(flag, variable, value string, least, most time.Duration) time.Duration {
	d, ok := parseDuration(value, least, most)
	if !ok {
		f.add(flag, variable, value, fmt.Sprintf("a duration such as 10m, from %s to %s", short(least), short(most)))
	}
	return d
}

func (f *faults) timeouts(flag, variable, value string) map[string]time.Duration {
	return perPlatform(f, flag, variable, value, "instagram=15m;tiktok=30m, each from 0s to "+short(maxTimeout),
		func(s string) (time.Duration, bool) { return parseDuration(s, 0, maxTimeout) })
}

func (f *faults) retries(flag, variable, value string) map[string]int {
	return perPlatform(f, flag, variable, value, fmt.Sprintf("instagram=1;tiktok=2, each from 0 to %d", maxRetries),
		func(s string) (int, bool) {
			n, err := strconv.Atoi(s)
			return n, err == nil && n >= 0 && n <= maxRetries
		})
}

// rate reads how often something may happen, and returns it per second. A number alone is per second too.
func (f *faults) rate(flag, variable, value string) float64 {
	const least, most = 1.0 / 3600, 10_000.0
	number, unit, given := strings.Cut(value, "/")
	if !given {
		unit = "s"
	}
	per, known := map[string]float64{"s": 1, "m": 60, "h": 3600}[unit]
	n, err := strconv.ParseFloat(number, 64)
	n /= per
	if !known || err != nil || !(n >= least && n <= most) {
		f.add(flag, variable, value, "a rate such as 10/s, 30/m or 100/h, from 1/h to 10000/s")
	}
	return n
}

func (f *faults) peakHours(flag, variable, value string) consumer.PeakHours {
	peak, err := consumer.ParsePeakHours(value)
	if err != nil {
		f.add(flag, variable, value, "windows such as 18:00-23:00 Europe/Madrid or Mon-Fri 18:00-23:00, separated by semicolons; "+err.Error())
	}
	return peak
}

// perPlatform reads "platform=value" pairs, separated by semicolons. Platforms are in lower case, as in
// the webhooks' subjects.
func perPlatform[T any](f *faults, flag, variable, value, example string, parse func(string) (T, bool)) map[string]T {
	all := make(map[string]T)
	for pair := range strings.SplitSeq(value, ";") {
		if pair = strings.TrimSpace(pair); pair == "" {
			continue
		}
		platform, text, _ := strings.Cut(pair, "=")
		platform = strings.ToLower(strings.TrimSpace(platform))
		parsed, ok := parse(strings.TrimSpace(text))
		_, twice := all[platform]
		if platform == "" || !ok || twice {
			f.add(flag, variable, value, "platform=value pairs, each platform once, such as "+example)
			return nil
		}
		all[platform] = parsed
	}
	return all
}

func parseDuration(s string, least, most time.Duration) (time.Duration, bool) {
	d, err := time.ParseDuration(s)
	return d, err == nil && d >= least && d <= most
}

// short is a duration as one would type it: 10m instead of 10m0s.
func short(d time.Duration) string {
	s := d.String()
	s = strings.TrimSuffix(s, "m0s") + map[bool]string{true: "m"}[strings.HasSuffix(s, "m0s")]
	return strings.TrimSuffix(s, "h0m") + map[bool]string{true: "h"}[strings.HasSuffix(s, "h0m")]
}
