package reconciler

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// sweep has everything swept and fails t on an error.
func sweep(t *testing.T, r *Reconciler) SweepResult {
	t.Helper()
	result, err := r.Sweep(t.Context(), SweepRequest{Trigger: TriggerSweep})
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// wantJSON compares an answer as its reader sees it.
func wantJSON(t *testing.T, want string, got any) {
	t.Helper()
	text, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(object(t, want), object(t, string(text))); diff != "" {
		t.Errorf("JSON (-want +got):\n%s", diff)
	}
}

// holding is a log in which evidence is recorded.
func holding(t *testing.T, log Log, text string) Log {
	t.Helper()
	log.Metadata = evidence(t, text).Fields
	return log
}

func TestASweepThatFindsNothing(t *testing.T) {
	t.Parallel()
	r, _ := setup(t, patient)
	wantJSON(t, `{"total_checked":0,"marked_success":0,"marked_failed":0,"marked_retry":0,"skipped":0,
		"success_log_ids":[],"failed_log_ids":[]}`, sweep(t, r))
}

func TestASweepClosesWhatIsDue(t *testing.T) {
	t.Parallel()
	pending, retrying := open(7, instagram, time.Hour), open(8, instagram, time.Hour)
	pending.Status, retrying.Status = StatusPending, StatusRetry
	r, m := setup(t, Policy{DefaultTimeout: DefaultTimeout, Retries: map[string]int{"youtube": 1}},
		holding(t, open(1, tiktok, time.Hour), tiktokExample),
		open(2, tiktok, 10*time.Minute),
		open(3, tiktok, 10*time.Minute-time.Microsecond),
		holding(t, open(4, tiktok, time.Hour), `{"status":"in_review"}`),
		holding(t, open(5, tiktok, time.Hour), `{"status":"failed"}`),
		open(6, Post{"youtube", "1"}, time.Hour),
		pending, retrying,
	)
	result := sweep(t, r)
	wantStatuses(t, m, StatusSuccess, StatusFailed, StatusProcessing, StatusProcessing, StatusFailed, StatusRetry,
		StatusPending, StatusFailed)
	wantJSON(t, fmt.Sprintf(`{"total_checked":6,"marked_success":1,"marked_failed":3,"marked_retry":1,"skipped":1,
		"success_log_ids":["%s"],"failed_log_ids":["%s","%s","%s"]}`, logID(1), logID(5), logID(8), logID(2)), result)
	if got := m.row(2).Metadata["reconciliation_trigger"]; got != "sweep" {
		t.Errorf("the trigger is %v", got)
	}
	if diff := cmp.Diff([]Recheck{{logID(6), nil, noon.Add(DefaultTimeout), noon}}, m.scheduled); diff != "" {
		t.Errorf("scheduled (-want +got):\n%s", diff)
	}
	// What stays open is counted again, but not told again.
	wantJSON(t, `{"total_checked":1,"marked_success":0,"marked_failed":0,"marked_retry":0,"skipped":1,
		"success_log_ids":[],"failed_log_ids":[]}`, sweep(t, r))
	if got := m.row(4).count(EventSkipped); got != 1 {
		t.Errorf("%d skips are told, want 1", got)
	}
}

func TestTheTimeoutOfASweep(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		since time.Duration
		want  []Status // of logs 5, 20 and 60 minutes old, on tiktok (30m) and instagram (10m)
		err   string
	}{
		"each platform's own": {
			0,
			[]Status{StatusProcessing, StatusProcessing, StatusFailed, StatusProcessing, StatusFailed, StatusFailed},
			"No webhook received after 30 minutes",
		},
		"one for all": {
			20 * time.Minute,
			[]Status{StatusProcessing, StatusFailed, StatusFailed, StatusProcessing, StatusFailed, StatusFailed},
			"No webhook received after 20 minutes",
		},
		"a longer one": {
			time.Hour,
			[]Status{StatusProcessing, StatusProcessing, StatusFailed, StatusProcessing, StatusProcessing, StatusFailed},
			"No webhook received after 60 minutes",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			policy := Policy{DefaultTimeout: DefaultTimeout, Timeouts: map[string]time.Duration{"tiktok": 30 * time.Minute}}
			r, m := setup(t, policy,
				open(1, tiktok, 5*time.Minute), open(2, tiktok, 20*time.Minute), open(3, tiktok, time.Hour),
				open(4, instagram, 5*time.Minute), open(5, instagram, 20*time.Minute), open(6, instagram, time.Hour))
			if _, err := r.Sweep(t.Context(), SweepRequest{Since: test.since, Trigger: TriggerAPI}); err != nil {
				t.Fatal(err)
			}
			wantStatuses(t, m, test.want...)
			if got := m.row(3).Error; got != test.err {
				t.Errorf("error is %q, want %q", got, test.err)
			}
		})
	}
}

