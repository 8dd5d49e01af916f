package reconciler

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// It would be too large for a message, and hold up all events behind it.
func TestAnAddressThatIsNoneIsNotTold(t *testing.T) {
	t.Parallel()
	log := open(1, tiktok, 0)
	log.ExternalURL = strings.Repeat("x", 2_000_000)
	r, m := setup(t, patient, log)
	hear(t, r, webhook(t, tiktok, tiktokExample))
	if len(m.outbox) != 1 || m.outbox[0].URL != "" {
		t.Errorf("told of %d changes, want one without an address", len(m.outbox))
	}
}

func TestEveryStateChangeIsToldOnce(t *testing.T) {
	t.Parallel()
	r, m := setup(t, Policy{DefaultTimeout: DefaultTimeout, Retries: map[string]int{"tiktok": 1}},
		open(1, tiktok, time.Hour), open(2, instagram, 0))
	check(t, r, Check{LogID: logID(1)}, Check{LogID: logID(2)})
	m.now = noon.Add(DefaultTimeout)
	check(t, r, Check{LogID: logID(1)}, Check{LogID: logID(1)})
	hear(t, r, webhook(t, tiktok, tiktokExample), webhook(t, tiktok, tiktokExample))

	change := func(from, to Status, reason Reason, trigger Trigger, url string, at time.Time) StateChange {
		return StateChange{
			LogID: logID(1), Platform: "tiktok", ExternalPostID: tiktok.ExternalPostID,
			From: from, To: to, Reason: reason, Trigger: trigger, URL: url, Time: at,
		}
	}
	want := []StateChange{
		change(StatusProcessing, StatusRetry, ReasonRetryBeforeFail, TriggerCheck, "", noon),
		change(StatusRetry, StatusFailed, ReasonWebhookTimeout, TriggerCheck, "", m.now),
		change(StatusFailed, StatusSuccess, ReasonWebhookLate, TriggerWebhook, "https://www.tiktok.com/@user/video/123", m.now),
	}
	if diff := cmp.Diff(want, m.outbox, cmpopts.IgnoreFields(StateChange{}, "ID")); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
	var told []string
	for _, event := range m.row(1).ledger {
		if event.Type == EventReconciled {
			told = append(told, event.ID.String())
		}
	}
	for i, change := range m.outbox {
		if change.ID.String() != told[i] {
			t.Errorf("change %d has id %s, want its ledger event's, %s", i, change.ID, told[i])
		}
	}
}
