package reconciler

import (
	"strings"
	"testing"
	"time"
)

// decideOn decides a log that holds some extra_metadata, in time or past its deadline.
func decideOn(t *testing.T, status Status, metadata string, age time.Duration, q Question) Decision {
	t.Helper()
	log := open(1, tiktok, age)
	log.Status, log.Metadata = status, object(t, metadata)
	return Decide(log, q, patient, noon)
}

func TestEvidenceThatOthersRecorded(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		metadata string
		reason   Reason
		want     Evidence
	}{
		"nothing":                  {`{}`, ReasonNotDue, Evidence{}},
		"other keys":               {`{"status":"published","complete":true,"media_url":"https://m/"}`, ReasonNotDue, Evidence{}},
		"received, without a word": {`{"webhook_received":true}`, ReasonWebhookUnclear, Evidence{Verdict: Unclear}},
		"received and published":   {`{"webhook_received":true,"webhook_status":"Published"}`, ReasonWebhookConfirmed, Evidence{Verdict: Confirmed, Status: "Published"}},
		"received and complete":    {`{"webhook_received":true,"complete":true}`, ReasonWebhookConfirmed, Evidence{Verdict: Confirmed, Status: "published"}},
		"received, not yet complete": {
			`{"webhook_received":true,"complete":false}`, ReasonWebhookUnclear, Evidence{Verdict: Unclear},
		},
		"a status that says less than complete": {
			`{"webhook_received":true,"complete":true,"webhook_status":"in_review"}`, ReasonWebhookUnclear, Evidence{Verdict: Unclear, Status: "in_review"},
		},
		"only a status":   {`{"webhook_status":"published"}`, ReasonWebhookConfirmed, Evidence{Verdict: Confirmed, Status: "published"}},
		"a status number": {`{"webhook_status":200}`, ReasonWebhookUnclear, Evidence{Verdict: Unclear, Status: "200"}},
		"status null":     {`{"webhook_status":null}`, ReasonNotDue, Evidence{}},
		"status empty":    {`{"webhook_status":""}`, ReasonNotDue, Evidence{}},
		"status object":   {`{"webhook_status":{}}`, ReasonNotDue, Evidence{}},
		"not received":    {`{"webhook_received":false,"webhook_status":"published"}`, ReasonNotDue, Evidence{}},
		"received as text": {
			`{"webhook_received":"true","webhook_status":"published"}`,
			ReasonWebhookConfirmed,
			Evidence{Verdict: Confirmed, Status: "published"},
		},
		"received null": {
			`{"webhook_received":null,"webhook_status":"published"}`,
			ReasonWebhookConfirmed,
			Evidence{Verdict: Confirmed, Status: "published"},
		},
		"refused": {
			`{"webhook_received":true,"webhook_status":"failed","fail_reason":"Copyright"}`,
			ReasonWebhookRejected,
			Evidence{Verdict: Refused, Status: "failed", Error: "Copyright"},
		},
		"with an address": {
			`{"webhook_status":"published","videoId":"dQw4w9WgXcQ"}`,
			ReasonWebhookConfirmed,
			Evidence{Verdict: Confirmed, Status: "published", URL: "https://www.youtube.com/watch?v=dQw4w9WgXcQ"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := decideOn(t, StatusProcessing, test.metadata, 0, Question{})
			got := d.Evidence
			if d.Reason != test.reason {
				t.Errorf("reason is %q, want %q", d.Reason, test.reason)
			}
			if got.Verdict != test.want.Verdict || got.Status != test.want.Status || got.Error != test.want.Error || got.URL != test.want.URL {
				t.Errorf("evidence is %+v, want %+v", got, test.want)
			}
		})
	}
}

// What is recorded while the publisher has not started must mean the same when the log is looked at later.
func TestRecordedEvidenceMeansWhatItMeantWhenItCame(t *testing.T) {
	t.Parallel()
	long := "https://example.com/" + strings.Repeat("x", 2048)
	tests := map[string][]string{
		"published":                     {instagramExample},
		"complete":                      {tiktokExample},
		"refused":                       {`{"status":"failed","error_message":"Too long"}`},
		"refused with an object":        {`{"status":"failed","error":{"message":"Too long"}}`},
		"complete with a status object": {`{"complete":true,"status":{"code":1}}`},
		"complete with an empty status": {`{"complete":true,"status":""}`},
		"complete of an earlier one":    {`{"complete":true,"status":"in_review"}`, `{"progress":50}`},
		"an address too long":           {`{"status":"published","media_url":"` + long + `"}`},
		"an address nearly too long":    {`{"status":"published","media_url":"` + long[:2045] + `😀"}`},
	}
	for name, texts := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			row := row{Log: open(1, tiktok, 0)}
			row.Status = StatusPending
			var last Evidence
			for i, text := range texts {
				last = ReadWebhook("tiktok", object(t, text), noon.Add(time.Duration(i)*time.Second))
				row.ask(Question{Webhook: &last}, patient, noon)
			}
			row.Status = StatusProcessing // the publisher starts
			got := Decide(row.Log, Question{}, patient, noon).Evidence
			if got.Verdict != last.Verdict || got.Status != last.Status || got.Error != last.Error || got.URL != last.URL {
				t.Errorf("read later: %+v\nwhen it came: %+v", got, last)
			}
		})
	}
}

