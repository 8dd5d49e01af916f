package main

import (
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"publish-reconciler/streams"
)

// simulated is how long a short simulation may take on a machine that is busy.
const simulated = 2 * time.Minute

func TestSimulateEmbedded(t *testing.T) {
	t.Parallel()
	p := begin(t, "simulate", "--embedded", "--logs=300")
	p.exits(exitOK, simulated)
	contains(t, p.stdout.String(), "300 logs in")
	contains(t, p.stdout.String(), ", 0 wrong")
	for _, line := range []string{
		`confirmed +success, webhook_confirmed +186 +186 +\d+ +0`,
		`late +success, webhook_late +15 +15 +0 +0`,
		`lost +failed, webhook_timeout +15 +15 +0 +0`,
		`unclear +processing, webhook_unclear +6 +6 +\d+ +0`,
		`logs with dead letters +9 +9`,
		`logs with messages left +0 +0`,
	} {
		if !regexp.MustCompile(`(?m)^` + line + `$`).MatchString(p.stdout.String()) {
			t.Errorf("no line %s in\n%s", line, p.stdout.String())
		}
	}
}

func TestSimulateTellsItsStory(t *testing.T) {
	t.Parallel()
	tell := func(seed string) string {
		p := begin(t, "simulate", "--story", "--logs=50", "--seed="+seed)
		p.exits(exitOK, soon)
		return p.stdout.String()
	}
	first := tell("3")
	if first != tell("3") || first == tell("4") || strings.Count(first, "\n") != 50 {
		t.Errorf("the story is\n%s", first)
	}
}

func TestSimulateRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		args  []string
		wants []string
	}{
		"all that is wrong at once": {
			[]string{"--logs=0", "--rate=-5", "--seed=-1", "--timeout=1ms", "--late=1.5", "--lost=x", "--show=-1", "--events=maybe", "--recheck=12"},
			[]string{
				`--logs is "0": it must be a whole number from 1 to 10000000`,
				`--rate is "-5": it must be a number of logs a second such as 500/s, from 0.001 to 100000`,
				`--seed is "-1": it must be a whole number from 0 to 18446744073709551615`,
				`--timeout is "1ms": it must be a duration such as 2s, from 1s to 1h`,
				`--late is "1.5": it must be a share of the logs such as 0.05, from 0 to 1`,
				`--lost is "x": it must be a share`,
				`--show is "-1": it must be a whole number from 0 to 1000`,
				`--events (EVENTS) is "maybe": it must be one of off, on`,
				`--recheck is "12": it must be the number of a simulation, twelve digits`,
				`--database-url (DATABASE_URL) is not set`,
			},
		},
		"shares past one": {
			[]string{"--embedded", "--late=0.6", "--lost=0.5"},
			[]string{`--late 0.6, --lost 0.5, `, `add up to 1.38: together they must be at most 1`},
		},
		"NaN":                      {[]string{"--embedded", "--late=NaN", "--rate=NaN"}, []string{`--late is "NaN"`, `--rate is "NaN"`}},
		"less patience than a log": {[]string{"--embedded", "--timeout=10s", "--patience=10s"}, []string{`--patience is "10s": it must be longer than --timeout, which is 10s`}},
		"nothing to recheck":       {[]string{"--embedded", "--recheck=123456789012"}, []string{`it must be without --embedded`}},
	}
	for name, test := range tests {
		p := begin(t, append([]string{"simulate"}, test.args...)...)
		p.exits(exitUsage, soon)
		for _, want := range test.wants {
			if !strings.Contains(p.stderr.String(), want) {
				t.Errorf("%s: no %q in\n%s", name, want, p.stderr.String())
			}
		}
	}
}

func TestSimulateSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := begin(t, "simulate", "--database-url="+w.database, "--nats-url="+w.nats.URL())
	p.exits(exitFailure, soon)
	p.says("there is no stream PUBLISH_CHECKS")
	p.says("is the service running (publish-reconciler run)?")
	w.exec(`DROP TABLE publish_reconciler_migrations`)
	p = begin(t, "simulate", "--database-url="+w.database, "--nats-url="+w.nats.URL())
	p.exits(exitFailure, soon)
	p.says("publish-reconciler migrate")
}

// simulation runs simulate in this world to its end.
func (w *world) simulation(status int, more ...string) *program {
	w.Helper()
	p := begin(w.TB, append([]string{"simulate", "--database-url=" + w.database, "--nats-url=" + w.nats.URL()}, more...)...)
	p.exits(status, simulated)
	return p
}

// number is the simulation's.
func (p *program) number() string {
	p.Helper()
	found := regexp.MustCompile(`simulation (\d{12})`).FindStringSubmatch(p.stderr.String())
	if found == nil {
		p.Fatalf("no number of a simulation in\n%s", p.stderr.String())
	}
	return found[1]
}