// many are n logs past their deadline, the oldest last.
func many(n int) []Log {
	logs := make([]Log, n)
	for i := range logs {
		logs[i] = open(i, Post{"tiktok", fmt.Sprint(i)}, time.Hour+time.Duration(i)*time.Millisecond)
	}
	return logs
}

func TestASweepTakesAllInPages(t *testing.T) {
	t.Parallel()
	r, m := setup(t, patient, many(1001)...)
	pages := 0
	result, err := r.Sweep(t.Context(), SweepRequest{Trigger: TriggerSweep, Progress: func() { pages++ }})
	if err != nil || result.MarkedFailed != 1001 || result.IDsTruncated {
		t.Errorf("%d failed, ids truncated is %t, error %v", result.MarkedFailed, result.IDsTruncated, err)
	}
	if pages != 3 || m.transactions != 3 {
		t.Errorf("%d pages in %d transactions, want 3", pages, m.transactions)
	}
	closed := slices.SortedFunc(slices.Values(result.FailedLogIDs), func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	for i, id := range closed {
		if want := logID(i); id != want {
			t.Fatalf("closed %s in place %d, want %s", id, i, want)
		}
	}
}

func TestTheListsOfASweepAreCut(t *testing.T) {
	t.Parallel()
	for n, truncated := range map[int]bool{maxListedIDs: false, maxListedIDs + 1: true} {
		var result SweepResult
		for i := range n {
			result.count(logID(i), Decision{Action: MarkedFailed})
			result.count(logID(i), Decision{Action: MarkedSuccess})
		}
		if result.TotalChecked != 2*n || result.MarkedFailed != n || result.MarkedSuccess != n {
			t.Errorf("of %d: counted %d, %d, %d", n, result.TotalChecked, result.MarkedFailed, result.MarkedSuccess)
		}
		if len(result.FailedLogIDs) != 10_000 || len(result.SuccessLogIDs) != 10_000 || result.IDsTruncated != truncated {
			t.Errorf("of %d: listed %d and %d, truncated is %t", n, len(result.FailedLogIDs), len(result.SuccessLogIDs), result.IDsTruncated)
		}
		result.FailedLogIDs, result.SuccessLogIDs = []uuid.UUID{}, []uuid.UUID{}
		want := fmt.Sprintf(`{"total_checked":%d,"marked_success":%d,"marked_failed":%d,"marked_retry":0,"skipped":0,
			"success_log_ids":[],"failed_log_ids":[]`, 2*n, n, n)
		if truncated {
			want += `,"ids_truncated":true`
		}
		wantJSON(t, want+"}", result)
	}
}

func TestASweepStopsBetweenPages(t *testing.T) {
	t.Parallel()
	r, m := setup(t, patient, many(10*sweepPage)...)
	stop := make(chan struct{})
	halfway := sync.OnceFunc(func() { close(stop) })
	m.outage = func() error {
		if m.transactions == 2 {
			halfway() // in the middle of a page
		}
		return nil
	}
	result, err := r.Sweep(t.Context(), SweepRequest{Trigger: TriggerSweep, Stop: stop})
	if !errors.Is(err, ErrStopped) {
		t.Errorf("error is %v", err)
	}
	pages := m.transactions // those in flight are finished
	if pages > 2+pagesInFlight-1 || result.MarkedFailed != pages*sweepPage || count(m.statuses(), StatusFailed) != pages*sweepPage {
		t.Errorf("%d counted, %d closed, in %d pages", result.MarkedFailed, count(m.statuses(), StatusFailed), pages)
	}
}

func TestASweepThatIsToldToStopAtOnce(t *testing.T) {
	t.Parallel()
	r, m := setup(t, patient, many(1)...)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Sweep(ctx, SweepRequest{}); !errors.Is(err, context.Canceled) || m.transactions != 0 {
		t.Errorf("error is %v after %d transactions", err, m.transactions)
	}
}

// paired is a store whose first transaction goes on only when the second has failed.
type paired struct {
	*memory
	begun  atomic.Int32
	second chan struct{}
}

func (p *paired) Transact(ctx context.Context, keys Keys, decide func(Locked) Changes) error {
	switch p.begun.Add(1) {
	case 1:
		<-p.second
		time.Sleep(time.Second) // in a bubble: until nothing else can happen
	case 2:
		close(p.second)
		return errBroken
	}
	return p.memory.Transact(ctx, keys, decide)
}

func TestASweepFinishesThePageInFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, m := setup(t, patient, many(3*sweepPage)...)
		store := &paired{memory: m, second: make(chan struct{})}
		r.store = store
		result, err := r.Sweep(t.Context(), SweepRequest{Trigger: TriggerSweep})
		if !errors.Is(err, errBroken) {
			t.Errorf("error is %v", err)
		}
		if result.MarkedFailed != sweepPage || count(m.statuses(), StatusFailed) != sweepPage || store.begun.Load() != 2 {
			t.Errorf("%d counted, %d closed, %d pages begun", result.MarkedFailed, count(m.statuses(), StatusFailed), store.begun.Load())
		}
	})
}

