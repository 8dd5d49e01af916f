package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"publish-reconciler/consumer"
	"publish-reconciler/reconciler"
	"publish-reconciler/repo"
)

// What status tells beyond what is open.
func TestStatusTellsMore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve("--default-timeout=10m", "--platform-timeouts=instagram=90s", "--outage-hold=on", "--sweep-interval=1h", "--events=off")
	s.swept()
	held := w.publishOn("tiktok", "tt_1")
	w.exec(`UPDATE publish_logs SET updated_at = now() - interval '1 hour' WHERE id = $1`, held)
	w.publish("ig_1", "processing", `{"webhook_status":"in_review"}`, 2*time.Minute)
	w.publish("ig_2", "processing", `{}`, time.Minute)
	w.exec(`INSERT INTO publish_platforms (platform, held_since, held_until) VALUES ('tiktok', now() - interval '1 minute', now() + interval '1 hour')`)
	w.exec(`INSERT INTO parked_webhooks (id, platform, external_post_id, payload, received_at) VALUES (gen_random_uuid(), 'x', 'y', '{}', '2024-01-15 10:30Z')`)
	w.exec(`INSERT INTO publish_outbox VALUES ($1, ARRAY[$1::uuid, gen_random_uuid()], '{x,x}', '{failed,failed}', '{"{}","{}"}')`, uuid.MustParse("018d0c6a-0000-7000-8000-000000000000"))
	w.exec(`INSERT INTO ledger_events (timestamp, event_type, entity_type, entity_id, metadata)
	        SELECT now() - age, 'publish_reconciled', 'publish_log', 'x', '{"platform":"x","action":"marked_failed","reason":"webhook_timeout"}'
	          FROM unnest(ARRAY['10 seconds', '2 minutes', '59 minutes', '61 minutes']::interval[]) age`)
	got := s.ask("GET", "/publishing/status", "").body
	for key, want := range map[string]any{
		"parked_webhooks": 1.0, "oldest_parked_webhook": "2024-01-15T10:30:00Z", "outbox_events": 2.0, "dead_letters": 0.0,
		"consumers": []any{
			map[string]any{"name": "webhooks", "pending": 0.0, "in_hand": 0.0, "redelivered": 0.0},
			map[string]any{"name": "checks", "pending": 0.0, "in_hand": 0.0, "redelivered": 0.0},
			map[string]any{"name": "sweeper", "pending": 0.0, "in_hand": 0.0, "redelivered": 0.0},
		},
	} {
		if diff := cmp.Diff(want, got[key]); diff != "" {
			t.Errorf("%s: %s", key, diff)
		}
	}
	if at, err := time.Parse(time.RFC3339, got["oldest_outbox_event"].(string)); err != nil || at.Year() != 2024 {
		t.Errorf("oldest event: %v", got["oldest_outbox_event"])
	}
	if at, err := time.Parse(time.RFC3339, got["time"].(string)); err != nil || time.Since(at).Abs() > time.Minute {
		t.Errorf("time: %v", got["time"])
	}
	rates := got["rates"].(map[string]any)["last_minute"].(map[string]any)
	if diff := cmp.Diff(map[string]any{"confirmed": 0.0, "timed_out": 1.0, "rejected": 0.0, "retried": 0.0, "late": 0.0}, rates); diff != "" {
		t.Errorf("rates: %s", diff)
	}
	platforms := got["platforms"].([]any)
	for _, p := range platforms {
		delete(p.(map[string]any), "oldest_update")
	}
	if diff := cmp.Diff([]any{
		map[string]any{"platform": "instagram", "open": 2.0, "due": 1.0, "skipped": 1.0, "held": 0.0, "timeout_minutes": 1.5},
		map[string]any{"platform": "tiktok", "open": 1.0, "due": 1.0, "skipped": 0.0, "held": 1.0, "timeout_minutes": 10.0},
	}, platforms); diff != "" {
		t.Errorf("platforms: %s", diff)
	}
}