// logOf is the id of a log of the last simulation that is of a kind.
func (w *world) logOf(kind string) string {
	w.Helper()
	return w.text(`SELECT min(id::text) FROM publish_logs WHERE extra_metadata->>'caption' LIKE '%“' || $1 || '”'`, kind)
}

// What is wrong is found, each thing by itself.
func TestSimulateFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve()
	// Posts and logs of others are none of its business.
	w.publish("other", "failed", `{}`, time.Hour)
	w.webhook("instagram", `{`)
	plan := []string{"--logs=150", "--timeout=2s", "--seed=9"}
	number := w.simulation(exitOK, plan...).number()
	recheck := append([]string{"--recheck=" + number}, plan...)
	contains(t, w.simulation(exitOK, recheck...).stdout.String(), "150 logs, 0 wrong")

	tables := []string{"publish_logs", "ledger_events", "parked_webhooks"}
	for _, table := range tables {
		w.exec(`CREATE TABLE saved_` + table + ` AS TABLE ` + table)
	}
	row, ledger := func(set string) string { return `UPDATE publish_logs SET ` + set + ` WHERE id::text = $1` }, ` WHERE entity_id = $1`
	metadata := func(fields string) string { return row(`extra_metadata = extra_metadata || '` + fields + `'`) }
	addEvent := func(kind, fields string) string {
		return `INSERT INTO ledger_events (event_type, severity, entity_type, entity_id, metadata) VALUES ('` + kind + `', 'info', 'publish_log', $1, '` + fields + `')`
	}
	// What is done to a log of which kind, and what of it must be told.
	for name, test := range map[string]struct{ kind, sql, want string }{
		"another status":          {"confirmed", row(`status = 'failed'`), `status is "failed", must be "success"`},
		"still open":              {"lost", row(`status = 'processing'`), `status is "processing", must be "failed"`},
		"closed though unclear":   {"unclear", row(`status = 'success'`), `status is "success", must be "processing"`},
		"no row":                  {"late", `DELETE FROM publish_logs WHERE id::text = $1`, `there is no row`},
		"another reason":          {"late", metadata(`{"reconciliation_reason":"webhook_confirmed"}`), `extra_metadata.reconciliation_reason is "webhook_confirmed", must be "webhook_late"`},
		"another trigger":         {"lost", metadata(`{"reconciliation_trigger":"webhook"}`), `extra_metadata.reconciliation_trigger is "webhook", must be "check"`},
		"no reason":               {"rejected", row(`extra_metadata = extra_metadata - 'reconciled'`), `extra_metadata.reconciled is`},
		"the publisher's is gone": {"duplicate", row(`extra_metadata = extra_metadata - 'caption'`), `extra_metadata.caption is "<nil>", must be`},
		"a webhook that was none": {"lost", metadata(`{"webhook_received":true}`), `extra_metadata.webhook_received is "true", must be "<nil>"`},
		"another webhook":         {"confirmed", metadata(`{"webhook_status":"live"}`), `extra_metadata.webhook_status is "live"`},
		"another address":         {"before-row", row(`external_url = 'https://elsewhere.example'`), `external_url is "https://elsewhere.example"`},
		"other words":             {"rejected", row(`error_message = 'no'`), `error_message is "no"`},
		"an error on a success":   {"late", row(`error_message = 'No webhook received after 0.1 minutes'`), `error_message is "No webhook`},
		"never published":         {"confirmed", row(`published_at = NULL`), `published_at is set is "false"`},
		"retried":                 {"lost", row(`retry_count = 1`), `retry_count is "1", must be "0"`},
		"a change too many":       {"confirmed", addEvent("publish_reconciled", `{"action":"marked_success","reason":"webhook_confirmed"}`), `must be [{marked_success webhook_confirmed}]`},
		"a change of an open log": {"unclear", addEvent("publish_reconciled", `{"action":"marked_success","reason":"webhook_confirmed"}`), `the ledger tells the state changes [{marked_success webhook_confirmed}], must be []`},
		"given up in haste":       {"confirmed", addEvent("publish_reconciled", `{"action":"marked_failed","reason":"webhook_timeout","deadline":"2100-01-01T00:00:00Z"}`), `it has failed at its deadline, 2100-01-01T00:00:00Z, and its webhook had been stored at`},
		"no change":               {"lost", `DELETE FROM ledger_events` + ledger, `the ledger tells the state changes [], must be [{marked_failed webhook_timeout}]`},
		"one change of two":       {"late", `DELETE FROM ledger_events` + ledger + ` AND metadata->>'action' = 'marked_failed'`, `the ledger tells the state changes [{marked_success webhook_late}]`},
		"changes the wrong way":   {"late", `UPDATE ledger_events SET timestamp = timestamp - interval '1 hour'` + ledger + ` AND metadata->>'action' = 'marked_success'`, `[{marked_success webhook_late} {marked_failed webhook_timeout}], must be [{marked_failed webhook_timeout} {marked_success webhook_late}]`},
		"too early":               {"lost", `UPDATE ledger_events SET timestamp = timestamp - interval '1 minute'` + ledger, `time is`},
		"by whom":                 {"confirmed", `UPDATE ledger_events SET metadata = metadata || '{"trigger":"sweep"}'` + ledger + ` AND event_type = 'publish_reconciled'`, `of state change 1 the trigger is "sweep"`},
		"how bad":                 {"lost", `UPDATE ledger_events SET severity = 'info'` + ledger, `of state change 1 the severity is "info", must be "warn"`},
		"a webhook told twice": {"duplicate", `INSERT INTO ledger_events (event_type, severity, entity_type, entity_id, metadata)
			SELECT event_type, severity, entity_type, entity_id, metadata FROM ledger_events` + ledger + ` AND event_type = 'publish_webhook_received'`, `the number of webhooks that the ledger tells with status`},
		"a skip told twice":      {"unclear", addEvent("publish_reconcile_skipped", `{"webhook_status":"in_review","reason":"webhook_unclear"}`), `the number of skips that the ledger tells is "2", must be "1"`},
		"an unclear one untold":  {"reviewed", `DELETE FROM ledger_events` + ledger + ` AND event_type = 'publish_webhook_received' AND metadata->>'webhook_status' = 'in_review'`, `the unclear webhook was recorded 0 times`},
		"an override":            {"rejected", addEvent("publish_overridden", `{}`), `the ledger has an event "publish_overridden"`},
		"another id of a change": {"before-row", `UPDATE ledger_events SET id = gen_random_uuid()` + ledger + ` AND event_type = 'publish_reconciled'`, `there is no outcome event of the change`},
		"parked": {"before-row", `INSERT INTO parked_webhooks (id, platform, external_post_id, payload, received_at)
			SELECT gen_random_uuid(), platform, external_post_id, '{}', now() FROM publish_logs WHERE id::text = $1`, `parked webhooks is "1", must be "0"`},
	} {
		id := w.logOf(test.kind)
		w.exec(test.sql, id)
		w.finds(name, id, test.want, recheck)
		for _, table := range tables {
			w.exec(`TRUNCATE ` + table)
			w.exec(`INSERT INTO ` + table + ` TABLE saved_` + table)
		}
	}
	w.messages(recheck)

	// In the end nothing is left but what others have.
	contains(t, w.simulation(exitFailure, append(recheck, "--cleanup")...).stdout.String(), "wrong")
	for sql, want := range map[string]string{
		`SELECT string_agg(external_post_id, ' ') FROM publish_logs`: "other",
		`SELECT count(*)::text FROM ledger_events`:                   "0",
		`SELECT count(*)::text FROM parked_webhooks`:                 "0",
	} {
		if got := w.text(sql); got != want {
			t.Errorf("%s: %s, want %s", sql, got, want)
		}
	}
	if letters := w.letters(); len(letters) != 1 || string(letters[0].Data) != "{" {
		t.Errorf("dead letters %v are left", letters)
	}
}

