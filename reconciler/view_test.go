package reconciler

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestViewJSON is what every door answers.
func TestViewJSON(t *testing.T) {
	t.Parallel()
	post, words := "tiktok_video_67890", "No webhook received after 10 minutes"
	view := viewed(func(v *View) {
		v.row(StatusFailed, "10:50:00", "10:45:03", rowTimedOut)
		v.ExternalPostID, v.ErrorMessage, v.Reason, v.Parked = &post, &words, ReasonWebhookTimeout, 1
		v.History = []HistoryEvent{told("10:45:03", EventReconciled, timedOut)}
		v.Hold = &Hold{Platform: "tiktok", Since: clockAt("10:30:00"), Until: clockAt("11:30:00")}
	})
	got, err := json.MarshalIndent(view, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	const want = `{
  "id": "00000000-0000-0000-0000-000000000001",
  "clip_id": null,
  "platform": "tiktok",
  "social_account_id": null,
  "status": "failed",
  "external_post_id": "tiktok_video_67890",
  "external_url": null,
  "error_message": "No webhook received after 10 minutes",
  "requested_at": null,
  "published_at": null,
  "retry_count": 0,
  "max_retries": 3,
  "last_retry_at": null,
  "extra_metadata": {
    "reconciliation_reason": "webhook_timeout",
    "reconciled_at": "2024-01-15T10:45:03.5Z"
  },
  "created_at": "2024-01-15T10:35:00Z",
  "updated_at": "2024-01-15T10:45:03Z",
  "reason": "webhook_timeout",
  "history": [
    {
      "id": "00000000-0000-0000-0000-000000000000",
      "timestamp": "2024-01-15T10:45:03Z",
      "event_type": "publish_reconciled",
      "severity": "warn",
      "metadata": {
        "action": "marked_failed",
        "reason": "webhook_timeout",
        "timeout_minutes": 10
      }
    }
  ],
  "parked_webhooks": 1,
  "hold": {
    "platform": "tiktok",
    "since": "2024-01-15T10:30:00Z",
    "until": "2024-01-15T11:30:00Z"
  },
  "now": "2024-01-15T10:50:00Z"
}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
}

func TestPatience(t *testing.T) {
	t.Parallel()
	for minutes, want := range map[string]string{
		`10`: " in 10 minutes", `1`: " in 1 minute", `1.0`: " in 1 minute", `0.5`: " in 0.5 minutes", `1e1`: " in 10 minutes",
		`0.016666666666666666`: " in 0.017 minutes", `0`: " in time", `1e-9`: " in time", `-1`: " in time", `1e300`: " in time",
		`"10"`: " in time", `null`: " in time", `1e999`: " in time",
	} {
		r := receipt{fields: fieldsOf(json.RawMessage(fmt.Sprintf(`{"timeout_minutes":%s}`, minutes)))}
		if got := r.patience(); got != want {
			t.Errorf("%s: %q, want %q", minutes, got, want)
		}
	}
}
