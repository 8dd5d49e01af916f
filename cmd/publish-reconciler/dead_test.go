package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"publish-reconciler/streams"
	"publish-reconciler/streams/streamstest"
)

// graveyard is a NATS server with the streams, and no service.
type graveyard struct {
	*world
	js jetstream.JetStream
}

func newGraveyard(tb testing.TB) *graveyard {
	tb.Helper()
	g := &graveyard{world: &world{TB: tb, nats: streamstest.New(tb)}}
	g.js = g.nats.JetStream(tb)
	if err := streams.Ensure(tb.Context(), g.js, streams.Config{}); err != nil {
		tb.Fatal(err)
	}
	return g
}

// died is a message that a letter is made of.
type died struct {
	jetstream.Msg
	subject, body string
	header        nats.Header
}

func (d died) Subject() string      { return d.subject }
func (d died) Data() []byte         { return []byte(d.body) }
func (d died) Headers() nats.Header { return d.header }

// bury publishes the letter of a message, and returns its sequence.
func (g *graveyard) bury(kind streams.Kind, subject, body string, reason streams.Reason, cause string) string {
	g.Helper()
	origin := &jetstream.MsgMetadata{Stream: streams.StreamWebhooks, Sequence: jetstream.SequencePair{Stream: 7}, Timestamp: time.Now().Add(-time.Hour)}
	letter := streams.DeadLetter(kind, died{subject: subject, body: body, header: nats.Header{"traceparent": {"00-1"}}}, origin, reason, errors.New(cause), 1<<20)
	letter.Header.Del(nats.MsgIdHdr)
	ack, err := g.js.PublishMsg(g.Context(), letter)
	if err != nil {
		g.Fatal(err)
	}
	return strconv.FormatUint(ack.Sequence, 10)
}

func (g *graveyard) webhook(reason streams.Reason) string {
	g.Helper()
	return g.bury(streams.KindWebhook, "publish.webhook.tiktok", "poison", reason, "the body is not JSON")
}

func (g *graveyard) check(reason streams.Reason) string {
	g.Helper()
	return g.bury(streams.KindCheck, "publish.check.x", "", reason, "no such log")
}

// left are the sequences of the letters there are.
func (g *graveyard) left() (all []string) {
	g.Helper()
	letters, err := streams.OpenLetters(g.Context(), g.js)
	if err != nil {
		g.Fatal(err)
	}
	err = letters.Each(g.Context(), streams.LetterFilter{}, func(l streams.Letter) error {
		all = append(all, strconv.FormatUint(l.Sequence, 10))
		return nil
	})
	if err != nil {
		g.Fatal(err)
	}
	return all
}

// back counts the messages that lie on a subject again.
func (g *graveyard) back(stream, subject string) (n int) {
	g.Helper()
	s, err := g.js.Stream(g.Context(), stream)
	if err != nil {
		g.Fatal(err)
	}
	info, err := s.Info(g.Context(), jetstream.WithSubjectFilter(subject))
	if err != nil {
		g.Fatal(err)
	}
	for _, count := range info.State.Subjects {
		n += int(count)
	}
	return n
}