// finds has the simulation looked at again: it must tell this of this log alone, with its history.
func (w *world) finds(name, id, want string, recheck []string) {
	w.Helper()
	p := w.simulation(exitFailure, recheck...)
	out := p.stdout.String()
	history := regexp.MustCompile(`(?m)^id +`+id+`$`).MatchString(out) || want == "there is no row"
	if !strings.Contains(out, "\nlog "+id+" (") || !strings.Contains(out, want) || !history || strings.Count(out, " must be success")+strings.Count(out, ") must be failed")+strings.Count(out, ") must be processing") != 1 {
		w.Errorf("%s of %s: no %q in\n%s", name, id, want, out)
	}
	p.says("1 of 150 logs are not as they must be")
}

// messages are found too that are left, or should not be there, or are not.
func (w *world) messages(recheck []string) {
	w.Helper()
	js := w.jetstream()
	id := w.logOf("lost")
	schedule := nats.NewMsg("publish.schedule.check." + id)
	schedule.Header.Set("Nats-Schedule", "@at 2100-01-01T00:00:00Z")
	schedule.Header.Set("Nats-Schedule-Target", "publish.check."+id)
	w.stores(js, schedule)
	w.finds("a pending check", id, "a message is left on publish.schedule.check."+id, recheck)
	checks, err := js.Stream(w.Context(), streams.StreamChecks)
	if err != nil {
		w.Fatal(err)
	}
	if err := checks.Purge(w.Context(), jetstream.WithPurgeSubject(schedule.Subject)); err != nil {
		w.Fatal(err)
	}

	id = w.logOf("malformed")
	dead, err := js.Stream(w.Context(), streams.StreamDead)
	if err != nil {
		w.Fatal(err)
	}
	letters := w.letters()
	own := slices.IndexFunc(letters, func(l *jetstream.RawStreamMsg) bool { return l.Header.Get("Simulated-Log") == id })
	if own < 0 {
		w.Fatalf("no dead letter of log %s", id)
	}
	twice := nats.NewMsg("publish.dead.webhook")
	twice.Data, twice.Header = letters[own].Data, letters[own].Header
	twice.Header.Set(nats.MsgIdHdr, "twice")
	place := w.stores(js, twice)
	w.finds("a letter twice", id, "there are two dead letters of the message at sequence", recheck)
	for _, sequence := range []uint64{place, letters[own].Sequence} {
		if err := dead.DeleteMsg(w.Context(), sequence); err != nil {
			w.Fatal(err)
		}
	}
	w.finds("no letter", id, "there is no dead letter of its broken webhook", recheck)
}

