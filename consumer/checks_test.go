package consumer_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"publish-reconciler/streams"
)

func TestWebhookClosesItsLog(t *testing.T) {
	t.Parallel()
	w := setup(t)
	confirmed := w.insertLog("ig_1", "processing", 0)
	rejected := w.insertLog("ig_2", "retry", 0)
	w.start()
	w.send(webhooks, `{"external_post_id":"ig_1","status":"published","media_url":"https://instagram.com/p/ABC/"}`)
	w.send(webhooks, `{"external_post_id":"ig_2","status":"failed","error":"too long"}`)
	becomes(w, "confirmed log", row{
		Status: "success", URL: "https://instagram.com/p/ABC/", Reason: "webhook_confirmed", Trigger: "webhook",
	}, func() row { return w.row(confirmed) })
	becomes(w, "rejected log", row{
		Status: "failed", Error: "too long", Reason: "webhook_rejected", Trigger: "webhook",
	}, func() row { return w.row(rejected) })
	equal(t, "ledger", w.ledger(confirmed),
		"publish_webhook_received, publish_reconciled marked_success webhook_confirmed webhook")
	w.settled(streams.ConsumerWebhooks)
	equal(t, "dead letters", w.dead(), 0)
}

// What jsonb can't hold is no reason to refuse a webhook.
func TestWebhookThatPostgresCouldNotHold(t *testing.T) {
	t.Parallel()
	w := setup(t)
	id := w.insertLog("ig_1", "processing", 0)
	w.start()
	w.send(webhooks, `{"external_post_id":"ig_1","status":"published","caption":"a\u0000b","views":1e999999}`)
	w.until("settled", func() bool { return w.status(id) == "success" })
	equal(t, "caption", one[string](w, `SELECT extra_metadata->>'caption' FROM publish_logs`), "a\uFFFDb")
	w.settled(streams.ConsumerWebhooks)
	equal(t, "dead letters", w.dead(), 0)
}

func TestDelayedCheckFailsALogAfterItsDeadlineOnly(t *testing.T) {
	t.Parallel()
	const patience = 2 * time.Second
	w := setup(t)
	id := w.insertLog("ig_1", "processing", 0)
	deadline := one[time.Time](w, `SELECT updated_at FROM publish_logs`).Add(patience)
	w.start(timeout(patience))
	w.scheduleCheck(streams.Check{LogID: id}, time.Now()) // early

	becomes(w, "failed log", row{
		Status: "failed", Error: fmt.Sprintf("No webhook received after %v minutes", patience.Minutes()),
		Reason: "webhook_timeout", Trigger: "check",
	}, func() row {
		r := w.row(id)
		if r.Status != "processing" && one[time.Time](w, `SELECT updated_at FROM publish_logs`).Before(deadline) {
			t.Fatalf("%s before its deadline", r.Status)
		}
		return r
	})
	equal(t, "ledger", w.ledger(id), "publish_reconciled marked_failed webhook_timeout check")
	w.settled(streams.ConsumerChecks)
	equal(t, "schedules", len(w.stored(streams.StreamChecks, streams.ScheduleCheckSubject(id))), 0)
}

func TestEarlyCheckIsScheduledForItsDeadline(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		body    string
		timeout time.Duration
	}{
		"the platform's timeout": {"", 10 * time.Minute},
		"the check's own":        {`{"timeout_minutes":20}`, 20 * time.Minute},
		"a fraction of a minute": {`{"timeout_minutes":15.5}`, 15*time.Minute + 30*time.Second},
	}
	w := setup(t)
	w.start()
	for name, tt := range tests {
		id := w.insertLog(name, "processing", 5*time.Minute)
		deadline := one[time.Time](w, `SELECT updated_at FROM publish_logs WHERE id = $1`, id).Add(tt.timeout)
		w.send(streams.CheckSubject(id), tt.body)

		pending := w.scheduled(streams.ScheduleCheckSubject(id))
		equal(t, name+": time", pending.Header.Get("Nats-Schedule"), "@at "+deadline.UTC().Format(time.RFC3339Nano))
		equal(t, name+": target", pending.Header.Get("Nats-Schedule-Target"), streams.CheckSubject(id))
		equal(t, name+": body", string(pending.Data), tt.body)
		equal(t, name+": status", w.status(id), "processing")
		equal(t, name+": ledger", w.ledger(id), "")
	}
	w.settled(streams.ConsumerChecks)
}

func TestCheckTakesThePlaceOfThePendingOne(t *testing.T) {
	t.Parallel()
	w := setup(t)
	id := w.insertLog("ig_1", "processing", 0)
	w.scheduleCheck(streams.Check{LogID: id}, time.Now().Add(time.Hour))
	w.start()
	w.send(streams.CheckSubject(id), "")
	w.until("the pending check is at the deadline", func() bool {
		return time.Until(w.scheduledAt(streams.ScheduleCheckSubject(id))) < 10*time.Minute
	})
}

func TestCheckWithoutPatience(t *testing.T) {
	t.Parallel()
	w := setup(t)
	id := w.insertLog("ig_1", "processing", 0)
	w.start()
	w.send(streams.CheckSubject(id), `{"timeout_minutes":0}`)
	becomes(w, "failed log", row{
		Status: "failed", Error: "No webhook received after 0 minutes", Reason: "webhook_timeout", Trigger: "check",
	}, func() row { return w.row(id) })
}