func same(tb testing.TB, what string, got, want any) {
	tb.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		tb.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestDeadList(t *testing.T) {
	t.Parallel()
	g := newGraveyard(t)
	head := `SEQ +DEAD SINCE +KIND +REASON +SUBJECT +SENT +SIZE +ERROR`
	g.types(exitOK, "dead", "list").looks(head)
	g.webhook("malformed_json")
	g.check("log_not_found")
	g.webhook("refused_by_database")
	first := `1 +` + aTime + `  webhook  malformed_json +publish\.webhook\.tiktok  ` + aTime + `  6 +the body is not JSON`
	second := `2 +` + aTime + `  check +log_not_found +publish\.check\.x +` + aTime + `  0 +no such log`
	third := `3 +` + aTime + `  webhook  refused_by_database  publish\.webhook\.tiktok  ` + aTime + `  6 +the body is not JSON`
	for want, args := range map[string][]string{
		"": {"--kind=sweep"},
		"\n" + third + "\n" + second + "\n" + first: {"--since=1h"},
		"\n" + third + "\n" + first:                 {"--kind=webhook"},
		"\n" + first:                                {"--reason=malformed_json"},
		"\n" + third:                                {"--limit=1"},
		"\n" + second + "\n" + first:                {"--before=3", "--since=2024-01-15T10:30:00Z"},
	} {
		g.types(exitOK, append([]string{"dead", "list"}, args...)...).looks(head + want)
	}
	g.types(exitOK, "dead", "list", "--since=2999-01-15T10:30:00Z").looks(head)

	p := g.types(exitOK, "dead", "list", "--json", "--limit=2")
	var page struct {
		Letters []map[string]any `json:"letters"`
		Next    uint64           `json:"next"`
	}
	if err := json.Unmarshal([]byte(p.stdout.String()), &page); err != nil || len(page.Letters) != 2 || page.Next != 2 {
		t.Fatalf("%v in %s", err, p.stdout.String())
	}
	letter := page.Letters[1]
	for _, name := range []string{"time", "original_time"} {
		if _, err := time.Parse(time.RFC3339, letter[name].(string)); err != nil {
			t.Error(err)
		}
		delete(letter, name)
	}
	same(t, "letter", letter, map[string]any{
		"sequence": 2.0, "kind": "check", "reason": "log_not_found", "error": "no such log", "subject": "publish.check.x", "stream": "PUBLISH_WEBHOOKS",
		"original_sequence": 7.0, "size": 0.0, "whole_size": 0.0, "replays": 0.0, "headers": map[string]any{"traceparent": []any{"00-1"}},
	})
	g.types(exitOK, "dead", "list", "--json", "--kind=sweep").looks(`{"letters":\[\],"next":null}`)
}

func TestDeadShow(t *testing.T) {
	t.Parallel()
	g := newGraveyard(t)
	body := "{\n\t\"a\": \"\x1b[2J\u009b\u202e\xff\U000e0041ü\"\r\n}\x00"
	seq := g.bury(streams.KindWebhook, "publish.webhook.tiktok", body, "malformed_json", "the body is not JSON")
	g.types(exitOK, "dead", "show", seq).looks(
		`the body is not JSON`, ``,
		`letter +1`, `dead since +`+aTime, `kind +webhook`, `reason +malformed_json`, `subject +publish.webhook.tiktok`, `sent +`+aTime,
		`lay in +PUBLISH_WEBHOOKS 7`, `payload +`+strconv.Itoa(len(body))+` bytes`, `header traceparent +00-1`, ``,
		`{`, `	"a": "\\x1b\[2J\\u009b\\u202e\\xff\\U000e0041ü"\\r`, `}\\x00`)
	if got := g.types(exitOK, "dead", "show", seq, "--raw").stdout.String(); got != body {
		t.Errorf("raw is %q", got)
	}
	var shown struct {
		Body   *string `json:"body"`
		Base64 []byte  `json:"body_base64"`
	}
	if err := json.Unmarshal([]byte(g.types(exitOK, "dead", "show", seq, "--json").stdout.String()), &shown); err != nil || shown.Body != nil || string(shown.Base64) != body {
		t.Errorf("%v, %+v", err, shown)
	}
	text := g.bury(streams.KindCheck, "publish.check.x", "\u009b text", "invalid_value", "wrong")
	shown.Base64 = nil
	if err := json.Unmarshal([]byte(g.types(exitOK, "dead", "show", text, "--json").stdout.String()), &shown); err != nil || *shown.Body != "\u009b text" || shown.Base64 != nil {
		t.Errorf("%v, %+v", err, shown)
	}
	empty := g.check("log_not_found")
	g.types(exitOK, "dead", "show", empty).looks(`no such log`, `(?s:.*)`, `payload +0 bytes`, `header traceparent +00-1`)
	g.types(exitFailure, "dead", "show", "9").says("publish-reconciler: letter 9: no such dead letter\n")

	cut := nats.NewMsg("publish.dead.webhook")
	cut.Header.Set(streams.HeaderDeadTruncated, "1000")
	cut.Header.Set(streams.HeaderDeadReplays, "2")
	cut.Data = []byte("0123")
	if _, err := g.js.PublishMsg(t.Context(), cut); err != nil {
		t.Fatal(err)
	}
	g.types(exitOK, "dead", "show", "4").looks(`The letter does not say why\.`, ``, `letter +4`, `dead since +`+aTime, `kind +webhook`,
		`replayed +2× before`, `payload +4 bytes of 1000: the rest was cut off`, ``, `0123`)
}

// A letter is what others have sent: it reaches the terminal as words, whatever it holds.
func TestDeadControlCharacters(t *testing.T) {
	t.Parallel()
	g := newGraveyard(t)
	letter := nats.NewMsg("publish.dead.we\u009bbhook")
	for _, name := range []string{streams.HeaderDeadReason, streams.HeaderDeadError, streams.HeaderDeadSubject, streams.HeaderDeadStream, streams.HeaderDeadTime, "their"} {
		letter.Header.Set(name, "\x1b]0;owned\x07 \u009b31m \u202egnp.exe \x7f\xff")
	}
	letter.Data = []byte("\x1b[2J\x9b")
	if _, err := g.js.PublishMsg(t.Context(), letter); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"list"}, {"list", "--json"}, {"show", "1"}, {"show", "1", "--json"}, {"replay", "1", "--yes"}, {"drop", "1", "--yes"}} {
		status := exitOK
		if args[0] == "replay" {
			status = exitFailure
		}
		p := g.types(status, append([]string{"dead"}, args...)...)
		text := p.stdout.String() + p.stderr.String()
		if args[len(args)-1] == "--json" && !json.Valid([]byte(p.stdout.String())) {
			t.Errorf("%v prints %s", args, text)
		}
		for _, r := range text {
			if r != '\n' && !unicode.IsPrint(r) {
				t.Errorf("%v prints %q in\n%q", args, r, text)
			}
		}
	}
}

