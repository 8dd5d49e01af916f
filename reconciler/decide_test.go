package reconciler

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// answer is what the contract's table says of a situation.
type answer struct {
	action  Action
	reason  Reason
	records bool // a webhook is written into the log; what is recorded already, or probed, is not
	skipped bool
	err     string
}

// table is section 3 of the contract. Each situation stands in exactly one row.
var table = map[string]answer{
	// status         | verdict   | told by          | deadline | retries | late
	"processing,retry | confirmed | webhook,recorded | any      | any     | any": {
		action: MarkedSuccess, reason: ReasonWebhookConfirmed, records: true,
	},
	"processing,retry | refused   | webhook,recorded | any      | any     | any": {
		action: MarkedFailed, reason: ReasonWebhookRejected, records: true, err: "Video too long",
	},
	"processing,retry | unclear   | webhook,recorded | any      | any     | any": {
		reason: ReasonWebhookUnclear, records: true, skipped: true,
	},
	"processing,retry | none      | nobody           | before   | any     | any": {reason: ReasonNotDue},
	"processing,retry | any       | probe            | before   | any     | any": {reason: ReasonNotDue},
	"processing,retry | confirmed | probe            | at,after | any     | any": {
		action: MarkedSuccess, reason: ReasonProbeConfirmed,
	},
	"processing,retry | refused   | probe            | at,after | any     | any": {
		action: MarkedFailed, reason: ReasonProbeRejected, err: "Video too long",
	},
	"processing,retry | unclear   | probe            | at,after | any     | any": {
		reason: ReasonProbeUnclear, skipped: true,
	},
	"processing,retry | none      | nobody           | at,after | left    | any": {
		action: MarkedRetry, reason: ReasonRetryBeforeFail,
	},
	"processing,retry | none      | nobody           | at,after | used up | any": {
		action: MarkedFailed, reason: ReasonWebhookTimeout, err: "No webhook received after 10 minutes",
	},

	"pending         | any               | any              | any | any | any":    {reason: ReasonNotStarted, records: true},
	"success,unknown | any               | any              | any | any | any":    {reason: ReasonAlreadyFinal},
	"failed          | any               | any              | any | any | any":    {reason: ReasonAlreadyFinal, records: true},
	"timed out       | none              | nobody           | any | any | any":    {reason: ReasonAlreadyFinal},
	"timed out       | unclear,refused   | any              | any | any | any":    {reason: ReasonAlreadyFinal, records: true},
	"timed out       | confirmed         | probe            | any | any | any":    {reason: ReasonAlreadyFinal},
	"timed out       | confirmed         | webhook,recorded | any | any | ignore": {reason: ReasonAlreadyFinal, records: true},
	"timed out       | confirmed         | webhook,recorded | any | any | accept": {
		action: MarkedSuccess, reason: ReasonWebhookLate, records: true,
	},
}

// words are what a platform says to be understood as each verdict.
var words = map[string]string{
	"confirmed": `{"status":"published"}`,
	"refused":   `{"status":"failed","error":"Video too long"}`,
	"unclear":   `{"status":"in_review"}`,
}

// situation is one cell of the table, in the table's words.
type situation struct{ status, verdict, teller, deadline, retries, late string }

func everySituation(visit func(situation)) {
	for _, status := range []string{"pending", "processing", "retry", "success", "failed", "timed out", "unknown"} {
		for _, deadline := range []string{"before", "at", "after"} {
			for _, retries := range []string{"left", "used up"} {
				for _, late := range []string{"accept", "ignore"} {
					visit(situation{status, "none", "nobody", deadline, retries, late})
					for verdict := range words {
						for _, teller := range []string{"webhook", "recorded", "probe"} {
							visit(situation{status, verdict, teller, deadline, retries, late})
						}
					}
				}
			}
		}
	}
}

