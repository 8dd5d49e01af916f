package reconciler

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestNoteCheck(t *testing.T) {
	t.Parallel()
	for _, status := range []Status{StatusPending, StatusProcessing, StatusSuccess, StatusFailed} {
		log := open(1, instagram, time.Hour)
		log.Status = status
		r, m := setup(t, patient, log, open(2, instagram, time.Hour))
		before := m.row(1).UpdatedAt
		if err := r.NoteCheck(t.Context(), CheckRequest{logID(1), " ana\x00 "}); err != nil {
			t.Fatal(err)
		}
		row := m.row(1)
		if row.writes != 0 || !row.UpdatedAt.Equal(before) || row.Status != status || len(m.row(2).ledger) != 0 || len(m.outbox) != 0 {
			t.Errorf("%s: more than the ledger is written: %+v", status, row)
		}
		event := row.ledger[0]
		equal(t, "event", event, Event{event.ID, false, logID(1), EventCheckRequested, SeverityInfo, map[string]any{
			"platform": "instagram", "status": string(status), "actor": "ana\uFFFD",
		}})
		// It explains nothing by itself.
		view := View{Row: Row{ID: log.ID, Platform: "instagram", Status: status, UpdatedAt: &noon}, Now: noon}
		plain := patient.Explain(view)
		view.History = []HistoryEvent{{ID: event.ID, Timestamp: noon, Type: EventCheckRequested, Severity: SeverityInfo, Metadata: []byte(`{"actor":"ana"}`)}}
		equal(t, "explanation", patient.Explain(view), plain)
	}
	r, _ := setup(t, patient)
	if err := r.NoteCheck(t.Context(), CheckRequest{logID(1), "ana"}); !errors.Is(err, ErrNotFound) {
		t.Errorf("of an unknown log: %v", err)
	}
	for _, actor := range []string{"", " ", strings.Repeat("a", MaxActorBytes+1), "\xff"} {
		if err := r.NoteCheck(t.Context(), CheckRequest{logID(1), actor}); err == nil || !strings.Contains(err.Error(), "it must name who asks") {
			t.Errorf("actor %q: %v", actor, err)
		}
	}
}
