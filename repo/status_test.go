package repo_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"publish-reconciler/reconciler"
	"publish-reconciler/repo"
)

func (w *world) backlogs() []repo.Backlog {
	w.Helper()
	backlogs, err := w.store.Backlogs(w.Context(), reconciler.DefaultTimeout, map[string]time.Duration{"slow": 3 * time.Hour}, true)
	if err != nil {
		w.Fatal(err)
	}
	for i := range backlogs {
		backlogs[i].OldestUpdate = nil
	}
	return backlogs
}

// What the backlog calls skipped and held is what the rules leave open, whatever a log's metadata holds.
func TestTheBacklogDecidesAsTheRulesDo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(`INSERT INTO publish_platforms (platform, held_since, held_until) SELECT 'p' || n, now() - interval '1 minute', now() + interval '1 hour' FROM generate_series(0, 99) n`)
	for n, metadata := range []string{
		`{}`, `null`, `[]`, `["webhook_received"]`, `"webhook_received"`, `7`, `{"webhook_received":true}`, `{"webhook_received":false}`,
		`{"webhook_received":false,"webhook_status":"in_review"}`, `{"webhook_received":"true"}`, `{"webhook_received":null,"webhook_status":null}`,
		`{"webhook_received":true,"webhook_status":null}`, `{"webhook_received":true,"webhook_status":"published"}`, `{"webhook_status":" Published\t"}`,
		`{"webhook_status":"verror\u000b"}`, `{"webhook_status":"\u000berror\u000b"}`, `{"webhook_status":"failed"}`, `{"webhook_status":"REJECTED"}`, `{"webhook_status":""}`,
		`{"webhook_status":3}`, `{"webhook_status":true}`, `{"webhook_status":{"a":1}}`, `{"webhook_received":true,"webhook_status":["published"]}`,
		`{"webhook_received":true,"complete":true}`, `{"webhook_received":true,"complete":false}`, `{"webhook_received":true,"webhook_status":null,"complete":true}`,
		`{"complete":true}`, `{"probe_timestamp":"2024-01-15T10:30:00Z","probe_status":"encoding"}`, `{"probe_timestamp":null}`,
		`{"probe_timestamp":"2024-01-15T10:30:00Z","webhook_status":"published"}`,
	} {
		platform := "p" + string(rune('0'+n/10)) + string(rune('0'+n%10))
		w.exec(`UPDATE publish_platforms SET platform = $1 WHERE platform = 'p' || $2::int`, platform, n)
		w.exec(`INSERT INTO publish_logs (platform, status, external_post_id, extra_metadata, updated_at)
		        VALUES ($1, 'processing', $1, $2::text::jsonb, now() - interval '1 hour')`, platform, metadata)
		decoder := json.NewDecoder(strings.NewReader(metadata))
		decoder.UseNumber()
		var fields map[string]any
		_ = decoder.Decode(&fields) // what is no object is empty
		now := time.Now()
		log := reconciler.Log{Post: reconciler.Post{Platform: platform}, Status: reconciler.StatusProcessing, UpdatedAt: now.Add(-time.Hour), Metadata: fields}
		decision := reconciler.Decide(log, reconciler.Question{Trigger: reconciler.TriggerSweep, Hold: &reconciler.Hold{}}, reconciler.Policy{DefaultTimeout: reconciler.DefaultTimeout}, now)
		want := repo.Backlog{Platform: platform, Open: 1, Due: 1}
		switch {
		case decision.Reason == reconciler.ReasonPlatformHold:
			want.Held = 1
		case decision.Skipped:
			want.Skipped = 1
		}
		got := w.backlogs()
		equal(t, metadata, got[len(got)-1], want)
	}
}

func TestTheBacklogCountsWhatIsDueAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	unclear := func(platform string, age time.Duration) {
		w.exec(`UPDATE publish_logs SET extra_metadata = '{"webhook_status":"in_review"}' WHERE id = $1`, w.publish(platform, "", "processing", age))
	}
	unclear("x", time.Minute)
	unclear("x", time.Hour)
	unclear("slow", time.Hour)
	unclear("slow", 4*time.Hour)
	w.publish("x", "", "retry", time.Hour)
	w.publish("x", "", "processing", time.Minute)
	w.publish("x", "", "pending", time.Hour)
	w.exec(`UPDATE publish_logs SET updated_at = 'infinity' WHERE id = $1`, w.publish("x", "", "processing", 0))
	want := []repo.Backlog{{Platform: "slow", Open: 2, Due: 1, Skipped: 1}, {Platform: "x", Open: 5, Due: 3, Skipped: 1}}
	equal(t, "without holds", w.backlogs(), want)

	hold := func(confirmed, since, until string) {
		w.exec(`DELETE FROM publish_platforms`)
		w.exec(`INSERT INTO publish_platforms (platform, confirmed_at, held_since, held_until)
		        VALUES ('x', now() - $1::interval, now() - $2::interval, now() + $3::interval)`, confirmed, since, until)
	}
	hold("1 hour", "1 minute", "1 hour")
	want[1].Held = 2
	equal(t, "under a hold", w.backlogs(), want)
	want[1].Held = 0
	hold("1 second", "1 minute", "1 hour")
	equal(t, "after a confirmation", w.backlogs(), want)
	hold("1 hour", "2 hours", "-1 minute")
	equal(t, "after its end", w.backlogs(), want)
}

// What is open is found by its index, and each log is looked at once.
func TestThePlanOfTheBacklog(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(20_000, 200)
	for mode, plan := range w.plans(repo.BacklogSQL, 10*time.Minute, []string{"tiktok"}, []time.Duration{time.Hour}) {
		if strings.Count(plan, "publish_logs_open_idx") == 0 || strings.Count(plan, "Function Scan on t") != 1 {
			t.Errorf("%s:\n%s", mode, plan)
		}
		notIn(t, mode, plan, "Seq Scan on publish_logs")
	}
}