func TestDeadReplay(t *testing.T) {
	t.Parallel()
	g := newGraveyard(t)
	one, two := g.webhook("malformed_json"), g.check("log_not_found")
	g.webhook("malformed_json")
	g.webhook("refused_by_database")
	g.types(exitOK, "dead", "replay", two, one, one, "--yes").looks(
		`KIND +REASON +LETTERS`, `check +log_not_found +1`, `webhook +malformed_json +1`, `2 letters`, `2 letters replayed`)
	same(t, "letters", g.left(), []string{"3", "4"})
	same(t, "webhooks", g.back(streams.StreamWebhooks, "publish.webhook.*"), 1)
	same(t, "checks", g.back(streams.StreamChecks, "publish.check.*"), 1)
	g.types(exitFailure, "dead", "replay", two, one, "--yes").says("publish-reconciler: letter 2: no such dead letter; nothing was replayed\n")
	p := g.types(exitOK, "dead", "replay", "3", one, two, "--yes")
	p.says("1 of 3 letters are there, the others are gone\n")
	p.looks(`(?s:.*)`, `1 letter`, `1 letter replayed`)
	g.webhook("malformed_json")
	g.types(exitOK, "dead", "replay", "--reason=malformed_json", "--since=1h", "--yes").looks(`KIND +REASON +LETTERS`, `webhook +malformed_json +1`, `1 letter`, `1 letter replayed`)
	same(t, "letters", g.left(), []string{"4"})
	g.types(exitOK, "dead", "replay", "--kind=check", "--yes").looks(`no dead letters match`)
	g.types(exitOK, "dead", "replay", "--all", "--yes").looks(`(?s:.*)`, `1 letter replayed`)
	same(t, "webhooks", g.back(streams.StreamWebhooks, "publish.webhook.*"), 4)
	g.types(exitOK, "dead", "replay", "--all", "--yes").looks(`no dead letters match`)
	g.types(exitOK, "dead", "list").looks(`SEQ .*`)
}

func TestDeadDrop(t *testing.T) {
	t.Parallel()
	g := newGraveyard(t)
	for range 3 {
		g.webhook("malformed_json")
		g.check("log_not_found")
	}
	g.types(exitOK, "dead", "drop", "1", "2", "--yes").looks(`KIND +REASON +LETTERS`, `check +log_not_found +1`, `webhook +malformed_json +1`, `2 letters`, `2 letters dropped`)
	g.types(exitOK, "dead", "drop", "--kind=check", "--yes").looks(`(?s:.*)`, `2 letters`, `2 letters dropped`)
	same(t, "letters", g.left(), []string{"3", "5"})
	g.types(exitOK, "dead", "drop", "3", "4", "--yes").says("1 of 2 letters are there, the others are gone")
	g.types(exitOK, "dead", "drop", "--all", "--yes").looks(`(?s:.*)`, `1 letter dropped`)
	g.types(exitOK, "dead", "drop", "--all", "--yes").looks(`no dead letters match`)
	same(t, "webhooks", g.back(streams.StreamWebhooks, ">"), 0)
}