func TestAnOutageEndsASweep(t *testing.T) {
	t.Parallel()
	for calls := range 9 { // parked, a transaction, parked, the time, and of due logs three reads and two transactions
		t.Run(fmt.Sprintf("after %d calls", calls), func(t *testing.T) {
			t.Parallel()
			r, m := setup(t, patient)
			hear(t, r, webhook(t, Post{"tiktok", "0"}, `{"status":"published"}`))
			for _, log := range many(502) {
				m.rows[log.ID] = &row{Log: log}
			}
			left := calls
			m.outage = func() error {
				if left--; left < 0 {
					return errBroken
				}
				return nil
			}
			result, err := r.Sweep(t.Context(), SweepRequest{Trigger: TriggerSweep})
			if !errors.Is(err, errBroken) {
				t.Errorf("error is %v", err)
			}
			closed := 502 - count(m.statuses(), StatusProcessing)
			if result.TotalChecked != closed || result.TotalChecked != result.MarkedSuccess+result.MarkedFailed {
				t.Errorf("%d are closed, but the result is %+v", closed, result)
			}
		})
	}
}

func TestARefusedRowHarmsNoOtherInASweep(t *testing.T) {
	t.Parallel()
	r, m := setup(t, patient, many(100)...)
	m.poison["42"] = true
	result := sweep(t, r)
	if result.MarkedFailed != 99 || slices.Contains(result.FailedLogIDs, logID(42)) || !m.row(42).Status.Open() {
		t.Errorf("%d failed, the refused one is %q", result.MarkedFailed, m.row(42).Status)
	}
}

// Log 1 to 3 are of one post, for which a webhook is parked.
func parkedWorld(t *testing.T, age time.Duration) (*Reconciler, *memory) {
	t.Helper()
	r, m := setup(t, patient)
	hear(t, r, webhook(t, tiktok, tiktokExample), webhook(t, instagram, instagramExample))
	for n := range 3 {
		log := open(n+1, tiktok, age)
		m.rows[log.ID] = &row{Log: log}
	}
	return r, m
}

func TestASweepFindsWhatIsParked(t *testing.T) {
	t.Parallel()
	r, m := parkedWorld(t, 0)
	pages := 0
	result, err := r.Sweep(t.Context(), SweepRequest{Trigger: TriggerSweep, Progress: func() { pages++ }})
	if err != nil || result.MarkedSuccess != 3 || result.TotalChecked != 3 {
		t.Errorf("result %+v, error %v", result, err)
	}
	wantStatuses(t, m, StatusSuccess, StatusSuccess, StatusSuccess)
	for parked := range maps.Values(m.parked) {
		if parked.Post != instagram {
			t.Errorf("%+v is still parked", parked)
		}
	}
	if pages != 1 {
		t.Errorf("progress was called %d times, want once", pages)
	}
	sweep(t, r)
	if len(m.parked) != 1 {
		t.Errorf("%d webhooks are parked, want the one without a log", len(m.parked))
	}
}

