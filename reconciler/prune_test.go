package reconciler

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
)

func TestPrune(t *testing.T) {
	t.Parallel()
	world := func(t *testing.T) (*Reconciler, *memory) {
		t.Helper()
		r, m := setup(t, patient)
		m.oldEvents = 2*prunePage + 1
		for i := range prunePage + 2 {
			age := ParkedRetention + time.Second
			if i%2 == 0 {
				age = ParkedRetention - time.Second
			}
			id := uuid.New()
			m.parked[id] = ParkedWebhook{ID: id, ReceivedAt: noon.Add(-age)}
		}
		return r, m
	}
	const parked = prunePage/2 + 1
	stopped := make(chan struct{})
	close(stopped)
	for name, test := range map[string]struct {
		request      PruneRequest
		want         PruneResult
		pages        int
		broken, left bool
	}{
		"no retention of the ledger": {PruneRequest{}, PruneResult{ParkedWebhooks: parked}, 1, false, true},
		"all":                        {PruneRequest{LedgerRetention: time.Hour}, PruneResult{LedgerEvents: 2*prunePage + 1, ParkedWebhooks: parked}, 4, false, false},
		"stopped":                    {PruneRequest{LedgerRetention: time.Hour, Stop: stopped}, PruneResult{More: true}, 0, false, true},
		"its time is over":           {PruneRequest{LedgerRetention: time.Hour, Within: time.Nanosecond}, PruneResult{More: true}, 0, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, m := world(t)
			pages := 0
			test.request.Progress = func(PruneResult) { pages++ }
			got, err := r.Prune(t.Context(), test.request)
			if err != nil || got != test.want || pages != test.pages || (m.oldEvents > 0) != test.left {
				t.Errorf("%+v in %d pages, %d events are left: %v", got, pages, m.oldEvents, err)
			}
		})
	}
}

func TestPruneFails(t *testing.T) {
	t.Parallel()
	r, m := setup(t, patient)
	m.oldEvents = 10 * prunePage
	away := errors.New("away")
	calls := 0
	m.outage = func() error {
		if calls++; calls == 5 { // after the clock, the parked webhooks, and two pages
			return away
		}
		return nil
	}
	got, err := r.Prune(t.Context(), PruneRequest{LedgerRetention: time.Hour})
	if !errors.Is(err, away) || got != (PruneResult{LedgerEvents: 2 * prunePage}) {
		t.Errorf("%+v, %v", got, err)
	}
	m.outage = func() error { return nil }
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := r.Prune(ctx, PruneRequest{LedgerRetention: time.Hour, Progress: func(PruneResult) { cancel() }}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