// Nobody is there to ask.
func TestDeadWithoutTerminal(t *testing.T) {
	t.Parallel()
	g := newGraveyard(t)
	g.webhook("malformed_json")
	p := g.types(exitFailure, "dead", "drop", "--all")
	p.says("publish-reconciler: nothing was dropped: there is no terminal to ask on, and --yes was not given\n")
	p.looks(`KIND +REASON +LETTERS`, `webhook +malformed_json +1`, `1 letter`)
	g.types(exitFailure, "dead", "replay", "1").says("nothing was replayed: there is no terminal to ask on, and --yes was not given")
	same(t, "letters", g.left(), []string{"1"})
	g.types(exitOK, "dead", "replay", "--kind=sweep").looks(`no dead letters match`)
}

func TestDeadWrongArguments(t *testing.T) {
	t.Parallel()
	for want, args := range map[string][]string{
		"which letters? Name their sequences, or filters (--kind, --reason, --since), or --all\n":                              {"drop", "--yes"},
		"which letters? Name their sequences, or filters (--kind, --reason, --since), or --all\n ":                             {"replay"},
		"which letters? Name their sequences, or filters (--kind, --reason, --since), or --all, and one of the three only\n":   {"drop", "1", "--all"},
		"which letters? Name their sequences, or filters (--kind, --reason, --since), or --all, and one of the three only\n ":  {"replay", "1", "--kind=check"},
		"which letters? Name their sequences, or filters (--kind, --reason, --since), or --all, and one of the three only\n  ": {"replay", "--since=1h", "--all"},
		`"0" is no letter's sequence: it must be a whole number from 1`:                                                        {"replay", "0"},
		`"-1" is no letter's sequence`:                                                {"drop", "--yes", "--", "-1"},
		`"all" is no letter's sequence`:                                               {"show", "all"},
		`"x" is no letter's sequence`:                                                 {"list", "--before=x"},
		`--kind is "webhooks": it must be webhook, check or sweep`:                    {"list", "--kind=webhooks"},
		`--kind is "": it must be webhook, check or sweep`:                            {"drop", "--kind="},
		`--reason is "": it must be one word`:                                         {"drop", "--kind=webhook", "--reason="},
		`--reason is "a b": it must be one word`:                                      {"list", "--reason=a b"},
		`--since is "": it must be a time ago such as 1h`:                             {"drop", "--since="},
		`--since is "-1h": it must be a time ago`:                                     {"replay", "--since=-1h"},
		`--since is "yesterday": it must be a time ago`:                               {"list", "--since=yesterday"},
		`--limit is "0": it must be a whole number from 1 to 500`:                     {"list", "--limit=0"},
		`--limit is "501": it must be a whole number from 1 to 500`:                   {"list", "--limit=501"},
		`--json and --raw can't be had together`:                                      {"show", "1", "--json", "--raw"},
		`expected "<seq>"`:                                                            {"show"},
		`expected one of "list"`:                                                      {},
		`--nats-url (NATS_URL) is "(not a URL)": it must be URLs such as nats://host`: {"list", "--nats-url=u:hush@h"},
	} {
		p := begin(t, append([]string{"dead"}, args...)...)
		p.exits(exitUsage, soon)
		p.says(strings.TrimRight(want, " "))
		if p.stdout.String() != "" {
			t.Errorf("%v prints %s", args, p.stdout.String())
		}
	}
	p := begin(t, "dead", "list", "--kind=x", "--reason=", "--since=x", "--limit=x")
	p.exits(exitUsage, soon)
	for _, flag := range []string{"--kind", "--reason", "--since", "--limit"} {
		p.says(flag + " is ")
	}
}