// The rates of an hour are counted now and then, those of a minute each time.
func TestRates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	store, err := repo.Open(repo.Config{URL: w.database})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	o := &operator{service: &service{store: store}}
	now := time.Now()
	fail := func(ago time.Duration) {
		w.exec(`INSERT INTO ledger_events (timestamp, event_type, entity_type, entity_id, metadata)
		        VALUES ($1, 'publish_reconciled', 'publish_log', 'x', '{"action":"marked_failed","reason":"webhook_timeout"}')`, now.Add(-ago))
	}
	check := func(at time.Time, minute, hour float64) {
		t.Helper()
		got := o.rates(t.Context(), at)
		if got.Minute == nil || got.Hour == nil || got.Minute.TimedOut != minute || got.Hour.TimedOut*60 != hour {
			t.Errorf("a minute %+v, an hour %+v, want %v and %v", got.Minute, got.Hour, minute, hour)
		}
	}
	fail(time.Second)
	fail(30 * time.Minute)
	check(now, 1, 2)
	fail(2 * time.Second)
	check(now.Add(hourlyFor-time.Second), 2, 2)
	o.hourly.counting.Lock() // somebody counts
	check(now.Add(hourlyFor), 2, 2)
	o.hourly.counting.Unlock()
	check(now.Add(hourlyFor), 2, 3)
	w.exec(`ALTER TABLE ledger_events RENAME TO away`)
	o.logger = slog.New(slog.DiscardHandler)
	if got := o.rates(t.Context(), now.Add(time.Minute)); got.Minute != nil || got.Hour != nil {
		t.Errorf("without a ledger: %+v", got)
	}
}

// A hold that is left from when logs were held holds nothing.
func TestNothingIsHeldWithoutHolds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	store, err := repo.Open(repo.Config{URL: w.database})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	w.publish("ig_1", "processing", `{}`, time.Hour)
	w.exec(`INSERT INTO publish_platforms (platform, held_since, held_until) VALUES ('instagram', now() - interval '1 minute', now() + interval '1 hour')`)
	for longest, held := range map[time.Duration]int{0: 0, time.Hour: 1} {
		o := &operator{service: &service{store: store, cfg: config{policy: reconciler.Policy{HoldMax: longest}}}}
		var answer statusAnswer
		if err := o.countRows(t.Context(), &answer); err != nil || len(answer.Platforms) != 1 || answer.Platforms[0].Held != held || len(answer.Holds) != held {
			t.Errorf("held for %s at most: %+v %+v, %v", longest, answer.Platforms, answer.Holds, err)
		}
	}
}

// The screen holds 80 columns, however long names and numbers are.
func TestStatusFitsTheScreen(t *testing.T) {
	t.Parallel()
	now := time.Date(2024, 1, 15, 10, 30, 0, 0, time.UTC)
	ago := func(d time.Duration) *time.Time { at := now.Add(-d); return &at }
	many, letters := 1_234_567, uint64(1_234_567)
	p := func(name string, open int, oldest *time.Time, timeout float64) platformStatus {
		return platformStatus{repo.Backlog{Platform: name, Open: open, Due: open, Skipped: open, Held: open, OldestUpdate: oldest}, timeout}
	}
	answer := statusAnswer{
		Ready:     map[string]string{"postgres": "ok", "nats": "ok", "consumers": "ok"},
		Platforms: []platformStatus{p("instagram", 12, ago(90*time.Second), 15), p(strings.Repeat("long", 20), 1_234_567, ago(100*24*time.Hour), 8760*60), p("new", 1, nil, 0.5)},
		Holds:     []reconciler.Hold{{Platform: strings.Repeat("long", 20), Since: now, Until: now}},
		Parked:    &many, OldestParked: ago(5 * time.Hour), Dead: &letters, Outbox: &many, OldestOutbox: ago(1500 * time.Millisecond),
		Consumers: []consumerStatus{{"webhooks", 1_234_567, 8000, 17}},
		Rates:     rates{Minute: &perMinute{Confirmed: 1_234_567.8, TimedOut: 0.04, Rejected: 12.34, Late: 1_234_567}},
		NextSweep: &consumer.NextSweep{At: now, Delay: consumer.SweepDelay(time.Hour), Reason: consumer.SweepRestored},
		Time:      &now, Version: "v1.2.3",
	}
	var screen strings.Builder
	printStatus(&screen, answer)
	const want = `consumers        ok
nats             ok
postgres         ok
held             longlonglonglonglon… until 2024-01-15T10:30:00Z
parked webhooks  1234567, the oldest for 5h
dead letters     1234567
outbox events    1234567, the oldest for 1s
next sweep       2024-01-15T10:30:00Z (restored, 1h after the last one)
version          v1.2.3

PLATFORM              OPEN     DUE      SKIPPED  HELD     OLDEST  TIMEOUT
instagram             12       12       12       12       1m30s   15m
longlonglonglonglon…  1234567  1234567  1234567  1234567  100d0h  8760h
new                   1        1        1        1        -       30s

A MINUTE     CONFIRMED  TIMED OUT  REJECTED  RETRIED  LATE
last minute  1234568    0.04       12.3      0        1234567
last hour    unknown    unknown    unknown   unknown  unknown

CONSUMER  PENDING  IN HAND  REDELIVERED
webhooks  1234567  8000     17
`
	if diff := cmp.Diff(want, screen.String()); diff != "" {
		t.Error(diff)
	}
	for line := range strings.Lines(screen.String()) {
		if n := len([]rune(line)); n > 81 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}

func TestAge(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 999 * time.Millisecond: "0s", 59 * time.Second: "59s", time.Minute: "1m", 61*time.Second + 1: "1m1s",
		2*time.Hour + 59*time.Second: "2h", 47*time.Hour + 59*time.Minute: "47h59m", 49 * time.Hour: "2d1h",
	} {
		at := now.Add(-d)
		if got := age(&at, &now); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
	if age(nil, &now) != "" || age(&now, nil) != "" {
		t.Error("there is an age of nothing")
	}
}

// A pipe gets one block after the other, and what stands in the way in its place.
func TestWatchOnAPipe(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	watch := func(more ...string) *program {
		return begin(t, append([]string{"status", "--watch", "--every=100ms", "--nats-url=" + w.nats.URL()}, more...)...)
	}
	plain, asJSON := watch(), watch("--json")
	says := func(p *program, text string) {
		t.Helper()
		eventually(t, text, func() bool { return strings.Contains(p.stdout.String(), text) })
	}
	says(plain, "Z\nno answer: nobody answers on publish.api.status")
	says(asJSON, `{"error":"nobody answers on publish.api.status`)
	s := w.serve()
	for range 2 {
		seen := len(plain.stdout.String())
		eventually(t, "another block", func() bool { return strings.Count(plain.stdout.String()[seen:], "\n\n20") > 1 })
	}
	says(plain, "dead letters ")
	says(asJSON, `"dead_letters":0`)
	s.stop()
	s.exits(exitOK, soon)
	seen := len(plain.stdout.String())
	eventually(t, "that it is gone", func() bool { return strings.Contains(plain.stdout.String()[seen:], "no answer: ") })
	for _, p := range []*program{plain, asJSON} {
		p.stop()
		p.exits(exitOK, soon)
		if text := p.stdout.String(); strings.Contains(text, "\x1b") || p.stderr.String() != "" {
			t.Errorf("it prints %q and %q", text, p.stderr.String())
		}
	}
	for line := range strings.Lines(asJSON.stdout.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("no JSON: %s", line)
		}
	}
}

