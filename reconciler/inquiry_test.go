package reconciler

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// oracle is a [Prober] that answers as it is told. It stands for the platforms and the way to them, which
// package consumer tests.
type oracle struct {
	t       *testing.T
	m       *memory
	deaf    map[string]bool // platforms for which nobody listens
	answers func(Subject) Probe
	asked   []Subject
}

func (o *oracle) Listens(platform string) bool { return !o.deaf[platform] }

func (o *oracle) Probe(_ context.Context, subjects []Subject) []Probe {
	if o.m.locked {
		o.t.Error("the platform is asked while rows are locked")
	}
	probes := make([]Probe, len(subjects))
	for i, subject := range subjects {
		o.asked = append(o.asked, subject)
		probes[i] = o.answers(subject)
	}
	return probes
}

// says is an answer in the webhook's vocabulary.
func says(t *testing.T, text string) Probe {
	t.Helper()
	return Probe{Result: ProbeAnswered, Evidence: ReadProbe(Storable(object(t, text)))}
}

// ask is a world whose platforms answer every probe alike.
func ask(t *testing.T, policy Policy, probe Probe, logs ...Log) (*Reconciler, *memory, *oracle) {
	t.Helper()
	r, m := setup(t, policy, logs...)
	o := &oracle{t: t, m: m, answers: func(Subject) Probe { return probe }}
	r.prober = o
	return r, m, o
}