func TestDeadWithoutStreams(t *testing.T) {
	t.Parallel()
	w := &world{TB: t, nats: streamstest.New(t)}
	w.types(exitFailure, "dead", "list").says("publish-reconciler: stream PUBLISH_DEAD is missing: has the service (publish-reconciler run) ever been here?\n")
	g := newGraveyard(t)
	g.webhook("malformed_json")
	if err := g.js.DeleteStream(t.Context(), streams.StreamWebhooks); err != nil {
		t.Fatal(err)
	}
	g.types(exitFailure, "dead", "replay", "1", "--yes").says("publish-reconciler: stream PUBLISH_WEBHOOKS is missing\n")
	g.types(exitOK, "dead", "drop", "1", "--yes")
}

// A replay that was cut off some time ago leaves its letter in doubt, and whoever looks decides.
func TestDeadInDoubt(t *testing.T) {
	t.Parallel()
	g := newGraveyard(t)
	g.types(exitOK, "dead", "replay", g.webhook("malformed_json"), "--yes") // which makes the bucket
	doubtful := g.webhook("malformed_json")
	letters, err := streams.OpenLetters(t.Context(), g.js)
	if err != nil {
		t.Fatal(err)
	}
	letter, err := letters.Get(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	claims, err := g.js.KeyValue(t.Context(), streams.BucketReplays)
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now().Add(-2 * time.Minute).UTC()
	if _, err := claims.PutString(t.Context(), fmt.Sprintf("2-%d", letter.Time.UnixNano()), begun.Format(time.RFC3339Nano)); err != nil {
		t.Fatal(err)
	}
	p := g.types(exitFailure, "dead", "replay", doubtful, "--yes")
	p.says("letter 2: a replay was begun at " + begun.Format(time.RFC3339) + " and cut off, and the original may be back on its subject since then\n" +
		"publish-reconciler: 1 letter can't be replayed, 1 of them because a replay was cut off: with --again they are, which may be the second time\n")
	same(t, "webhooks", g.back(streams.StreamWebhooks, "publish.webhook.*"), 1)
	g.types(exitOK, "dead", "replay", doubtful, "--yes", "--again").looks(`(?s:.*)`, `1 letter replayed`)
	same(t, "webhooks", g.back(streams.StreamWebhooks, "publish.webhook.*"), 2)
	same(t, "letters", g.left(), []string(nil))
}

// What could not be processed is, once what was wrong is mended.
func TestDeadReplayMends(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve()
	g := &graveyard{world: w, js: w.nats.JetStream(t)}
	id := uuid.New()
	check := nats.NewMsg(streams.CheckSubject(id))
	check.Data = []byte(`{"timeout_minutes":0}`)
	check.Header.Set(streams.HeaderTries, "5") // it has waited for its log
	if _, err := g.js.PublishMsg(t.Context(), check); err != nil {
		t.Fatal(err)
	}
	w.exec(`ALTER TABLE publish_logs ADD CONSTRAINT frozen CHECK (status = 'processing')`)
	frozen := w.publish("ig_1", "processing", `{}`, 0)
	for subject, body := range map[string]string{"publish.webhook.instagram": `{"external_post_id":"ig_1","status":"published"}`, "publish.sweep": `{"since":1}`} {
		if _, err := g.js.Publish(t.Context(), subject, []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "three letters", func() bool { return len(g.left()) == 3 })

	w.exec(`ALTER TABLE publish_logs DROP CONSTRAINT frozen`)
	w.exec(`INSERT INTO publish_logs (id, platform, status, external_post_id) VALUES ($1, 'instagram', 'processing', 'ig_2')`, id)
	g.types(exitOK, "dead", "replay", "--all", "--yes").looks(`KIND +REASON +LETTERS`,
		`check +log_not_found +1`, `sweep +unknown_field +1`, `webhook +refused_by_database +1`, `3 letters`, `3 letters replayed`)
	eventually(t, "the webhook's log is a success", func() bool { return w.status(frozen) == "success" })
	eventually(t, "the check's log has failed", func() bool { return w.status(id.String()) == "failed" })
	eventually(t, "the sweep has died again", func() bool { return len(g.left()) == 1 })
	g.types(exitOK, "dead", "show", g.left()[0]).looks(`(?s:.*)`, `reason +unknown_field`, `(?s:.*)`, `replayed +1× before`, `(?s:.*)`, `{"since":1}`)
}
