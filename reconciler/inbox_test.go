package reconciler

import (
	"context"
	"errors"
	"testing"
	"time"
)

// inbox says when the oldest unread webhook was stored.
type inbox struct {
	oldest *time.Time
	err    error
}

func (i *inbox) Unread(context.Context) (*time.Time, error) { return i.oldest, i.err }

// After a stop, or under load, a log's webhook may lie in the stream when its deadline passes.
func TestUnreadWebhooksAreNoSilence(t *testing.T) {
	t.Parallel()
	r, m, o := ask(t, holdsFor(time.Hour), Probe{Result: ProbeNoAnswer}, open(1, instagram, time.Hour), open(2, instagram, 11*time.Minute))
	unread := &inbox{err: errors.New("no answer")}
	r.inbox = unread
	check(t, r, Check{LogID: logID(1)}, Check{LogID: logID(2)})
	equal(t, "scheduled", m.scheduled, []Recheck{
		{LogID: logID(1), At: noon.Add(unreadAgain), Now: noon}, {LogID: logID(2), At: noon.Add(unreadAgain), Now: noon},
	})
	if result := sweep(t, r); result.TotalChecked != 0 || len(o.asked) != 0 {
		t.Errorf("swept %+v, asked %+v", result, o.asked)
	}
	// The first one's deadline passed before the oldest webhook came, which so is not about it in time.
	oldest := noon.Add(-2 * time.Minute)
	unread.oldest, unread.err = &oldest, nil
	if result := sweep(t, r); result.MarkedFailed != 1 || m.row(1).Status != StatusFailed {
		t.Errorf("swept %+v", result)
	}
	unread.oldest = nil
	if result := sweep(t, r); result.MarkedFailed != 1 || m.row(2).Status != StatusFailed {
		t.Errorf("swept %+v", result)
	}
}

// A webhook that had come when its log was failed is not late, only read late.
func TestAWebhookThatWasOnlyReadLate(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		received time.Time
		want     Status
	}{
		"before": {noon.Add(-time.Second), StatusSuccess},
		"after":  {noon.Add(time.Second), StatusFailed},
	} {
		r, m := setup(t, Policy{DefaultTimeout: DefaultTimeout, IgnoreLate: true}, open(1, instagram, time.Hour))
		check(t, r, Check{LogID: logID(1)})
		told := webhook(t, instagram, words["confirmed"])
		told.ReceivedAt = tt.received
		m.now = noon.Add(time.Minute)
		hear(t, r, told)
		if row := m.row(1); row.Status != tt.want {
			t.Errorf("received %s its failure: %q", name, row.Status)
		}
	}
}
