package reconciler

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var (
	statuses = rapid.SampledFrom([]Status{StatusPending, StatusProcessing, StatusRetry, StatusSuccess, StatusFailed, "unknown", ""})
	triggers = rapid.SampledFrom([]Trigger{TriggerWebhook, TriggerCheck, TriggerSweep, TriggerAPI})
	reasons  = rapid.SampledFrom([]Reason{ReasonWebhookTimeout, ReasonWebhookRejected, ReasonRetryBeforeFail, "another's"})
	minute   = rapid.Map(rapid.IntRange(0, 30), func(n int) time.Duration { return time.Duration(n) * time.Minute })
	patience = rapid.Map(rapid.IntRange(1, 30), func(n int) time.Duration { return time.Duration(n) * time.Minute })
	retries  = rapid.IntRange(0, 3)

	// nested is made anew each time, since Storable changes it.
	nested = rapid.Custom(func(t *rapid.T) any {
		return map[string]any{"code": []any{rapid.String().Draw(t, "code")}}
	})
	statusValues = rapid.OneOf(
		rapid.SampledFrom([]any{"published", " PUBLISHED ", "failed", "Rejected", "in_review", "queued", "removed", "", nil, true}),
		rapid.Just[any](json.Number("200")),
		nested,
	)
	anyValues = rapid.OneOf(
		rapid.SampledFrom([]any{"text", "\x00", nil, true, false, json.Number("1e2"), json.Number("1e400")}),
		rapid.Map(rapid.String(), func(s string) any { return s }),
		nested,
	)
	fieldNames = rapid.SampledFrom([]string{
		"complete", "error", "message", "media_url", "video_url", "videoId", "progress", "\x00",
		"webhook_received", "webhook_status", "webhook_timestamp", "webhook_platform",
		"reconciled", "reconciled_at", "reconciliation_reason", "reconciliation_trigger",
		"probe_status", "probe_timestamp",
	})
	probeResults = []ProbeResult{"", ProbeAnswered, ProbeNoResponder, ProbeNoAnswer, ProbeBroken}
)

// payloads are what platforms send: like the contract's examples, and much worse.
var payloads = rapid.Custom(func(t *rapid.T) map[string]any {
	fields := rapid.MapOfN(fieldNames, anyValues, 0, 4).Draw(t, "fields")
	if rapid.Bool().Draw(t, "has status") {
		fields["status"] = statusValues.Draw(t, "status")
	}
	if rapid.Bool().Draw(t, "has complete") {
		fields["complete"] = rapid.Bool().Draw(t, "complete")
	}
	return Storable(fields)
})

// webhookAt is a webhook received at a moment.
func webhookAt(t *rapid.T, name string, at time.Time) Evidence {
	return ReadWebhook("tiktok", payloads.Draw(t, name), at)
}

// received are moments around noon, so that messages overtake each other.
var received = rapid.Map(rapid.IntRange(-60, 60), func(n int) time.Time { return noon.Add(time.Duration(n) * time.Minute) })

var policies = rapid.Custom(func(t *rapid.T) Policy {
	return Policy{
		DefaultTimeout: patience.Draw(t, "default timeout"),
		Timeouts:       rapid.MapOfN(rapid.Just("tiktok"), patience, 0, 1).Draw(t, "timeouts"),
		Retries:        map[string]int{"tiktok": retries.Draw(t, "retries")},
		IgnoreLate:     rapid.Bool().Draw(t, "ignore late"),
	}
})

// silentRows are rows in which no evidence is recorded yet.
var silentRows = rapid.Custom(func(t *rapid.T) row {
	r := row{Log: open(1, tiktok, minute.Draw(t, "age"))}
	r.Status = statuses.Draw(t, "status")
	r.RetryCount, r.MaxRetries = retries.Draw(t, "retry count"), retries.Draw(t, "max retries")
	if rapid.Bool().Draw(t, "has a reason") || r.Status == StatusFailed {
		r.Metadata = map[string]any{keyReason: string(reasons.Draw(t, "reason"))}
	}
	return r
})

// rows hold evidence too: earlier webhooks', or whatever other writers made of it.
var rows = rapid.Custom(func(t *rapid.T) row {
	r := silentRows.Draw(t, "row")
	metadata := maps.Clone(r.Metadata)
	if metadata == nil {
		metadata = map[string]any{}
	}
	switch rapid.SampledFrom([]string{"nothing", "a webhook", "another's"}).Draw(t, "recorded") {
	case "a webhook":
		maps.Copy(metadata, webhookAt(t, "recorded", received.Draw(t, "recorded at")).Fields)
	case "another's":
		maps.Copy(metadata, Storable(rapid.MapOf(fieldNames, anyValues).Draw(t, "written")))
	}
	r.Metadata = throughJSON(metadata)
	return r
})