func TestWatchRefuses(t *testing.T) {
	t.Parallel()
	for want, args := range map[string][]string{
		`--every is "soon": it must be a duration such as 2s, from 100ms to 24h`: {"status", "--watch", "--every=soon"},
		`--every is "1ms": it must be`:                                           {"status", "--watch", "--every=1ms"},
		`--every is of use with --watch alone`:                                   {"status", "--every=1s"},
		`--nats-creds (NATS_CREDS) is "/nowhere": it must be a file`:             {"status", "--watch", "--nats-creds=/nowhere"},
	} {
		p := begin(t, args...)
		p.exits(exitUsage, soon)
		p.says("publish-reconciler: " + want)
	}
}

func TestCut(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": "", "abcd": "abcd", "abcde": "abcd", "äöüß!": "äöüß", "小红书": "小红", "a小红书": "a小", "📷📷📷": "📷📷", "e\u0301abcd": "e\u0301abc", "ＡＢＣ": "ＡＢ",
	} {
		if got := cut(text, 4); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// What takes too long to count is unknown, and all else is told.
func TestStatusOfWhatTakesLong(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	store, err := repo.Open(repo.Config{URL: w.database})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	o := &operator{service: &service{store: store, cfg: config{policy: reconciler.Policy{HoldMax: time.Hour}}}}
	count := func() (answer statusAnswer) {
		t.Helper()
		if err := o.countRows(t.Context(), &answer); err != nil {
			t.Errorf("postgres is not ready: %s", err)
		}
		return answer
	}
	w.exec(`ALTER TABLE parked_webhooks RENAME TO away`)
	w.exec(`CREATE VIEW parked_webhooks AS SELECT now() AS received_at FROM pg_sleep(60)`)
	answer := count()
	if answer.Time == nil || answer.Platforms == nil || answer.Holds == nil || answer.Parked != nil || answer.Outbox != nil {
		t.Errorf("what waits is slow: %+v", answer)
	}
	var screen strings.Builder
	printStatus(&screen, statusAnswer{})
	for _, want := range []string{"held             unknown\n", "TIMEOUT\nunknown\n"} {
		if !strings.Contains(screen.String(), want) {
			t.Errorf("no %q in\n%s", want, screen.String())
		}
	}
	w.exec(`DROP VIEW parked_webhooks`)
	w.exec(`ALTER TABLE away RENAME TO parked_webhooks`)
	tx, err := w.db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.WithoutCancel(t.Context()))
	if _, err := tx.Exec(t.Context(), `LOCK TABLE publish_logs IN ACCESS EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	answer = count()
	if answer.Platforms != nil || answer.Holds == nil || answer.Parked == nil {
		t.Errorf("the logs are locked: %+v", answer)
	}
}