// told are the events of a row, each as "type reason probe probe_status".
func (r *row) told() []string {
	lines := []string{}
	for _, event := range r.ledger {
		line := string(event.Type)
		for _, key := range []string{"action", "reason", "probe", "probe_status"} {
			if value, there := event.Metadata[key]; there {
				line += fmt.Sprintf(" %v", value)
			}
		}
		lines = append(lines, line)
	}
	return lines
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestAProbeBeforeFailing(t *testing.T) {
	t.Parallel()
	const late = 11 * time.Minute
	tests := map[string]struct {
		probe    Probe
		recorded string
		status   Status
		reason   any
		events   []string
	}{
		"confirmed": {
			says(t, `{"status":"published","media_url":"https://instagram.com/p/ABC/"}`), "", StatusSuccess, "probe_confirmed",
			[]string{"publish_reconciled marked_success probe_confirmed answered published"},
		},
		"refused": {
			says(t, `{"status":"rejected","reason":"music"}`), "", StatusFailed, "probe_rejected",
			[]string{"publish_reconciled marked_failed probe_rejected answered rejected"},
		},
		"confirmed, after an unclear webhook": {
			says(t, `{"complete":true}`), `{"status":"in_review"}`, StatusSuccess, "probe_confirmed",
			[]string{"publish_reconciled marked_success probe_confirmed answered published"},
		},
		"unclear": {
			says(t, `{"status":"in_review"}`), "", StatusProcessing, nil,
			[]string{"publish_deadline_extended probe_unclear answered in_review"},
		},
		"not a word": {
			says(t, `{}`), "", StatusProcessing, nil,
			[]string{"publish_deadline_extended probe_unclear answered <nil>"},
		},
		"no answer": {
			Probe{Result: ProbeNoAnswer},
			"", StatusFailed, "webhook_timeout",
			[]string{"publish_reconciled marked_failed webhook_timeout no_answer"},
		},
		"a broken answer": {
			Probe{Result: ProbeBroken},
			"", StatusFailed, "webhook_timeout",
			[]string{"publish_reconciled marked_failed webhook_timeout broken_answer"},
		},
		"nobody there": {
			Probe{Result: ProbeNoResponder},
			"", StatusFailed, "webhook_timeout",
			[]string{"publish_reconciled marked_failed webhook_timeout no_responder"},
		},
		"no answer, after an unclear webhook": {
			Probe{Result: ProbeNoAnswer},
			`{"status":"in_review"}`, StatusProcessing, nil,
			[]string{"publish_reconcile_skipped webhook_unclear no_answer"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for trigger, look := range map[string]func(*Reconciler){
				"check": func(r *Reconciler) { check(t, r, Check{LogID: logID(1)}) },
				"sweep": func(r *Reconciler) { sweep(t, r) },
			} {
				log := open(1, instagram, late)
				if tt.recorded != "" {
					log.Metadata = throughJSON(evidence(t, tt.recorded).Fields)
				}
				r, m, o := ask(t, patient, tt.probe, log)
				look(r)
				row := m.row(1)
				if row.Status != tt.status || row.Metadata[keyReason] != tt.reason {
					t.Errorf("%s: %q by %v, want %q by %v", trigger, row.Status, row.Metadata[keyReason], tt.status, tt.reason)
				}
				equal(t, trigger+": events", row.told(), tt.events)
				if len(o.asked) != 1 || o.asked[0].Post != instagram {
					t.Errorf("%s: asked %+v", trigger, o.asked)
				}
				if status := row.Metadata[keyReceived]; tt.recorded == "" && status != nil {
					t.Errorf("%s: the answer is recorded as a webhook", trigger)
				}
			}
		})
	}
}

func TestNobodyIsAskedWithoutNeed(t *testing.T) {
	t.Parallel()
	confirmed := open(2, instagram, time.Hour)
	confirmed.Metadata = throughJSON(evidence(t, words["confirmed"]).Fields)
	early, final, pending := open(3, instagram, time.Minute), open(4, instagram, time.Hour), open(5, instagram, time.Hour)
	final.Status, pending.Status = StatusFailed, StatusPending
	deaf := open(6, tiktok, time.Hour)
	r, m, o := ask(t, patient, says(t, `{"status":"published"}`), confirmed, early, final, pending, deaf)
	o.deaf = map[string]bool{"tiktok": true}
	m.parked[logID(9)] = ParkedWebhook{ID: logID(9), Post: Post{"youtube", "parked"}, Fields: object(t, words["unclear"]), ReceivedAt: noon}
	m.rows[logID(7)] = &row{Log: open(7, Post{"youtube", "parked"}, time.Hour)}
	for n := 2; n <= 7; n++ {
		check(t, r, Check{LogID: logID(n)})
	}
	sweep(t, r)
	if len(o.asked) != 0 {
		t.Errorf("asked %+v", o.asked)
	}
	equal(t, "statuses", m.statuses(), []Status{StatusSuccess, StatusProcessing, StatusFailed, StatusPending, StatusFailed, StatusProcessing})
	equal(t, "receipt of the one nobody listens for", m.row(6).told(), []string{"publish_reconciled marked_failed webhook_timeout no_responder"})
}

// A webhook may come while the platform is asked: it stands in the row when that is locked again.
func TestAWebhookOvertakesAProbe(t *testing.T) {
	t.Parallel()
	r, m, o := ask(t, patient, Probe{}, open(1, instagram, time.Hour))
	o.answers = func(Subject) Probe {
		hear(t, r, webhook(t, instagram, words["confirmed"]))
		return says(t, words["refused"])
	}
	check(t, r, Check{LogID: logID(1)}, Check{LogID: logID(1)})
	row := m.row(1)
	if row.Status != StatusSuccess || row.Metadata[keyReason] != "webhook_confirmed" || row.writes != 1 {
		t.Errorf("%q by %v after %d writes", row.Status, row.Metadata[keyReason], row.writes)
	}
	if len(o.asked) != 1 {
		t.Errorf("asked %d times about one log", len(o.asked))
	}
}

func TestAnUnclearProbeExtendsTheDeadlineOnce(t *testing.T) {
	t.Parallel()
	policy := Policy{DefaultTimeout: 10 * time.Minute, Timeouts: map[string]time.Duration{"instagram": 15 * time.Minute}}
	r, m, o := ask(t, policy, says(t, `{"status":"in_review"}`), open(1, instagram, time.Hour))
	none := time.Duration(0)
	check(t, r, Check{LogID: logID(1), Timeout: &none})
	row := m.row(1)
	if !row.UpdatedAt.Equal(noon) || row.Metadata[keyProbeStatus] != "in_review" {
		t.Errorf("updated at %v, metadata %v", row.UpdatedAt, row.Metadata)
	}
	deadline := noon.Add(15 * time.Minute)
	equal(t, "the new deadline", row.ledger[0].Metadata["deadline"], any(deadline.Format(time.RFC3339Nano)))
	equal(t, "scheduled", m.scheduled, []Recheck{{logID(1), &none, deadline, noon}})
	if result := sweep(t, r); result.TotalChecked != 0 {
		t.Errorf("a sweep before the new deadline: %+v", result)
	}

	m.now = deadline
	for range 2 {
		if result := sweep(t, r); result.Skipped != 1 || result.TotalChecked != 1 {
			t.Errorf("a sweep after it: %+v", result)
		}
	}
	o.deaf = map[string]bool{"instagram": true} // what was said once stands
	sweep(t, r)
	equal(t, "events", row.told(), []string{
		"publish_deadline_extended probe_unclear answered in_review",
		"publish_reconcile_skipped webhook_unclear answered in_review",
	})
	if !row.UpdatedAt.Equal(noon) || row.Status != StatusProcessing {
		t.Errorf("%q, updated at %v", row.Status, row.UpdatedAt)
	}
	hear(t, r, webhook(t, instagram, words["confirmed"]))
	if row.Status != StatusSuccess {
		t.Errorf("a webhook in the end: %q", row.Status)
	}
}

func TestAPostponedProbe(t *testing.T) {
	t.Parallel()
	postponed := Probe{Result: ProbePostponed, Wait: 3 * time.Second}
	r, m, o := ask(t, patient, postponed, open(1, instagram, time.Hour))
	half := 30 * time.Second
	check(t, r, Check{LogID: logID(1), Timeout: &half})
	equal(t, "scheduled by a check", m.scheduled, []Recheck{{logID(1), &half, noon.Add(3 * time.Second), noon}})
	if result := sweep(t, r); result.TotalChecked != 0 || len(m.scheduled) != 2 {
		t.Errorf("sweep: %+v, scheduled %+v", result, m.scheduled)
	}
	o.answers = func(Subject) Probe { return Probe{Result: ProbePostponed} }
	sweep(t, r)
	check(t, r, Check{LogID: logID(1)})
	if len(m.scheduled) != 2 {
		t.Errorf("scheduled without a place: %+v", m.scheduled[2:])
	}
	if row := m.row(1); row.Status != StatusProcessing || row.writes != 0 || len(row.ledger) != 0 {
		t.Errorf("row %+v", row)
	}
}

// What is due settles, though the platform of its neighbour has to be asked, and that though the store fails
// afterwards.
func TestAnInquiryHoldsUpNobody(t *testing.T) {
	t.Parallel()
	confirmed := open(1, tiktok, time.Hour)
	confirmed.Metadata = throughJSON(evidence(t, words["confirmed"]).Fields)
	r, m, o := ask(t, patient, Probe{}, confirmed, open(2, instagram, time.Hour))
	o.answers = func(Subject) Probe {
		m.outage = func() error { return fmt.Errorf("gone") }
		return says(t, words["confirmed"])
	}
	checks := []Check{{LogID: logID(2)}, {LogID: logID(1)}, {LogID: logID(3)}}
	outcomes, err := r.Checks(t.Context(), checks)
	if err == nil {
		t.Error("no error of the store")
	}
	equal(t, "outcomes", []OutcomeKind{outcomes[0].Kind, outcomes[1].Kind, outcomes[2].Kind}, []OutcomeKind{Later, Done, NotFound})
	equal(t, "statuses", m.statuses(), []Status{StatusSuccess, StatusProcessing})
}

func TestOnlySweepsRememberAnswers(t *testing.T) {
	t.Parallel()
	r, _, o := ask(t, patient, Probe{Result: ProbeNoAnswer}, open(1, instagram, time.Hour), open(2, instagram, time.Hour))
	check(t, r, Check{LogID: logID(1)})
	sweep(t, r)
	want := []Subject{
		{LogID: logID(1), Post: instagram, UpdatedAt: noon.Add(-time.Hour)},
		{LogID: logID(2), Post: instagram, UpdatedAt: noon.Add(-time.Hour), Remember: DefaultTimeout},
	}
	equal(t, "asked", o.asked, want)
}