// isIn tells whether a row of the table speaks of the situation.
func (s situation) isIn(row string) bool {
	columns := strings.Split(row, "|")
	for i, word := range []string{s.status, s.verdict, s.teller, s.deadline, s.retries, s.late} {
		column := strings.TrimSpace(columns[i])
		if column != "any" && !slices.Contains(strings.Split(column, ","), word) {
			return false
		}
	}
	return true
}

func (s situation) decide(t *testing.T) Decision {
	t.Helper()
	log := open(1, tiktok, map[string]time.Duration{
		"before": 10*time.Minute - time.Microsecond, "at": 10 * time.Minute, "after": 10*time.Minute + time.Microsecond,
	}[s.deadline])
	log.RetryCount = 1
	log.Metadata = map[string]any{}
	switch log.Status = Status(s.status); s.status {
	case "timed out":
		log.Status = StatusFailed
		log.Metadata[keyReason] = string(ReasonWebhookTimeout)
	case "failed":
		log.Metadata[keyReason] = string(ReasonWebhookRejected)
	}
	var q Question
	if s.teller != "nobody" {
		told := evidence(t, words[s.verdict])
		switch s.teller {
		case "webhook":
			q.Webhook = &told
		case "probe":
			q.Probe = &Probe{Result: ProbeAnswered, Evidence: told}
		case "recorded":
			maps.Copy(log.Metadata, told.Fields)
		}
	}
	policy := Policy{
		DefaultTimeout: 10 * time.Minute,
		Retries:        map[string]int{"tiktok": map[string]int{"left": 2, "used up": 1}[s.retries]},
		IgnoreLate:     s.late == "ignore",
	}
	return Decide(log, q, policy, noon)
}

func TestDecideAnswersEverySituation(t *testing.T) {
	t.Parallel()
	used := map[string]bool{}
	everySituation(func(s situation) {
		var rows []string
		for row := range table {
			if s.isIn(row) {
				rows = append(rows, row)
				used[row] = true
			}
		}
		if len(rows) != 1 {
			t.Errorf("%+v stands in %d rows of the table: %q", s, len(rows), rows)
			return
		}
		want := table[rows[0]]
		want.records = want.records && s.teller == "webhook"
		d := s.decide(t)
		got := answer{d.Action, d.Reason, d.Record, d.Skipped, d.Error}
		if got != want {
			t.Errorf("%+v:\ngot  %+v\nwant %+v", s, got, want)
		}
	})
	for row := range table {
		if !used[row] {
			t.Errorf("no situation is in row %q", row)
		}
	}
}

func TestDecideWeighsEvidence(t *testing.T) {
	t.Parallel()
	const long = 11 * time.Minute
	tests := map[string]struct {
		age                      time.Duration
		recorded, webhook, probe string // names in words; "" is silence
		want                     answer
		status                   string // what the decision rests on
	}{
		"a clear webhook beats a recorded unclear one": {
			recorded: "unclear", webhook: "refused", status: "failed",
			want: answer{MarkedFailed, ReasonWebhookRejected, true, false, "Video too long"},
		},
		"an unclear webhook does not beat a recorded clear one": {
			recorded: "confirmed", webhook: "unclear", status: "published",
			want: answer{MarkedSuccess, ReasonWebhookConfirmed, false, false, ""},
		},
		"the same webhook again adds nothing and decides nothing new": {
			recorded: "unclear", webhook: "unclear", status: "in_review",
			want: answer{"", ReasonWebhookUnclear, false, true, ""},
		},
		"a webhook that is clear needs no probe": {
			age: long, webhook: "refused", probe: "confirmed", status: "failed",
			want: answer{MarkedFailed, ReasonWebhookRejected, true, false, "Video too long"},
		},
		"a probe settles past the deadline what a webhook left unclear, and the webhook is recorded": {
			age: long, webhook: "unclear", probe: "confirmed", status: "published",
			want: answer{MarkedSuccess, ReasonProbeConfirmed, true, false, ""},
		},
		"a probe settles past the deadline what is recorded as unclear": {
			age: long, recorded: "unclear", probe: "refused", status: "failed",
			want: answer{MarkedFailed, ReasonProbeRejected, false, false, "Video too long"},
		},
		"before the deadline an unclear webhook stands against a probe": {
			webhook: "unclear", probe: "confirmed", status: "in_review",
			want: answer{"", ReasonWebhookUnclear, true, true, ""},
		},
		"unclear evidence is patient past the deadline": {
			age: long, recorded: "unclear", status: "in_review",
			want: answer{"", ReasonWebhookUnclear, false, true, ""},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			told := func(verdict string) *Evidence {
				if verdict == "" {
					return nil
				}
				e := evidence(t, words[verdict])
				return &e
			}
			log := open(1, tiktok, test.age)
			if recorded := told(test.recorded); recorded != nil {
				log.Metadata = recorded.Fields
			}
			q := Question{Webhook: told(test.webhook)}
			if probed := told(test.probe); probed != nil {
				q.Probe = &Probe{Result: ProbeAnswered, Evidence: *probed}
			}
			d := Decide(log, q, Policy{DefaultTimeout: DefaultTimeout}, noon)
			if got := (answer{d.Action, d.Reason, d.Record, d.Skipped, d.Error}); got != test.want {
				t.Errorf("got  %+v\nwant %+v", got, test.want)
			}
			if d.Evidence.Status != test.status {
				t.Errorf("it rests on status %q, want %q", d.Evidence.Status, test.status)
			}
		})
	}
}

