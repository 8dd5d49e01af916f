package repo_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"publish-reconciler/reconciler"
	"publish-reconciler/repo"
)

func TestFindPost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	want := map[string][]uuid.UUID{}
	for _, platform := range []string{"instagram", "tiktok", "youtube", "Ünknown"} {
		for range 2 {
			id := w.publish(platform, "same", "success", 0)
			want[platform] = append([]uuid.UUID{id}, want[platform]...)
			want[""] = append([]uuid.UUID{id}, want[""]...)
		}
		w.publish(platform, "other", "success", 0)
	}
	find := func(platform, post string) []uuid.UUID {
		t.Helper()
		rows, err := w.store.FindPost(t.Context(), platform, post)
		if err != nil {
			t.Fatal(err)
		}
		ids := []uuid.UUID{}
		for _, row := range rows {
			ids = append(ids, row.ID)
		}
		return ids
	}
	for platform, ids := range want {
		equal(t, "platform "+platform, find(platform, "same"), ids)
	}
	equal(t, "unknown post", find("", "Same"), []uuid.UUID{})
	equal(t, "unknown platform", find("vimeo", "same"), []uuid.UUID{})
	equal(t, "no logs at all", func() []uuid.UUID { w.exec(`DELETE FROM publish_logs`); return find("", "same") }(), []uuid.UUID{})
}

func TestThePlanOfFindPost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(50_000, 100)
	for _, platform := range []any{nil, "tiktok"} {
		for mode, plan := range w.plans(repo.FindPostSQL, "post_4711", platform, 1000, 200) {
			if strings.Count(plan, "publish_logs_post_idx") < 2 {
				t.Errorf("%v, %s does not go by the index:\n%s", platform, mode, plan)
			}
			notIn(t, mode, plan, "Seq Scan on publish_logs")
		}
	}
}

func TestPagesOfParkedWebhooks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	park := func(platform, post, payload string, age time.Duration) uuid.UUID {
		id := uuid.New()
		w.exec(`INSERT INTO parked_webhooks (id, platform, external_post_id, payload, received_at)
		        VALUES ($1, $2, $3, $4::text::jsonb, date_trunc('second', now()) - $5::interval)`, id, platform, post, payload, age)
		return id
	}
	var want []uuid.UUID
	for i := range 5 {
		want = append(want, park("tiktok", fmt.Sprint("post_", i), `{"status": "published"}`, time.Duration(5-i/2)*time.Minute))
	}
	// Those of one second are in the order of their ids.
	for _, i := range []int{0, 2} {
		if want[i].String() > want[i+1].String() {
			want[i], want[i+1] = want[i+1], want[i]
		}
	}
	var got []uuid.UUID
	page := repo.ParkedPage{Limit: 2}
	for pages := 1; ; pages++ {
		parked, more, err := w.store.ParkedWebhooks(t.Context(), page)
		if err != nil {
			t.Fatal(err)
		}
		for _, webhook := range parked {
			got = append(got, webhook.ID)
			page.After, page.AfterID = webhook.ReceivedAt, webhook.ID
		}
		if !more {
			equal(t, "pages", pages, 3)
			break
		}
	}
	equal(t, "parked", got, want)

	long := park("youtube", "post_1", `{"caption": "`+strings.Repeat("ü", 5000)+`"}`, 0)
	found, err := w.store.FindParked(t.Context(), "", "post_1")
	if err != nil || len(found) != 2 || found[1].ID != long {
		t.Fatalf("%+v: %v", found, err)
	}
	if found[1].Whole != 5015 || len([]rune(found[1].Payload)) != 4096 || found[0].Payload != `{"status": "published"}` || found[0].Whole != 23 {
		t.Errorf("payloads: %d of %d, %q", len([]rune(found[1].Payload)), found[1].Whole, found[0].Payload)
	}
	if found, err := w.store.FindParked(t.Context(), "youtube", "post_1"); err != nil || len(found) != 1 {
		t.Errorf("of one platform: %+v, %v", found, err)
	}
}

