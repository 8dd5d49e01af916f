package console

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"publish-reconciler/reconciler"
	"publish-reconciler/repo"
)

var noon = time.Date(2024, 1, 15, 12, 0, 0, 0, time.UTC)

// rendered is what the overview says of facts.
func rendered(t *testing.T, now Now, past pastFacts) (page overview, text string) {
	t.Helper()
	now.Parts = map[string]string{"postgres": "ok"}
	now.Timeout = func(string) time.Duration { return 10 * time.Minute }
	past.at, past.since = noon, noon.Add(-pastWindow)
	page = newOverview(now, past, noon)
	var html bytes.Buffer
	if err := templates["overview.html"].ExecuteTemplate(&html, "live", page); err != nil {
		t.Fatal(err)
	}
	return page, html.String()
}

func TestOverviewTellsWhatIsNotKnown(t *testing.T) {
	t.Parallel()
	open := []repo.Backlog{{Platform: "tiktok", Open: 4711}}
	activity := []repo.Activity{{Platform: "tiktok", At: noon.Add(-time.Minute), TimedOut: 1234}}
	times := []repo.ConfirmTimes{{Platform: "tiktok", Confirmed: 1, Median: time.Second, P90: time.Second, P99: time.Second}}
	for name, test := range map[string]struct {
		now         Now
		past        pastFacts
		says, hides []string
	}{
		"all is known": {
			Now{Platforms: open, Holds: []reconciler.Hold{}},
			pastFacts{day: activity, hour: activity, times: times},
			[]string{"All is well", "4,711", "1,234", "Within a day", "Times to confirm", ">1s<"},
			[]string{"not known:", "is not known."},
		},
		"nothing is open": {
			Now{Platforms: []repo.Backlog{}, Holds: []reconciler.Hold{}},
			pastFacts{},
			[]string{"All is well", "No platform has an open log"},
			[]string{"Which logs"},
		},
		"the backlog": {
			Now{Holds: []reconciler.Hold{}},
			pastFacts{day: activity, hour: activity, times: times},
			[]string{"whether logs wait for a person is not known", "Which logs are open is not known.", `-open">–<`, `-due">–<`, `-skipped">–<`, `-held">–<`, `all-open">–<`, "1,234"},
			[]string{"All is well", `-open">0`, "No platform"},
		},
		"the holds": {
			Now{Platforms: open},
			pastFacts{},
			[]string{"whether logs wait for a person is not known", "4,711"},
			[]string{"All is well"},
		},
		"the activity": {
			Now{Platforms: open, Holds: []reconciler.Hold{}},
			pastFacts{times: times, trouble: "slow"},
			[]string{"What happened is not known: <bdi>slow</bdi>", `-hour">–<`, `-day">–<`, `all-day">–<`, ">1s<", ">[]<"},
			[]string{"Within a day", "How long"},
		},
		"the times": {
			Now{Platforms: open, Holds: []reconciler.Hold{}},
			pastFacts{day: activity, hour: activity, timesTrouble: "slow"},
			[]string{"How long confirmations took is not known: <bdi>slow</bdi>", "1,234", "Within a day"},
			[]string{"What happened", "Times to confirm are"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, text := rendered(t, test.now, test.past)
			for _, part := range test.says {
				if !strings.Contains(text, part) {
					t.Errorf("%q is not in %s", part, text)
				}
			}
			for _, part := range test.hides {
				if strings.Contains(text, part) {
					t.Errorf("%q is in %s", part, text)
				}
			}
		})
	}
}

func TestOverviewOfManyPlatforms(t *testing.T) {
	t.Parallel()
	now := Now{Holds: []reconciler.Hold{{Platform: "held", Until: noon}}}
	for n := range 2 * maxRows {
		now.Platforms = append(now.Platforms, repo.Backlog{Platform: fmt.Sprintf("platform_%03d", n), Open: 10})
	}
	now.Platforms = append(now.Platforms, repo.Backlog{Platform: "skipping", Open: 1, Skipped: 1})
	page, text := rendered(t, now, pastFacts{})
	if len(page.Platforms) != maxRows || page.More != maxRows+2 {
		t.Errorf("%d are shown, %d left out", len(page.Platforms), page.More)
	}
	for _, name := range []string{"held", "skipping"} {
		if !strings.Contains(text, "<bdi>"+name+"</bdi>") {
			t.Errorf("%s is left out", name)
		}
	}
	if page.Total.Open != 2*maxRows*10+1 || page.Total.Skipped != 1 {
		t.Errorf("in all: %+v", page.Total)
	}
	if want := "1 platform is held; 1 log is skipped for unclear evidence."; page.Headline != want {
		t.Errorf("the headline is %q", page.Headline)
	}
}

// Nobody would be led to the logs without a platform, but to all.
func TestOverviewOfNoPlatform(t *testing.T) {
	t.Parallel()
	_, text := rendered(t, Now{Platforms: []repo.Backlog{{Open: 1}}}, pastFacts{day: []repo.Activity{{TimedOut: 1}}})
	if !strings.Contains(text, "(none)") || strings.Contains(text, `href="/logs`) {
		t.Error(text)
	}
}