var questions = rapid.Custom(func(t *rapid.T) Question {
	q := Question{Trigger: triggers.Draw(t, "trigger")}
	if rapid.Bool().Draw(t, "has webhook") {
		told := webhookAt(t, "webhook", received.Draw(t, "received"))
		q.Webhook = &told
	}
	if rapid.Bool().Draw(t, "has probe") {
		q.Probe = &Probe{Result: rapid.SampledFrom(probeResults).Draw(t, "result")}
		if q.Probe.Result == ProbeAnswered {
			q.Probe.Evidence = ReadProbe(payloads.Draw(t, "answer"))
		}
	}
	if rapid.Bool().Draw(t, "is unread") {
		at := received.Draw(t, "unread")
		q.Unread = &at
	}
	if rapid.Bool().Draw(t, "is held") {
		q.Hold = &Hold{Platform: "tiktok", Since: noon.Add(-time.Minute), Until: noon.Add(time.Hour)}
	}
	if rapid.Bool().Draw(t, "has timeout") {
		own := patience.Draw(t, "timeout")
		q.Timeout = &own
	}
	return q
})

// The properties run one after the other: they share their generators, which rapid does not make safe for use
// by several at once.
func TestProperties(t *testing.T) {
	t.Parallel()
	properties := map[string]func(*rapid.T){
		"decide is total":                           decideIsTotal,
		"final means final":                         finalMeansFinal,
		"deciding twice is deciding once":           decidingTwiceIsDecidingOnce,
		"a redelivery changes nothing":              aRedeliveryChangesNothing,
		"the order of duplicates does not matter":   theOrderOfDuplicatesDoesNotMatter,
		"nothing stays open past its deadline":      nothingStaysOpenPastItsDeadline,
		"clear evidence stays clear":                clearEvidenceStaysClear,
		"a payload sets none of the service's keys": aPayloadSetsNoneOfTheServicesKeys,
		"explain has a sentence for everything":     explainHasASentenceForEverything,
		"explain foretells what is decided":         explainForetellsWhatIsDecided,
	}
	for name, property := range properties {
		t.Run(name, rapid.MakeCheck(property))
	}
}

// clone is a row that can be asked without moving the first one.
func (r row) clone() row {
	r.Metadata = maps.Clone(r.Metadata)
	return r
}

// kinds are a history's events without their ids.
func (r row) kinds() []EventType {
	var all []EventType
	for _, event := range r.ledger {
		all = append(all, event.Type)
	}
	return all
}

func decideIsTotal(t *rapid.T) {
	acting := map[Reason]Action{
		ReasonWebhookConfirmed: MarkedSuccess, ReasonProbeConfirmed: MarkedSuccess, ReasonWebhookLate: MarkedSuccess,
		ReasonWebhookRejected: MarkedFailed, ReasonProbeRejected: MarkedFailed, ReasonWebhookTimeout: MarkedFailed,
		ReasonRetryBeforeFail: MarkedRetry,
		ReasonWebhookUnclear:  "", ReasonNotDue: "", ReasonNotStarted: "", ReasonAlreadyFinal: "",
		ReasonProbeUnclear: "", ReasonPlatformHold: "", ReasonWebhooksUnread: "",
	}
	row := rows.Draw(t, "row")
	d := Decide(row.Log, questions.Draw(t, "question"), policies.Draw(t, "policy"), noon)
	if want, known := acting[d.Reason]; !known || d.Action != want {
		t.Errorf("action %q with reason %q", d.Action, d.Reason)
	}
	if d.Removed && (row.Status != StatusSuccess || d.Action != "" || d.Record) {
		t.Errorf("a %q is told as removed, with action %q, recorded is %t", row.Status, d.Action, d.Record)
	}
	if (d.Action == MarkedFailed) != (d.Error != "") {
		t.Errorf("action %q with error %q", d.Action, d.Error)
	}
	if d.Skipped != slices.Contains([]Reason{ReasonWebhookUnclear, ReasonProbeUnclear, ReasonPlatformHold}, d.Reason) {
		t.Errorf("skipped is %t with reason %q", d.Skipped, d.Reason)
	}
}

func finalMeansFinal(t *rapid.T) {
	row, policy, now := rows.Draw(t, "row"), policies.Draw(t, "policy"), noon
	for range rapid.IntRange(1, 6).Draw(t, "steps") {
		before := row.clone()
		d := row.ask(questions.Draw(t, "question"), policy, now)
		switch {
		case before.Status.Open():
		case before.Status == StatusFailed && d.Reason == ReasonWebhookLate && row.Status == StatusSuccess:
		case row.Status != before.Status || d.Action != "":
			t.Errorf("%q became %q by %q", before.Status, row.Status, d.Reason)
		}
		if before.Status == StatusSuccess && row.writes != before.writes {
			t.Error("a success was written")
		}
		now = now.Add(minute.Draw(t, "later"))
	}
}

// Without any patience an automatic retry is due again at once; then every look is another one.
func decidingTwiceIsDecidingOnce(t *rapid.T) {
	row, q, policy := rows.Draw(t, "row"), questions.Draw(t, "question"), policies.Draw(t, "policy")
	row.ask(q, policy, noon)
	once := row.clone()
	d := row.ask(q, policy, noon)
	if d.Action != "" || d.Record {
		t.Errorf("the second time: action %q, reason %q, recorded is %t", d.Action, d.Reason, d.Record)
	}
	if diff := cmp.Diff(once.Log, row.Log); diff != "" || row.writes != once.writes {
		t.Errorf("the second time wrote (-once +twice):\n%s", diff)
	}
	for _, event := range row.ledger[len(once.ledger):] {
		if !event.Once {
			t.Errorf("the second time told %+v", event)
		}
	}
}

