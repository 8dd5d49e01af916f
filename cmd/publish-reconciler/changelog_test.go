package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// The changelog is in the form of Keep a Changelog 1.1.0, and its second release is the one that .ci/upgrade replaces by
// the newest.
func TestChangelog(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../CHANGELOG.md")
	if err != nil {
		t.Fatal(err)
	}
	released := regexp.MustCompile(`^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d{2}-\d{2})$`)
	var versions, dates, headings []string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "### "):
			if kind := line[4:]; !slices.Contains([]string{"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}, kind) {
				t.Errorf("no such kind of change: %s", kind)
			}
		case strings.HasPrefix(line, "## "):
			headings = append(headings, line)
			if release := released.FindStringSubmatch(line); release != nil {
				versions, dates = append(versions, release[1]), append(dates, release[2])
			} else if line != "## [Unreleased]" {
				t.Errorf("no release: %s", line)
			}
		}
	}
	if len(versions) < 2 || headings[0] != "## [Unreleased]" {
		t.Fatalf("releases are %q", headings)
	}
	for i, date := range dates {
		if _, err := time.Parse(time.DateOnly, date); err != nil || i > 0 && date > dates[i-1] {
			t.Errorf("%s came out on %s, before %s", versions[i], date, versions[max(i-1, 0)])
		}
		if !strings.Contains(string(text), "\n["+versions[i]+"]: ") {
			t.Errorf("%s has no link", versions[i])
		}
	}
	previous, err := os.ReadFile("../../.ci/previous-release")
	if err != nil {
		t.Fatal(err)
	}
	if version, _, _ := strings.Cut(string(previous), " "); version != versions[1] {
		t.Errorf(".ci/previous-release is %s, and the release before the newest is %s", version, versions[1])
	}
}