// What a webhook said is recorded as it came, also when a probe's answer decides.
func TestAProbesAnswerIsNotRecordedAsTheWebhook(t *testing.T) {
	t.Parallel()
	told, probed := evidence(t, words["unclear"]), evidence(t, words["confirmed"])
	row := row{Log: open(1, tiktok, time.Hour)}
	row.ask(Question{Trigger: TriggerCheck, Webhook: &told, Probe: &Probe{ProbeAnswered, probed, 0}}, patient, noon)
	if row.Status != StatusSuccess || row.Metadata["webhook_status"] != "in_review" {
		t.Errorf("%q, with webhook_status %v recorded", row.Status, row.Metadata["webhook_status"])
	}
	if got := row.ledger[0].Metadata["webhook_status"]; got != "in_review" {
		t.Errorf("the ledger says the webhook brought %v", got)
	}
}

func TestDecideTakesAProbeWithoutAVerdictForSilence(t *testing.T) {
	t.Parallel()
	d := Decide(open(1, tiktok, time.Hour), Question{Probe: &Probe{Result: ProbeNoAnswer}}, Policy{DefaultTimeout: time.Minute}, noon)
	if d.Action != MarkedFailed || d.Reason != ReasonWebhookTimeout {
		t.Errorf("got %q, %q; want a failure by %q", d.Action, d.Reason, ReasonWebhookTimeout)
	}
}