// listen has a row hear webhooks one after another.
func listen(r row, policy Policy, webhooks ...Evidence) row {
	r = r.clone()
	for i := range webhooks {
		r.ask(Question{Trigger: TriggerWebhook, Webhook: &webhooks[i]}, policy, noon)
	}
	return r
}

func aRedeliveryChangesNothing(t *rapid.T) {
	row, policy := silentRows.Draw(t, "row"), policies.Draw(t, "policy")
	a, b := webhookAt(t, "a", noon), webhookAt(t, "b", noon.Add(minute.Draw(t, "b later")+time.Second))
	order := [][2][]Evidence{ // with the redeliveries, and without
		{{a, a, b}, {a, b}},
		{{a, b, a}, {a, b}},
		{{a, b, b}, {a, b}},
		{{b, a, a}, {b, a}},
		{{b, a, b}, {b, a}},
		{{b, b, a}, {b, a}},
	}
	for i, pair := range order {
		twice, once := listen(row, policy, pair[0]...), listen(row, policy, pair[1]...)
		if diff := cmp.Diff(once.Log, twice.Log); diff != "" {
			t.Errorf("order %d (-once +twice):\n%s", i, diff)
		}
		if diff := cmp.Diff(once.kinds(), twice.kinds()); diff != "" {
			t.Errorf("ledger in order %d (-once +twice):\n%s", i, diff)
		}
	}
}

// A platform that says the same thing twice sends two messages, which may overtake each other.
func theOrderOfDuplicatesDoesNotMatter(t *rapid.T) {
	row, policy := silentRows.Draw(t, "row"), policies.Draw(t, "policy")
	fields := payloads.Draw(t, "payload")
	first, second := ReadWebhook("tiktok", fields, noon), ReadWebhook("tiktok", fields, noon.Add(time.Second))
	inOrder, overtaken := listen(row, policy, first, second), listen(row, policy, second, first)
	if inOrder.Status != overtaken.Status {
		t.Errorf("in order %q, overtaken %q", inOrder.Status, overtaken.Status)
	}
	want := 1
	if row.Status == StatusSuccess || row.Status == "unknown" || row.Status == "" {
		want = 0
	}
	for name, row := range map[string]int{
		"in order": inOrder.count(EventWebhookReceived), "overtaken": overtaken.count(EventWebhookReceived),
	} {
		if row != want {
			t.Errorf("%s: %d events of a webhook received, want %d", name, row, want)
		}
	}
}

func nothingStaysOpenPastItsDeadline(t *rapid.T) {
	row, policy := rows.Draw(t, "row"), policies.Draw(t, "policy")
	before := row.clone()
	q := questions.Draw(t, "question")
	d := row.ask(q, policy, noon)
	if !row.Status.Open() || noon.Before(d.Deadline) {
		return
	}
	if before.probed() && d.Reason == ReasonProbeUnclear {
		t.Error("the deadline is extended a second time")
	}
	switch d.Action {
	case MarkedRetry:
		if row.RetryCount != before.RetryCount+1 || row.RetryCount > min(policy.Retries["tiktok"], row.MaxRetries) {
			t.Errorf("retry_count %d after %d", row.RetryCount, before.RetryCount)
		}
		if !row.UpdatedAt.Equal(noon) {
			t.Error("the retry does not begin now")
		}
	case "":
		if d.Reason == ReasonWebhooksUnread && q.Unread != nil {
			return
		}
		if !d.Skipped || d.Evidence.Verdict != Unclear && (d.Reason != ReasonPlatformHold || q.Hold == nil || !d.Silent) {
			t.Errorf("it stays %q by %q with evidence %+v", row.Status, d.Reason, d.Evidence)
		}
	default:
		t.Errorf("open after %q", d.Action)
	}
}

func clearEvidenceStaysClear(t *rapid.T) {
	row, policy := rows.Draw(t, "row"), policies.Draw(t, "policy")
	before := row.recorded().Verdict
	row.ask(questions.Draw(t, "question"), policy, noon)
	after := row.recorded().Verdict
	if after < before && after < Refused {
		t.Errorf("recorded evidence went from %v to %v", before, after)
	}
}

func aPayloadSetsNoneOfTheServicesKeys(t *rapid.T) {
	told := webhookAt(t, "webhook", received.Draw(t, "received"))
	checkOwnKeys(t, told)
	row := silentRows.Draw(t, "row")
	reason := row.Metadata[keyReason]
	d := row.ask(Question{Trigger: TriggerWebhook, Webhook: &told}, policies.Draw(t, "policy"), noon)
	if d.Action != "" {
		reason = string(d.Reason)
	}
	if row.Metadata[keyReason] != reason {
		t.Errorf("the reason in the row is %v, want %v", row.Metadata[keyReason], reason)
	}
}