func TestConfirmTimes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	since := time.Now().Add(-time.Hour)
	tell := func(platform, action, reason, more string, age time.Duration) {
		w.tell(uuid.New(), "publish_reconciled", fmt.Sprintf(`{"platform": %q, "action": %q, "reason": %q%s}`, platform, action, reason, more), age)
	}
	// Each is confirmed within its number of seconds, and its deadline is ten minutes from when that began.
	receipt := func(seconds int, age time.Duration) string {
		deadline := time.Now().Add(-age).Add(-time.Duration(seconds)*time.Second + 10*time.Minute)
		return fmt.Sprintf(`, "timeout_minutes": 10, "deadline": %q`, deadline.UTC().Format(time.RFC3339Nano))
	}
	for n := 1; n <= 100; n++ {
		tell("tiktok", "marked_success", "webhook_confirmed", receipt(n, time.Minute), time.Minute)
	}
	tell("youtube", "marked_success", "probe_confirmed", receipt(700, time.Minute), time.Minute)
	for _, other := range []string{
		"", `, "timeout_minutes": "10", "deadline": "2024-01-15T10:30:00Z"`, `, "timeout_minutes": 10, "deadline": "soon"`, `, "timeout_minutes": 10, "deadline": "2024-13-15T10:30:00Z"`,
		`, "timeout_minutes": 10, "deadline": "2024-02-30T10:30:00Z"`, `, "timeout_minutes": 10, "deadline": "2023-02-29T10:30:00Z"`,
		`, "timeout_minutes": 10, "deadline": "1900-02-29T10:30:00Z"`, `, "timeout_minutes": 10, "deadline": "2024-04-31T10:30:00Z"`,
		`, "timeout_minutes": 10, "deadline": "0000-01-01T10:30:00Z"`,
		`, "timeout_minutes": 10, "deadline": "2024-01-15T10:30:00.` + strings.Repeat("0", 200) + `Z"`,
		`, "timeout_minutes": 1e400, "deadline": "2024-01-15T10:30:00Z"`, `, "timeout_minutes": 1e308, "deadline": "2024-01-15T10:30:00Z"`,
		`, "timeout_minutes": 1e-400, "deadline": "2024-01-15T10:30:00Z"`, `, "timeout_minutes": -1e308, "deadline": "2024-01-15T10:30:00Z"`,
	} {
		tell("tiktok", "marked_success", "webhook_confirmed", other, time.Minute) // no receipts of the service
	}
	tell("tiktok", "marked_success", "webhook_confirmed", receipt(5000, 2*time.Hour), 2*time.Hour) // before
	tell("tiktok", "marked_failed", "webhook_rejected", receipt(5000, 0), 0)
	tell("tiktok", "marked_success", "webhook_late", receipt(5000, 0), 0)

	times, err := w.store.ConfirmTimes(t.Context(), since)
	if err != nil || len(times) != 2 {
		t.Fatalf("%+v: %v", times, err)
	}
	near := func(what string, got, want time.Duration) {
		t.Helper()
		if (got - want).Abs() > 5*time.Second { // the clocks of the test and of Postgres, and the time between them
			t.Errorf("%s is %s, want %s", what, got, want)
		}
	}
	tiktok, youtube := times[0], times[1]
	equal(t, "platforms", tiktok.Platform+" "+youtube.Platform, "tiktok youtube")
	equal(t, "confirmed", tiktok.Confirmed, 100)
	near("median", tiktok.Median, 50*time.Second+500*time.Millisecond)
	near("90 %", tiktok.P90, 90*time.Second)
	near("99 %", tiktok.P99, 99*time.Second)
	near("of one", youtube.Median, 700*time.Second)

	// As the service itself writes it.
	w.exec(`DELETE FROM ledger_events`)
	id := w.publish("tiktok", "post", "processing", 90*time.Second)
	service := reconciler.New(w.store, nil, nil, nil, reconciler.Policy{DefaultTimeout: 10 * time.Minute}, slog.New(slog.DiscardHandler))
	if _, err := service.Webhooks(t.Context(), []reconciler.Webhook{webhook(t, "tiktok", `{"external_post_id":"post","status":"published"}`)}); err != nil {
		t.Fatal(err)
	}
	if got := w.view(id).Status; got != reconciler.StatusSuccess {
		t.Fatalf("the log is %s", got)
	}
	times, err = w.store.ConfirmTimes(t.Context(), since)
	if err != nil || len(times) != 1 {
		t.Fatalf("%+v: %v", times, err)
	}
	near("of a webhook", times[0].Median, 90*time.Second)
}

func TestThePlanOfConfirmTimes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(`INSERT INTO ledger_events (timestamp, event_type, entity_type, entity_id)
	        SELECT now() - n * interval '1 minute', 'publish_reconciled', 'publish_log', n::text FROM generate_series(1, 50000) n`)
	w.exec(`ANALYZE ledger_events`)
	for mode, plan := range w.plans(repo.ConfirmTimesSQL, time.Now().Add(-24*time.Hour), 50_000) {
		if !strings.Contains(plan, "ledger_events_timestamp_idx") {
			t.Errorf("%s does not go by the index:\n%s", mode, plan)
		}
		notIn(t, mode, plan, "Seq Scan on ledger_events")
	}
}