func TestDecideTimeout(t *testing.T) {
	t.Parallel()
	policy := Policy{
		DefaultTimeout: DefaultTimeout,
		Timeouts:       map[string]time.Duration{"tiktok": 30 * time.Minute, "hasty": 0},
	}
	own := func(d time.Duration) *time.Duration { return &d }
	tests := map[string]struct {
		platform string
		own      *time.Duration
		policy   Policy
		timeout  time.Duration
		err      string
	}{
		"default":                         {"instagram", nil, policy, 10 * time.Minute, "No webhook received after 10 minutes"},
		"the platform's":                  {"tiktok", nil, policy, 30 * time.Minute, "No webhook received after 30 minutes"},
		"the platform has no patience":    {"hasty", nil, policy, 0, "No webhook received after 0 minutes"},
		"own for the platform's":          {"tiktok", own(5 * time.Minute), policy, 5 * time.Minute, "No webhook received after 5 minutes"},
		"own for the default":             {"instagram", own(time.Hour), policy, time.Hour, "No webhook received after 60 minutes"},
		"own is no patience at all":       {"tiktok", own(0), policy, 0, "No webhook received after 0 minutes"},
		"half a minute":                   {"tiktok", own(30 * time.Second), policy, 30 * time.Second, "No webhook received after 0.5 minutes"},
		"a zero policy has no patience":   {"tiktok", nil, Policy{}, 0, "No webhook received after 0 minutes"},
		"a large number has no exponent":  {"tiktok", own(1e7 * time.Minute), policy, 1e7 * time.Minute, "No webhook received after 10000000 minutes"},
		"a quarter of an hour and a half": {"tiktok", own(15*time.Minute + 30*time.Second), policy, 930 * time.Second, "No webhook received after 15.5 minutes"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := open(1, Post{test.platform, "1"}, test.timeout)
			d := Decide(log, Question{Timeout: test.own}, test.policy, noon)
			if d.Timeout != test.timeout || !d.Deadline.Equal(noon) {
				t.Errorf("patience of %v until %v, want %v until %v", d.Timeout, d.Deadline, test.timeout, noon)
			}
			if d.Action != MarkedFailed || d.Error != test.err {
				t.Errorf("at the deadline: %q, %q; want a failure, %q", d.Action, d.Error, test.err)
			}
			if d = Decide(log, Question{Timeout: test.own}, test.policy, noon.Add(-time.Microsecond)); d.Reason != ReasonNotDue {
				t.Errorf("a microsecond before the deadline: %q, want %q", d.Reason, ReasonNotDue)
			}
		})
	}
}

func TestDecideRetries(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ used, ofPlatform, ofLog, want int }{
		"never by default":            {used: 0, ofPlatform: 0, ofLog: 3, want: 0},
		"as often as the platform's":  {used: 0, ofPlatform: 2, ofLog: 3, want: 2},
		"bounded by the log's":        {used: 0, ofPlatform: 5, ofLog: 3, want: 3},
		"the log allows none":         {used: 0, ofPlatform: 5, ofLog: 0, want: 0},
		"the publisher's count too":   {used: 2, ofPlatform: 3, ofLog: 3, want: 1},
		"the publisher used them up":  {used: 7, ofPlatform: 3, ofLog: 9, want: 0},
		"one before it fails for all": {used: 0, ofPlatform: 1, ofLog: 1, want: 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			policy := Policy{DefaultTimeout: time.Minute, Retries: map[string]int{"tiktok": test.ofPlatform}}
			row := row{Log: open(1, tiktok, time.Hour)}
			row.RetryCount, row.MaxRetries = test.used, test.ofLog
			now, retries := noon, 0
			for row.Status.Open() {
				if row.ask(Question{Trigger: TriggerCheck}, policy, now).Action == MarkedRetry {
					retries++
				}
				now = now.Add(time.Minute)
			}
			if retries != test.want || row.RetryCount != test.used+test.want {
				t.Errorf("%d retries until retry_count %d, want %d until %d", retries, row.RetryCount, test.want, test.used+test.want)
			}
			if row.Status != StatusFailed || row.Error != "No webhook received after 1 minutes" {
				t.Errorf("at the end %q, %q", row.Status, row.Error)
			}
		})
	}
}

func TestARefusalWithoutWordsStillHasAnErrorText(t *testing.T) {
	t.Parallel()
	refused := evidence(t, `{"status":"Rejected"}`)
	d := Decide(open(1, tiktok, 0), Question{Webhook: &refused}, Policy{DefaultTimeout: DefaultTimeout}, noon)
	if want := `The platform reported "Rejected" and gave no reason`; d.Error != want {
		t.Errorf("error is %q, want %q", d.Error, want)
	}
}

func TestNoStatusAfterNoAction(t *testing.T) {
	t.Parallel()
	defer func() {
		if got, want := fmt.Sprint(recover()), "no status after action marked_wrong"; cmp.Diff(want, got) != "" {
			t.Errorf("panic says %q, want %q", got, want)
		}
	}()
	Action("marked_wrong").status()
}