func TestWhatIsNewsToALog(t *testing.T) {
	t.Parallel()
	const inReview = `"webhook_received":true,"webhook_status":"in_review","webhook_platform":"tiktok"`
	tests := map[string]struct {
		metadata, webhook string // the webhook came at noon
		news              bool
	}{
		"the first":                    {`{}`, `{}`, true},
		"the same, later":              {`{` + inReview + `,"webhook_timestamp":"2024-01-15T10:00:00Z"}`, `{"status":"in_review"}`, false},
		"the same, at an unknown time": {`{` + inReview + `}`, `{"status":"in_review"}`, false},
		"another word":                 {`{` + inReview + `}`, `{"status":"in_progress"}`, true},
		"another field":                {`{` + inReview + `}`, `{"status":"in_review","progress":50}`, true},
		"another value":                {`{` + inReview + `,"progress":40}`, `{"status":"in_review","progress":50}`, true},
		"null for nothing":             {`{` + inReview + `}`, `{"status":"in_review","progress":null}`, true},
		"the same null":                {`{` + inReview + `,"progress":null}`, `{"status":"in_review","progress":null}`, false},
		"the number as Postgres writes it": {
			`{` + inReview + `,"progress":100}`, `{"status":"in_review","progress":1e2}`, false,
		},
		"the number as text":     {`{` + inReview + `,"progress":"50"}`, `{"status":"in_review","progress":50}`, true},
		"for another's object":   {`{` + inReview + `,"progress":{"percent":50}}`, `{"status":"in_review","progress":50}`, true},
		"for another's list":     {`{` + inReview + `,"progress":[50]}`, `{"status":"in_review","progress":50}`, true},
		"fewer fields":           {`{` + inReview + `,"progress":50}`, `{"status":"in_review"}`, false},
		"overtaken":              {`{` + inReview + `,"webhook_timestamp":"2024-01-15T12:00:01Z"}`, `{"status":"queued"}`, false},
		"overtaken, other zone":  {`{` + inReview + `,"webhook_timestamp":"2024-01-15T13:00:01+01:00"}`, `{"status":"queued"}`, false},
		"later, other zone":      {`{` + inReview + `,"webhook_timestamp":"2024-01-15T12:59:00+01:00"}`, `{"status":"queued"}`, true},
		"time without a zone":    {`{` + inReview + `,"webhook_timestamp":"2024-01-15T12:30:00"}`, `{"status":"queued"}`, true},
		"time as SQL writes it":  {`{` + inReview + `,"webhook_timestamp":"2024-01-15 12:30:00+00"}`, `{"status":"queued"}`, true},
		"time in seconds":        {`{` + inReview + `,"webhook_timestamp":1705321800}`, `{"status":"queued"}`, true},
		"time is no time":        {`{` + inReview + `,"webhook_timestamp":"soon"}`, `{"status":"queued"}`, true},
		"overtaken but clear":    {`{` + inReview + `,"webhook_timestamp":"2024-01-15T12:00:01Z"}`, `{"status":"failed"}`, true},
		"unclear after clear":    {`{"webhook_status":"failed"}`, `{"status":"in_review"}`, false},
		"clear after clear":      {`{"webhook_status":"failed"}`, `{"status":"published"}`, true},
		"clear overtaken by one": {`{"webhook_status":"failed","webhook_timestamp":"2024-01-15T12:00:01Z"}`, `{"status":"published"}`, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			told := evidence(t, test.webhook)
			for _, status := range []Status{StatusPending, StatusProcessing, StatusRetry, StatusFailed} {
				if d := decideOn(t, status, test.metadata, 0, Question{Webhook: &told}); d.Record != test.news {
					t.Errorf("%s: recorded is %t, want %t", status, d.Record, test.news)
				}
			}
			if d := decideOn(t, StatusSuccess, test.metadata, 0, Question{Webhook: &told}); d.Record {
				t.Error("it is recorded in a success")
			}
		})
	}
}