func TestUnmatchedWebhookIsParkedUntilItsLogAppears(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		ask     func(*world, uuid.UUID)
		trigger string
	}{
		"a check matches it": {func(w *world, id uuid.UUID) { w.send(streams.CheckSubject(id), "") }, "check"},
		"a sweep matches it": {func(w *world, _ uuid.UUID) { w.send(streams.SubjectSweep, "") }, "sweep"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			w.start()
			w.send(webhooks, published("ig_1"))
			w.until("parked", func() bool { return w.parked() == 1 })
			w.settled(streams.ConsumerWebhooks)

			id := w.insertLog("ig_1", "processing", 0)
			tt.ask(w, id)
			becomes(w, "log", row{Status: "success", Reason: "webhook_confirmed", Trigger: tt.trigger},
				func() row { return w.row(id) })
			equal(t, "ledger", w.ledger(id),
				"publish_webhook_received, publish_reconciled marked_success webhook_confirmed "+tt.trigger)
			equal(t, "parked", w.parked(), 0)
			equal(t, "dead letters", w.dead(), 0)
		})
	}
}

// The delays add up to the 30 seconds that a publisher's transaction may take.
func TestCheckOfAnUnknownLogIsRetried(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start()
	delays := []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 15 * time.Second}
	for tries, delay := range delays {
		id := uuid.New()
		pending := time.Now().Add(time.Hour).Truncate(time.Millisecond)
		w.scheduleCheck(streams.Check{LogID: id}, pending)
		before := time.Now()
		w.sendMsg(&nats.Msg{
			Subject: streams.CheckSubject(id), Data: []byte(`{"timeout_minutes":20}`),
			Header: triesHeader(tries),
		})
		retry := w.scheduled(retrySubject(id))
		equal(t, "tries", retry.Header.Get(streams.HeaderTries), fmt.Sprint(tries+1))
		equal(t, "target", retry.Header.Get("Nats-Schedule-Target"), streams.CheckSubject(id))
		equal(t, "body", string(retry.Data), `{"timeout_minutes":20}`)
		at := w.scheduledAt(retrySubject(id))
		// The server's clock is taken for ours with an error of some milliseconds.
		if at.Before(before.Add(delay-500*time.Millisecond)) || at.After(time.Now().Add(delay+500*time.Millisecond)) {
			t.Errorf("try %d: after %s, want %s", tries+1, at.Sub(before), delay)
		}
		if at := w.scheduledAt(streams.ScheduleCheckSubject(id)); !at.Equal(pending) {
			t.Errorf("the log's pending check moved from %s to %s", pending, at)
		}
		w.purge(streams.StreamChecks, retrySubject(id))
	}
	w.settled(streams.ConsumerChecks)
	equal(t, "dead letters", w.dead(), 0)
}

func TestCheckOfAnUnknownLogDies(t *testing.T) {
	t.Parallel()
	w := setup(t)
	id := uuid.New()
	w.scheduleCheck(streams.Check{LogID: id}, time.Now().Add(time.Hour))
	w.start()
	header := triesHeader(5)
	header.Set("Trace", "t1")
	sent := time.Now()
	w.sendMsg(&nats.Msg{Subject: streams.CheckSubject(id), Data: []byte(`{"timeout_minutes":20}`), Header: header})

	w.until("a dead letter", func() bool { return w.dead() == 1 })
	letter := w.letters(streams.KindCheck)[0]
	equal(t, "body", string(letter.Data), `{"timeout_minutes":20}`)
	for name, want := range map[string]string{
		streams.HeaderDeadReason:  "log_not_found",
		streams.HeaderDeadError:   "no log " + id.String() + " in publish_logs, 6 times within 30s",
		streams.HeaderDeadSubject: streams.CheckSubject(id),
		streams.HeaderDeadStream:  streams.StreamChecks,
		"Trace":                   "t1",
	} {
		equal(t, name, letter.Header.Get(name), want)
	}
	if stored, err := time.Parse(time.RFC3339Nano, letter.Header.Get(streams.HeaderDeadTime)); err != nil || stored.Sub(sent).Abs() > soon {
		t.Errorf("time %s, %v", stored, err)
	}
	w.settled(streams.ConsumerChecks)
	equal(t, "the log's pending check", len(w.stored(streams.StreamChecks, streams.ScheduleCheckSubject(id))), 1)
	equal(t, "retries", len(w.stored(streams.StreamChecks, retrySubject(id))), 0)
}

func TestCheckFindsALogThatAppearsMeanwhile(t *testing.T) {
	t.Parallel()
	w := setup(t)
	id := uuid.New()
	w.start()
	w.send(streams.CheckSubject(id), `{"timeout_minutes":0}`)
	w.scheduled(retrySubject(id))
	w.settled(streams.ConsumerChecks) // nothing occupies the consumer meanwhile
	w.exec(`INSERT INTO publish_logs (id, platform, status) VALUES ($1, 'instagram', 'processing')`, id)
	w.until("settled", func() bool { return w.status(id) == "failed" })
	w.settled(streams.ConsumerChecks)
	equal(t, "dead letters", w.dead(), 0)
}

func triesHeader(tries int) nats.Header {
	return nats.Header{streams.HeaderTries: {fmt.Sprint(tries)}}
}