func TestProgressIsCalledForAPageOfOrphans(t *testing.T) {
	t.Parallel()
	r, m := setup(t, patient)
	hear(t, r, webhook(t, tiktok, tiktokExample))
	m.transactions = 0
	pages := 0
	if _, err := r.Sweep(t.Context(), SweepRequest{Progress: func() { pages++ }}); err != nil || pages != 1 {
		t.Errorf("progress was called %d times, want once; error %v", pages, err)
	}
	if m.transactions != 0 {
		t.Errorf("%d transactions about no log", m.transactions)
	}
}

func TestASweepSeesEveryPageOfParkedWebhooks(t *testing.T) {
	t.Parallel()
	r, m := setup(t, patient)
	const n = sweepPage + 1
	webhooks := make([]Webhook, n)
	for i := range webhooks {
		post := Post{Platform: "tiktok", ExternalPostID: strconv.Itoa(i)}
		webhooks[i] = webhook(t, post, `{"complete":true}`)
		log := open(i+1, post, 0)
		m.rows[log.ID] = &row{Log: log}
	}
	logs := m.rows
	m.rows = nil
	hear(t, r, webhooks...)
	m.rows = logs
	if result := sweep(t, r); result.MarkedSuccess != n || len(m.parked) != 0 {
		t.Errorf("%d successes, %d still parked, want %d and none", result.MarkedSuccess, len(m.parked), n)
	}
}

// A page may be old when its logs are locked. The next sweep comes by itself, so no check is scheduled.
func TestASweepSchedulesNoCheckForWhatIsNotDue(t *testing.T) {
	t.Parallel()
	r, m := setup(t, patient, open(1, tiktok, 0))
	if _, err := r.look(t.Context(), []Check{{LogID: logID(1)}}, TriggerSweep); err != nil {
		t.Fatal(err)
	}
	if len(m.scheduled) != 0 {
		t.Errorf("scheduled %+v", m.scheduled)
	}
}

func TestASweepCountsWhatTheFirstOfSeveralParkedDid(t *testing.T) {
	t.Parallel()
	r, m := setup(t, patient)
	later := webhook(t, tiktok, `{"status":"in_review"}`)
	later.ReceivedAt = noon.Add(time.Second)
	hear(t, r, webhook(t, tiktok, tiktokExample), later)
	m.rows[logID(1)] = &row{Log: open(1, tiktok, 0)}
	if result := sweep(t, r); result.MarkedSuccess != 1 || result.TotalChecked != 1 {
		t.Errorf("result is %+v, want one success", result)
	}
}

// It must not be lost for a log that another transaction held.
func TestWhatIsParkedStaysWhileALogIsSkipped(t *testing.T) {
	t.Parallel()
	r, m := parkedWorld(t, time.Hour)
	m.held[logID(2)] = true
	findings, err := r.look(t.Context(), []Check{{LogID: logID(1)}, {LogID: logID(2)}}, TriggerSweep)
	if err != nil {
		t.Fatal(err)
	}
	if findings[0].kind != Done || findings[1].kind != Held {
		t.Errorf("found %+v, want the first log only", findings)
	}
	wantStatuses(t, m, StatusSuccess, StatusProcessing, StatusSuccess)
	if len(m.parked) != 2 {
		t.Errorf("%d webhooks are parked, want both", len(m.parked))
	}
	m.held[logID(2)] = false
	sweep(t, r)
	wantStatuses(t, m, StatusSuccess, StatusSuccess, StatusSuccess)
}

func TestASweepLeavesToOthersWhatTheyHold(t *testing.T) {
	t.Parallel()
	r, m := setup(t, patient, many(3)...)
	m.held[logID(1)] = true
	if result := sweep(t, r); result.TotalChecked != 2 {
		t.Errorf("counted %d, want 2", result.TotalChecked)
	}
	wantStatuses(t, m, StatusFailed, StatusProcessing, StatusFailed)
}
