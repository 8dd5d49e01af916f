package reconciler

import (
	"errors"
	"fmt"
	"math/bits"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// crowd is n logs of n posts, past their deadline, with a webhook and a check for each.
func crowd(t *testing.T, n int) (logs []Log, webhooks []Webhook, checks []Check) {
	t.Helper()
	for i := range n {
		post := Post{"tiktok", fmt.Sprintf("post_%d", i)}
		logs = append(logs, open(i, post, time.Hour))
		webhooks = append(webhooks, webhook(t, post, `{"status":"published"}`))
		checks = append(checks, Check{LogID: logID(i)})
	}
	return logs, webhooks, checks
}

func TestARefusedRequestHarmsNoNeighbour(t *testing.T) {
	t.Parallel()
	type reconcile func(*testing.T, *Reconciler, int) ([]Outcome, error)
	doors := map[string]struct {
		parked bool // the webhooks find no logs
		do     reconcile
	}{
		"webhooks": {false, func(t *testing.T, r *Reconciler, n int) ([]Outcome, error) {
			t.Helper()
			_, webhooks, _ := crowd(t, n)
			return r.Webhooks(t.Context(), webhooks)
		}},
		"parked webhooks": {true, func(t *testing.T, r *Reconciler, n int) ([]Outcome, error) {
			t.Helper()
			_, webhooks, _ := crowd(t, n)
			return r.Webhooks(t.Context(), webhooks)
		}},
		"checks": {false, func(t *testing.T, r *Reconciler, n int) ([]Outcome, error) {
			t.Helper()
			_, _, checks := crowd(t, n)
			return r.Checks(t.Context(), checks)
		}},
	}
	for name, door := range doors {
		for _, n := range []int{1, 2, 7, 64, 500} {
			for _, bad := range []int{0, n / 3, n - 1} {
				t.Run(fmt.Sprintf("%s/%d of %d", name, bad, n), func(t *testing.T) {
					t.Parallel()
					logs, webhooks, _ := crowd(t, n)
					if door.parked {
						logs = nil
					}
					r, m := setup(t, patient, logs...)
					m.poison[webhooks[bad].Post.ExternalPostID] = true
					outcomes, err := door.do(t, r, n)
					if err != nil {
						t.Fatal(err)
					}
					for i, outcome := range outcomes {
						switch {
						case i == bad && (outcome.Kind != Rejected || !errors.Is(outcome.Err, ErrRefused)):
							t.Errorf("the bad one is %+v", outcome)
						case i != bad && outcome != Outcome{Kind: Done}:
							t.Errorf("neighbour %d is %+v", i, outcome)
						}
					}
					if open := count(m.statuses(), StatusProcessing); !door.parked && open != 1 {
						t.Errorf("%d logs are open, want the bad one", open)
					}
					if door.parked && len(m.parked) != n-1 {
						t.Errorf("%d webhooks are parked, want %d", len(m.parked), n-1)
					}
					// Twice the depth of a tree with n leaves, and its root.
					if limit := 2*bits.Len(uint(n-1)) + 1; m.transactions > limit {
						t.Errorf("%d transactions, want at most %d", m.transactions, limit)
					}
				})
			}
		}
	}
}

func count(statuses []Status, wanted Status) int {
	n := 0
	for _, status := range statuses {
		if status == wanted {
			n++
		}
	}
	return n
}

func TestEveryRequestMayBeRefused(t *testing.T) {
	t.Parallel()
	logs, webhooks, _ := crowd(t, 4)
	r, m := setup(t, patient, logs...)
	for _, webhook := range webhooks {
		m.poison[webhook.Post.ExternalPostID] = true
	}
	outcomes, err := r.Webhooks(t.Context(), webhooks)
	wantOutcomes(t, outcomes, err, Rejected)
	wantStatuses(t, m, StatusProcessing, StatusProcessing, StatusProcessing, StatusProcessing)
}

func TestAnOutageLeavesTheRestForLater(t *testing.T) {
	t.Parallel()
	doors := map[string]func(*testing.T, *Reconciler) ([]Outcome, error){
		"webhooks": func(t *testing.T, r *Reconciler) ([]Outcome, error) {
			t.Helper()
			_, webhooks, _ := crowd(t, 8)
			return r.Webhooks(t.Context(), webhooks)
		},
		"checks": func(t *testing.T, r *Reconciler) ([]Outcome, error) {
			t.Helper()
			_, _, checks := crowd(t, 8)
			return r.Checks(t.Context(), checks)
		},
	}
	// The batch is refused for request 5: whole; 0–3 go through; 4–7; 4 and 5; 4 goes through; 5 is refused;
	// 6 and 7 go through.
	tests := map[string]struct {
		lastsUntil int // the transaction after which Postgres is away
		want       []OutcomeKind
	}{
		"from the start":         {0, []OutcomeKind{Later, Later, Later, Later, Later, Later, Later, Later}},
		"at the first half":      {1, []OutcomeKind{Later, Later, Later, Later, Later, Later, Later, Later}},
		"at the second half":     {2, []OutcomeKind{Done, Done, Done, Done, Later, Later, Later, Later}},
		"at the bad one":         {5, []OutcomeKind{Done, Done, Done, Done, Done, Later, Later, Later}},
		"after the bad one":      {6, []OutcomeKind{Done, Done, Done, Done, Done, Rejected, Later, Later}},
		"never, for a yardstick": {7, []OutcomeKind{Done, Done, Done, Done, Done, Rejected, Done, Done}},
	}
	for door, do := range doors {
		for name, test := range tests {
			t.Run(door+"/"+name, func(t *testing.T) {
				t.Parallel()
				logs, _, _ := crowd(t, 8)
				r, m := setup(t, patient, logs...)
				m.poison["post_5"] = true
				m.outage = func() error {
					if m.transactions == test.lastsUntil+1 { // nothing may be tried after it
						return errBroken
					}
					return nil
				}
				outcomes, err := do(t, r)
				if away := test.lastsUntil < 7; errors.Is(err, errBroken) != away || !away && err != nil {
					t.Errorf("error is %v", err)
				}
				if diff := cmp.Diff(test.want, kindsOf(outcomes)); diff != "" {
					t.Errorf("outcomes (-want +got):\n%s", diff)
				}
				for i, outcome := range outcomes {
					if closed := !m.row(i).Status.Open(); closed != (outcome.Kind == Done) {
						t.Errorf("log %d is %q with outcome %d", i, m.row(i).Status, outcome.Kind)
					}
				}
			})
		}
	}
}
