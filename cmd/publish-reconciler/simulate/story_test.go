package simulate

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"publish-reconciler/reconciler"
	"publish-reconciler/streams"
)

func plan(seed uint64) Plan {
	return Plan{
		Logs: 2000, Rate: 500, Seed: seed, Timeout: 6 * time.Second,
		Shares: map[Kind]float64{
			Rejected: 0.1, Duplicate: 0.1, Reordered: 0.1, Reviewed: 0.1, Unclear: 0.1,
			Late: 0.1, Lost: 0.1, BeforeRow: 0.1, Malformed: 0.1,
		},
	}
}

func told(t *testing.T, s *Story) []byte {
	t.Helper()
	var text bytes.Buffer
	for i := range s.Len() {
		if err := json.NewEncoder(&text).Encode(s.Log(i)); err != nil {
			t.Fatal(err)
		}
	}
	return text.Bytes()
}

func TestSameSeedSameStory(t *testing.T) {
	t.Parallel()
	first, again, other := told(t, NewStory(plan(7))), told(t, NewStory(plan(7))), told(t, NewStory(plan(8)))
	if !bytes.Equal(first, again) {
		t.Error("the same seed tells two stories")
	}
	if bytes.Equal(first, other) {
		t.Error("two seeds tell the same story")
	}
	backwards := NewStory(plan(7))
	last, err := json.Marshal(backwards.Log(backwards.Len() - 1))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasSuffix(bytes.TrimSpace(first), last) {
		t.Error("a log's story depends on which was told before")
	}
}

func TestSharesAreKept(t *testing.T) {
	t.Parallel()
	for name, shares := range map[string]map[Kind]float64{
		"none":      {},
		"all":       plan(1).Shares,
		"one alone": {Late: 1},
		"rounded":   {Lost: 0.0004, Late: 0.00026, Unclear: 0.0002},
		"full":      {Lost: 0.5, Late: 0.5},
	} {
		p := plan(3)
		p.Shares = shares
		story := NewStory(p)
		wanted := map[Kind]int{"": 0}
		rest := p.Logs
		for kind, share := range shares {
			wanted[kind] = int(share*float64(p.Logs) + 0.5)
			rest -= wanted[kind]
		}
		wanted[Confirmed] = rest
		found := make(map[Kind]int)
		for i := range story.Len() {
			found[story.Log(i).Kind]++
		}
		for _, kind := range Kinds() {
			if found[kind] != wanted[kind] || story.Count(kind) != wanted[kind] {
				t.Errorf("%s: %d logs are %s, counted %d, want %d", name, found[kind], kind, story.Count(kind), wanted[kind])
			}
		}
	}
}

// A log's webhooks are what the message contract makes of them, and its outcome follows from the rules.
func TestStoryFollowsTheContract(t *testing.T) {
	t.Parallel()
	run := NewRun()
	story := NewStory(plan(5))
	posts, numbers := make(map[string]bool), 0
	for i := range story.Len() {
		log := story.Log(i)
		post := run.post(log)
		if posts[log.Platform+post] {
			t.Fatalf("post %s is there twice", post)
		}
		posts[log.Platform+post] = true
		if index, own := run.parseIndex(run.logID(i).String()); !own || index != i {
			t.Fatalf("log %d has the id of %d, %v", i, index, own)
		}
		inserted := false
		var last reconciler.Evidence
		for _, step := range log.Steps {
			if step.After > 2*story.plan.Timeout/5 {
				t.Errorf("log %d: %s comes after %s", i, step.Do, step.After)
			}
			switch step.Do {
			case Insert:
				inserted = true
			case Schedule:
				if !inserted {
					t.Errorf("log %d: its check comes before its row", i)
				}
			case Webhook:
				body := run.fill(step.Body, log)
				webhook, err := streams.DecodeWebhook(streams.WebhookSubject(log.Platform), []byte(body))
				if err != nil || webhook.ExternalPostID != post {
					t.Fatalf("log %d: %s: %v, of post %s", i, body, err, webhook.ExternalPostID)
				}
				if strings.Contains(body, `"external_post_id":`+post) {
					numbers++
				}
				evidence := reconciler.ReadWebhook(log.Platform, reconciler.Storable(webhook.Fields), time.Now())
				if evidence.Verdict != reconciler.Unclear {
					last = evidence
				}
			case Broken:
				_, err := streams.DecodeWebhook(streams.WebhookSubject(log.Platform), []byte(run.fill(step.Body, log)))
				decodeErr, ok := errors.AsType[*streams.DecodeError](err)
				if !ok || decodeErr.Reason != log.Dead {
					t.Errorf("log %d: %q: %v, want %s", i, step.Body, err, log.Dead)
				}
			}
		}
		if (log.Says != nil) != (last.Verdict != reconciler.NoEvidence) {
			t.Fatalf("log %d says %v, sends %v", i, log.Says, last)
		}
		if log.Says != nil && (last.Status != log.Says.Status || last.URL != run.fill(log.Says.URL, log)) {
			t.Errorf("log %d says %+v, sends %+v", i, log.Says, last)
		}
		if (log.Outcome.Status == reconciler.StatusSuccess) != (last.Verdict == reconciler.Confirmed) {
			t.Errorf("log %d ends with %s after %+v", i, log.Outcome.Status, last)
		}
	}
	if numbers == 0 {
		t.Error("no post's id is a number")
	}
}

func TestRuns(t *testing.T) {
	t.Parallel()
	one, two := Run(minRun), Run(maxRun)
	for _, index := range []int{0, 1, MaxLogs - 1} {
		if _, own := one.indexOf(two.logID(index)); own {
			t.Errorf("two runs have log %s", two.logID(index))
		}
		for _, run := range []Run{one, two} {
			if got, own := run.indexOf(run.logID(index)); !own || got != index {
				t.Errorf("log %d of %d is %d, %v", index, run, got, own)
			}
			if !strings.HasPrefix(run.logID(index).String(), run.idPrefix()) {
				t.Errorf("%s has no prefix %s", run.logID(index), run.idPrefix())
			}
		}
	}
	if one.idPrefix() == Run(minRun+1).idPrefix() || two.idPrefix() == Run(maxRun-1).idPrefix() {
		t.Error("two runs have one prefix")
	}
	for text, want := range map[string]bool{"100000000000": true, "999999999999": true, "99999999999": false, "1000000000000": false, "": false, "x": false} {
		if run, ok := ParseRun(text); ok != want {
			t.Errorf("%q is %d, %v", text, run, ok)
		}
	}
}
