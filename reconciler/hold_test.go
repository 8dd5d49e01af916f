package reconciler

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// quiet are n logs of one platform that are due in silence.
func quiet(n int, platform string) []Log {
	logs := make([]Log, n)
	for i := range logs {
		logs[i] = open(i+1, Post{platform, fmt.Sprint(i)}, time.Hour)
	}
	return logs
}

func holdsFor(longest time.Duration) Policy {
	return Policy{DefaultTimeout: DefaultTimeout, HoldMax: longest}
}

// watch has the reconciler log into a buffer.
func watch(r *Reconciler) *bytes.Buffer {
	var log bytes.Buffer
	r.logger = slog.New(slog.NewTextHandler(&log, nil))
	return &log
}

func TestHoldDuringAnOutage(t *testing.T) {
	t.Parallel()
	r, m := setup(t, holdsFor(2*time.Hour), append(quiet(20, "instagram"), open(21, tiktok, time.Hour))...)
	log := watch(r)
	for range 3 {
		result := sweep(t, r)
		if result.Skipped != 20 {
			t.Errorf("swept %+v", result)
		}
	}
	if m.row(21).Status != StatusFailed {
		t.Errorf("another platform's log is %q", m.row(21).Status)
	}
	since, until := noon.Format(time.RFC3339Nano), noon.Add(2*time.Hour).Format(time.RFC3339Nano)
	for n := 1; n <= 20; n++ {
		row := m.row(n)
		if row.Status != StatusProcessing || row.writes != 0 {
			t.Errorf("log %d: %q after %d writes", n, row.Status, row.writes)
		}
		equal(t, "events", row.told(), []string{"publish_reconcile_skipped platform_hold"})
		if got := row.ledger[0].Metadata; got["hold_since"] != since || got["hold_until"] != until || got["platform"] != "instagram" {
			t.Errorf("receipt %v", got)
		}
	}
	if len(m.holdChanges) != 1 || m.holdChanges[0].Begun == nil || m.holdChanges[0].Begun.DueLogs != 20 || m.holdChanges[0].Hold.Platform != "instagram" {
		t.Fatalf("changes of holds: %+v", m.holdChanges)
	}
	if strings.Count(log.String(), "level=WARN") != 1 {
		t.Errorf("warnings:\n%s", log)
	}

	// The first confirmation ends it, and what has stayed silent fails.
	m.now = noon.Add(time.Hour)
	hear(t, r, webhook(t, Post{"instagram", "0"}, words["confirmed"]))
	m.now = m.now.Add(time.Second)
	if result := sweep(t, r); result.MarkedFailed != 19 {
		t.Errorf("swept %+v", result)
	}
	if len(m.holdChanges) != 2 || m.holdChanges[1].Begun != nil || strings.Count(log.String(), "no longer held") != 1 {
		t.Errorf("changes of holds: %+v\n%s", m.holdChanges, log)
	}
	// Gone quiet again, it is held again, and that is told again.
	m.now = m.now.Add(HoldWindow)
	for i := range 30 {
		m.rows[logID(100+i)] = &row{Log: Log{ID: logID(100 + i), Post: Post{"instagram", fmt.Sprint("new", i)}, Status: StatusProcessing, UpdatedAt: noon}}
	}
	if result := sweep(t, r); result.Skipped != 30 || len(m.holdChanges) != 3 {
		t.Errorf("swept %+v, holds %+v", result, m.holdChanges)
	}
}

func TestNoHold(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		policy Policy
		logs   int
		before func(*memory)
	}{
		"it is off":       {patient, 100, nil},
		"too few are due": {holdsFor(time.Hour), HoldDueLogs - 1, nil},
		"something was confirmed in the window": {holdsFor(time.Hour), 100, func(m *memory) {
			m.platforms["instagram"] = Platform{Name: "instagram", ConfirmedAt: noon.Add(time.Second - HoldWindow)}
		}},
		"one lasted its longest and nothing was confirmed since": {holdsFor(time.Hour), 100, func(m *memory) {
			m.platforms["instagram"] = Platform{Name: "instagram", Hold: &Hold{"instagram", noon.Add(-time.Hour), noon}, HoldEnded: true}
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, m := setup(t, tt.policy, quiet(tt.logs, "instagram")...)
			if tt.before != nil {
				tt.before(m)
			}
			if result := sweep(t, r); result.MarkedFailed != tt.logs {
				t.Errorf("swept %+v", result)
			}
			if len(m.holdChanges) != 0 {
				t.Errorf("holds %+v", m.holdChanges)
			}
		})
	}
}

// A log that outlasts two holds is told of each.
func TestTwoHolds(t *testing.T) {
	t.Parallel()
	r, m := setup(t, holdsFor(time.Hour), quiet(20, "instagram")...)
	sweep(t, r)
	confirmed := Post{"instagram", "more"}
	m.rows[logID(50)] = &row{Log: Log{ID: logID(50), Post: confirmed, Status: StatusProcessing, UpdatedAt: noon}}
	m.now = noon.Add(time.Minute)
	hear(t, r, webhook(t, confirmed, words["confirmed"]))
	m.now = m.now.Add(HoldWindow)
	sweep(t, r)
	equal(t, "events", m.row(1).told(), []string{"publish_reconcile_skipped platform_hold", "publish_reconcile_skipped platform_hold"})
}

// Logs whose probe has to wait may have been published.
func TestPostponedProbesAreNoSilence(t *testing.T) {
	t.Parallel()
	r, m, o := ask(t, holdsFor(time.Hour), Probe{}, quiet(40, "instagram")...)
	o.answers = func(s Subject) Probe {
		if s.LogID == logID(1) {
			return Probe{Result: ProbeNoAnswer}
		}
		return Probe{Result: ProbePostponed}
	}
	if result := sweep(t, r); result.MarkedFailed != 1 || result.TotalChecked != 1 || len(m.holdChanges) != 0 {
		t.Errorf("swept %+v, holds %+v", result, m.holdChanges)
	}
}

// Checks come one by one: those before the twentieth fail, since nobody knows yet.
func TestHoldByChecks(t *testing.T) {
	t.Parallel()
	policy := holdsFor(time.Hour)
	r, m := setup(t, policy, quiet(30, "instagram")...)
	for n := 1; n <= 30; n++ {
		check(t, r, Check{LogID: logID(n)})
	}
	for n := 1; n <= 30; n++ {
		want := StatusFailed
		if n >= HoldDueLogs {
			want = StatusProcessing
		}
		if m.row(n).Status != want {
			t.Errorf("log %d is %q, want %q", n, m.row(n).Status, want)
		}
	}
	if len(m.scheduled) != 0 {
		t.Errorf("scheduled %+v", m.scheduled)
	}
}

func TestAHoldLeavesRetriesAndProbes(t *testing.T) {
	t.Parallel()
	policy := holdsFor(time.Hour)
	policy.Retries = map[string]int{"instagram": 1}
	logs := quiet(40, "instagram")
	for i := range 20 {
		logs[i].RetryCount = 1 // used up
	}
	r, m, o := ask(t, policy, Probe{}, logs...)
	o.answers = func(s Subject) Probe {
		if s.LogID == logID(1) {
			return says(t, words["refused"])
		}
		return Probe{Result: ProbeNoAnswer}
	}
	result := sweep(t, r)
	equal(t, "result", []int{result.MarkedFailed, result.MarkedRetry, result.Skipped}, []int{1, 20, 19})
	equal(t, "held log", m.row(2).told(), []string{"publish_reconcile_skipped platform_hold no_answer"})
}