func TestWaiting(t *testing.T) {
	t.Parallel()
	w := newOutboxWorld(t)
	waiting := func() repo.Waiting {
		t.Helper()
		found, err := w.store.Waiting(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	equal(t, "nothing", waiting(), repo.Waiting{})
	w.exec(`INSERT INTO parked_webhooks (id, platform, external_post_id, payload, received_at)
	        SELECT gen_random_uuid(), 'x', n::text, '{}', '2024-01-15 10:30Z'::timestamptz + n * interval '1 minute' FROM generate_series(0, 9) n`)
	found := waiting()
	if at := time.Date(2024, 1, 15, 10, 30, 0, 0, time.UTC); found.Parked != 10 || found.OldestParked == nil || !found.OldestParked.Equal(at) {
		t.Errorf("parked: %+v", found)
	}

	ids := append(w.change(3), w.change(2)...)
	oldest := func(want int, of uuid.UUID) {
		t.Helper()
		found := waiting()
		sec, nsec := of.Time().UnixTime()
		if at := time.Unix(sec, nsec); found.Outbox != want || found.OldestOutbox == nil || found.OldestOutbox.Sub(at).Abs() > time.Millisecond {
			t.Errorf("%+v, want %d from %s", found, want, at)
		}
	}
	oldest(5, ids[0])
	// One by one, as long as places may be taken: what is told lies there until its batch is.
	w.exec(`UPDATE publish_outbox_told SET strays = 10`)
	drain := func() {
		if _, err := w.store.DrainOutbox(t.Context(), 100, new(telling).tell); err != nil {
			t.Fatal(err)
		}
	}
	drain() // plans
	oldest(5, ids[0])
	for told := 1; told < len(ids); told++ {
		drain()
		oldest(len(ids)-told, ids[told])
	}
	drain()
	equal(t, "all told", waiting().Outbox, 0)

	// Somebody is late with an older one, while a batch is planned.
	old := uuid.MustParse("018d0c6a-0000-7000-8000-000000000000")
	w.change(2)
	drain()
	w.exec(`INSERT INTO publish_outbox VALUES ($1, ARRAY[$1::uuid], '{instagram}', '{failed}', '{"{}"}')`, old)
	oldest(3, old)
	// Not one of ours.
	w.exec(`UPDATE publish_outbox SET id = $2, ids = ARRAY[$2::uuid] WHERE id = $1`, old, uuid.Nil)
	if found := waiting(); found.Outbox != 3 || found.OldestOutbox != nil {
		t.Errorf("of an unknown time: %+v", found)
	}
}

func TestActivity(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	since := one[time.Time](w, `SELECT date_trunc('second', now()) - interval '10 minutes'`)
	tell := func(kind, entity, metadata string, after time.Duration) {
		w.exec(`INSERT INTO ledger_events (timestamp, event_type, entity_type, entity_id, metadata) VALUES ($1, $2, $3, '1', $4::jsonb)`,
			since.Add(after), kind, entity, metadata)
	}
	became := func(metadata string, after time.Duration) { tell("publish_reconciled", "publish_log", metadata, after) }
	became(`{"platform":"x","action":"marked_success","reason":"webhook_confirmed"}`, 0)
	became(`{"platform":"x","action":"marked_success","reason":"probe_confirmed"}`, time.Minute-time.Microsecond)
	became(`{"platform":"x","action":"marked_success","reason":"webhook_late"}`, time.Second)
	became(`{"platform":"x","action":"marked_failed","reason":"webhook_timeout"}`, time.Minute)
	became(`{"platform":"x","action":"marked_failed","reason":"webhook_rejected"}`, time.Minute)
	became(`{"platform":"x","action":"marked_failed"}`, time.Minute)
	became(`{"platform":"a","action":"marked_retry","reason":"retry_before_fail"}`, 5*time.Minute)
	became(`{"action":"marked_success"}`, 5*time.Minute)
	// What is not of these.
	became(`{"platform":"x","action":"marked_success","reason":"webhook_confirmed"}`, -time.Microsecond)
	became(`{"platform":"y","action":"danced"}`, 0)
	became(`[]`, 0)
	tell("publish_reconcile_skipped", "publish_log", `{"platform":"x","reason":"webhook_unclear"}`, 0)
	tell("publish_overridden", "publish_log", `{"to":"success"}`, 0)
	tell("publish_reconciled", "invoice", `{"platform":"x","action":"marked_success"}`, 0)
	w.exec(`INSERT INTO ledger_events (timestamp, event_type, entity_type, entity_id, metadata)
	        VALUES ('infinity', 'publish_reconciled', 'publish_log', '1', '{"platform":"x","action":"marked_success"}')`)
	got, err := w.store.Activity(t.Context(), since, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "activity", got, []repo.Activity{
		{Platform: "", At: since.Add(5 * time.Minute).UTC(), Confirmed: 1},
		{Platform: "a", At: since.Add(5 * time.Minute).UTC(), Retried: 1},
		{Platform: "x", At: since.UTC(), Confirmed: 2, Late: 1},
		{Platform: "x", At: since.Add(time.Minute).UTC(), TimedOut: 1, Rejected: 2},
	})
}

// The rules' own events are what is counted.
func TestActivityOfTheService(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.Reconciler = s.with(reconciler.Policy{DefaultTimeout: reconciler.DefaultTimeout, Retries: map[string]int{"tiktok": 1}})
	for _, post := range []string{"1", "2", "3", "4"} {
		s.publish("x", post, "processing", time.Hour)
	}
	s.publish("tiktok", "5", "processing", time.Hour)
	s.hear("x", `{"external_post_id":"1","status":"published"}`)
	s.hear("x", `{"external_post_id":"2","status":"failed"}`)
	s.sweep()
	s.hear("x", `{"external_post_id":"3","status":"published"}`)
	got, err := s.store.Activity(t.Context(), time.Now().Add(-time.Hour), 2*time.Hour)
	if err != nil || len(got) != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	at := got[0].At
	equal(t, "activity", got, []repo.Activity{
		{Platform: "tiktok", At: at, Retried: 1},
		{Platform: "x", At: at, Confirmed: 1, Rejected: 1, TimedOut: 2, Late: 1},
	})
}

// What is recent is found by the index, however large the ledger is.
func TestThePlanOfActivity(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(oldEvents, 20)
	w.exec(`ANALYZE ledger_events`)
	for mode, plan := range w.plans(repo.ActivitySQL, time.Now().Add(-time.Hour), time.Minute) {
		notIn(t, mode, plan, "Seq Scan on ledger_events")
	}
}