func (w *world) stores(js jetstream.JetStream, msg *nats.Msg) uint64 {
	w.Helper()
	ack, err := js.PublishMsg(w.Context(), msg)
	if err != nil {
		w.Fatal(err)
	}
	return ack.Sequence
}

func (w *world) jetstream() jetstream.JetStream {
	w.Helper()
	js, err := jetstream.New(w.client())
	if err != nil {
		w.Fatal(err)
	}
	return js
}

func (w *world) webhook(platform, body string) {
	w.Helper()
	msg := nats.NewMsg(streams.WebhookSubject(platform))
	msg.Data = []byte(body)
	w.stores(w.jetstream(), msg)
}

// letters are all dead letters.
func (w *world) letters() (letters []*jetstream.RawStreamMsg) {
	w.Helper()
	dead, err := w.jetstream().Stream(w.Context(), streams.StreamDead)
	if err != nil {
		w.Fatal(err)
	}
	for sequence := dead.CachedInfo().State.FirstSeq; sequence <= dead.CachedInfo().State.LastSeq; sequence++ {
		if letter, err := dead.GetMsg(w.Context(), sequence); err == nil {
			letters = append(letters, letter)
		}
	}
	return letters
}

// A service that does nothing is waited for, but not for ever.
func TestSimulateLosesPatience(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve()
	s.stop()
	<-s.ended
	p := w.simulation(exitFailure, "--logs=20", "--timeout=1s", "--patience=2s", "--show=1", "--cleanup")
	p.says("nothing moved for 2s while it waited for ")
	contains(t, p.stdout.String(), "20 logs in")
	contains(t, p.stdout.String(), "20 wrong")
	contains(t, p.stdout.String(), `status is "processing", must be`)
	if n := strings.Count(p.stdout.String(), "\nlog "); n != 1 {
		t.Errorf("%d logs are shown", n)
	}
	if left := w.text(`SELECT count(*)::text FROM publish_logs`); left != "0" {
		t.Errorf("%s rows are left", left)
	}
	checks, err := w.jetstream().Stream(t.Context(), streams.StreamChecks)
	if err != nil {
		t.Fatal(err)
	}
	info, err := checks.Info(t.Context(), jetstream.WithSubjectFilter("publish.>"))
	if err != nil {
		t.Fatal(err)
	}
	delete(info.State.Subjects, streams.SubjectScheduleSweep)
	delete(info.State.Subjects, streams.SubjectSchedulePrune)
	delete(info.State.Subjects, streams.SubjectSweep)
	if len(info.State.Subjects) > 0 {
		t.Errorf("messages are left on %v", info.State.Subjects)
	}
}

func TestSimulateIsStopped(t *testing.T) {
	t.Parallel()
	p := spawn(t, []string{"TMPDIR=" + openDir(t)}, "simulate", "--embedded", "--logs=100000", "--rate=50")
	eventually(t, "it plays", func() bool { return strings.Contains(p.stderr.String(), "logs: playing") })
	p.signal(syscall.SIGINT)
	p.exits(exitFailure, 15*time.Second)
	p.says("publish-reconciler: stopped before the end: nothing is proven")
	if left, err := os.ReadDir(p.tmp()); err != nil || len(left) > 0 {
		t.Errorf("files are left: %v, %v", left, err)
	}
}

func TestBar(t *testing.T) {
	t.Parallel()
	for done, want := range map[int]int{0: 0, 50: barWidth / 2, 100: barWidth} {
		if got := bar(done, 100); strings.Count(got, "=") != want || len(got) != barWidth+2 {
			t.Errorf("%s: %q", strconv.Itoa(done), got)
		}
	}
}
