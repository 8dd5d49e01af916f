package main

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// type runs a command against the world's NATS server, and returns it once it ended.
func (w *world) types(status int, args ...string) *program {
	w.Helper()
	p := begin(w.TB, append(args, "--nats-url="+w.nats.URL())...)
	p.exits(status, soon)
	return p
}

// looks wants what a command prints to match a pattern, line by line.
func (p *program) looks(lines ...string) {
	p.Helper()
	if text := p.stdout.String(); !regexp.MustCompile("^" + strings.Join(lines, "\n") + "\n$").MatchString(text) {
		p.Errorf("it prints\n%s\nand %s, want\n%s", text, p.stderr.String(), strings.Join(lines, "\n"))
	}
}

const aTime = `\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`

func TestCommands(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve("--api-token=hush")
	won, silent := w.publish("ig_1", "processing", confirmed, 25*time.Minute), w.publish("ig 2", "processing", `{}`, 25*time.Minute)
	w.publish("ig_3", "processing", `{}`, 15*time.Minute)
	hush := "--api-token= hush\n"

	w.types(exitOK, "reconcile", "--since-minutes=20", hush).looks(`2 logs checked: 1 success, 1 failed, 0 retry, 0 skipped`)
	p := w.types(exitOK, "reconcile", "--json", hush)
	var swept map[string]any
	if err := json.Unmarshal([]byte(p.stdout.String()), &swept); err != nil || swept["total_checked"] != 1.0 || len(swept["failed_log_ids"].([]any)) != 1 {
		t.Errorf("%v in %s", err, p.stdout.String())
	}

	w.types(exitOK, "override", silent, "success", "--actor=ana", "--note=seen live", hush).looks(`log ` + silent + `: failed → success, by ana`)
	p = w.types(exitFailure, "override", silent, "success", "--actor=ana", hush)
	p.says("publish-reconciler: override log " + silent + ": it is success already: the override changes nothing")

	w.types(exitOK, "show", silent, hush).looks(
		`.*success.*`, ``,
		`id +`+silent, `platform +instagram`, `external_post_id +ig 2`, `status +success`, `(?s:.*)`,
		aTime+` +publish_reconciled +action=marked_failed reason=webhook_timeout deadline=\S+ probe=no_responder timeout_minutes=20 trigger=api`,
		aTime+` +publish_overridden +from=failed to=success (reason=\w+ )?actor=ana note="seen live" trigger=override`,
	)
	p = w.types(exitOK, "show", won, "--json", hush)
	var shown map[string]any
	if err := json.Unmarshal([]byte(p.stdout.String()), &shown); err != nil {
		t.Fatal(err)
	}
	over := s.ask("GET", "/publishing/logs/"+won, "", "Authorization", "Bearer hush").body
	delete(shown, "now")
	delete(over, "now")
	if diff := cmp.Diff(over, shown); diff != "" {
		t.Error(diff)
	}

	w.types(exitOK, "list", "--status=failed", "--reason=webhook_timeout", "--platform=instagram", hush).looks(
		`ID +PLATFORM +POST +STATUS +REASON +CREATED +UPDATED`,
		`[0-9a-f-]{36}  instagram  ig_3  failed  webhook_timeout  `+aTime+`  `+aTime)
	if n := strings.Count(w.types(exitOK, "list", "--limit=2", hush).stdout.String(), "\n"); n != 3 {
		t.Errorf("%d lines, with the head", n)
	}
	p = w.types(exitOK, "list", "--limit=1", "--before=9999-01-01T00:00:00Z", "--json", hush)
	var page map[string]any
	if err := json.Unmarshal([]byte(p.stdout.String()), &page); err != nil || len(page["logs"].([]any)) != 1 || page["next"] != page["logs"].([]any)[0].(map[string]any)["id"] {
		t.Errorf("%v: %v", err, page)
	}
	w.types(exitOK, "list", "--status=retry", hush).looks(`ID +PLATFORM +POST +STATUS +REASON +CREATED +UPDATED`)

	w.publish("ig_4", "processing", `{}`, 0)
	w.types(exitOK, "status", hush).looks(`consumers +ok`, `nats +ok`, `postgres +ok`, `parked webhooks +0`, `dead letters +0`, `outbox events +\d+.*`,
		`next sweep +`+aTime+` \(\w+(, \w+ after the last one)?\)`, `version +.+`, ``,
		`PLATFORM +OPEN +DUE +SKIPPED +HELD +OLDEST +TIMEOUT`, `instagram +1 +0 +0 +0 +\d+s +8760h`, ``,
		`A MINUTE +CONFIRMED +TIMED OUT +REJECTED +RETRIED +LATE`, `last minute +\d+ +[1-9] +0 +0 +0`, `last hour +(0|0\.\d\d|unknown) .*`, ``,
		`CONSUMER +PENDING +IN HAND +REDELIVERED`, `webhooks +0 +0 +0`, `checks +0 +0 +0`, `sweeper +0 +\d +0`)
	contains(t, w.types(exitOK, "status", "--json", hush).stdout.String(), `"next_sweep":{"at":`)
}

func TestWrongArguments(t *testing.T) {
	t.Parallel()
	for want, args := range map[string][]string{
		`since_minutes is "0": it must be a whole number from 1 to 1440`:   {"reconcile", "--since-minutes=0"},
		`since_minutes is "ten": it must be a whole number from 1 to 1440`: {"reconcile", "--since-minutes=ten"},
		`missing flags: --actor=STRING`:                                    {"override", unknownLog, "failed"},
		`expected "<id> <status>"`:                                         {"override", "--actor=ana"},
		`actor is 0 bytes long`:                                            {"override", unknownLog, "failed", "--actor= "},
		`status is "lost": it must be success or failed`:                   {"override", unknownLog, "lost", "--actor=ana"},
		`log_id is "ig_1": it must be a UUID`:                              {"show", "ig_1"},
		`log_id is "ig_2": it must be a UUID`:                              {"override", "ig_2", "failed", "--actor=ana"},
		`limit is "501": it must be a whole number from 1 to 500`:          {"list", "--limit=501"},
		`limit is "a": it must be`:                                         {"list", "--limit=a", "--status=failed"},
		`status is "open": it must be one of pending`:                      {"list", "--status=open"},
		`before is "now": it must be a log's id`:                           {"list", "--before=now"},
		`--nats-url (NATS_URL) is "(not a URL)": it must be URLs such as`:  {"status", "--nats-url=u:hush@h"},
		`--nats-creds (NATS_CREDS) is "/nowhere": it must be a file`:       {"status", "--nats-creds=/nowhere"},
	} {
		p := begin(t, args...)
		p.exits(exitUsage, soon)
		p.says("publish-reconciler: " + want)
		if strings.Contains(p.stderr.String(), "hush") || p.stdout.String() != "" {
			t.Errorf("it says %s%s", p.stdout.String(), p.stderr.String())
		}
	}
}

func TestServiceIsNotThere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.types(exitFailure, "status").says("publish-reconciler: nobody answers on publish.api.status at " + w.nats.URL() + ": is the service running (publish-reconciler run)?\n")

	listener := listen(t)
	_ = listener.Close()
	p := begin(t, "show", unknownLog, "--nats-url=nats://ana:hush@"+listener.Addr().String())
	p.exits(exitFailure, soon)
	p.says("publish-reconciler: no NATS server lets us in at nats://ana:xxxxx@" + listener.Addr().String() + " (--nats-url, NATS_URL): ")

	url := plainNATS(t, &server.Options{Username: "ana", Password: "right"})
	p = begin(t, "status", "--nats-url="+strings.Replace(url, "nats://", "nats://ana:hush@", 1))
	p.exits(exitFailure, soon)
	p.says("Authorization Violation")
	if strings.Contains(p.stderr.String(), "hush") {
		t.Errorf("it says %s", p.stderr.String())
	}

	// One that takes the request and is silent.
	asked, err := w.client().SubscribeSync("publish.api.status")
	if err != nil {
		t.Fatal(err)
	}
	silent := begin(t, "status", "--nats-url="+w.nats.URL())
	silent.exits(exitFailure, soon)
	silent.says("publish-reconciler: the service did not answer within 10s")
	stopped := begin(t, "status", "--nats-url="+w.nats.URL())
	for range 2 { // the one before, and this one
		if _, err := asked.NextMsg(soon); err != nil {
			t.Fatal(err)
		}
	}
	stopped.stop()
	stopped.exits(exitFailure, 5*time.Second)
	stopped.says("publish-reconciler: stopped before the service answered")
}

func TestServiceSaysNo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve("--api-token=hush")
	p := w.types(exitFailure, "show", unknownLog, "--api-token=wrong")
	p.says("publish-reconciler: a valid token is needed: Authorization: Bearer …\n")
	w.types(exitFailure, "show", unknownLog).says("a valid token is needed")
	w.types(exitFailure, "show", unknownLog, "--api-token=hush").says("publish-reconciler: log " + unknownLog + ": no such log\n")
	w.types(exitFailure, "list", "--before="+unknownLog, "--api-token=hush").says("publish-reconciler: before is " + unknownLog + ": ")
}

// What the service finds wrong with a request lies in the arguments, as if the command had found it.
func TestBadRequestIsBadUsage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	nc := w.client()
	_, err := nc.Subscribe("publish.api.status", func(msg *nats.Msg) {
		answer := nats.NewMsg(msg.Reply)
		answer.Header.Set("Nats-Service-Error-Code", "400")
		answer.Header.Set("Nats-Service-Error", "from \u009b another version")
		_ = nc.PublishMsg(answer)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	w.types(exitUsage, "status").says(`publish-reconciler: "from \u009b another version"` + "\n")
}

// A platform's words reach the terminal as words, whatever they hold.
func TestControlCharacters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve()
	id := w.publish("ig_\x1b[2J", "processing", `{"webhook_received":true,"webhook_status":"failed","error":"\u001b]0;owned\u0007 \u009b31m \u202egnp.exe \u007f","\u001bkey":"\u001b[5m"}`, time.Hour)
	if got := w.request("reconcile", ""); got.body["marked_failed"] != 1.0 {
		t.Fatalf("%+v", got)
	}
	w.exec(`INSERT INTO ledger_events (event_type, entity_type, entity_id, metadata) VALUES (E'\x1b[1mtype', 'publish_log', $1, '{"\u001bk":"\u001b[3m\u009b", "n":{"\u0085":1}}')`, id)
	for _, args := range [][]string{{"show", id}, {"show", id, "--json"}, {"list"}, {"list", "--json"}} {
		p := w.types(exitOK, args...)
		text := p.stdout.String()
		contains(t, text, "ig_")
		for _, r := range text {
			if r != '\n' && !unicode.IsPrint(r) {
				t.Errorf("%v prints %q in\n%q", args, r, text)
			}
		}
		if args[len(args)-1] == "--json" && !json.Valid([]byte(text)) {
			t.Errorf("%v prints %s", args, text)
		}
	}
	contains(t, w.types(exitOK, "show", id).stdout.String(), `"ig_\x1b[2J"`)
	p := w.types(exitOK, "override", id, "success", "--actor=\x1b[31mana")
	contains(t, p.stdout.String(), `by "\x1b[31mana"`)
}

func TestVisibleJSON(t *testing.T) {
	t.Parallel()
	for _, want := range []string{"plain ü 🎬", "\u007f\u0085\u009b", "\u202e\u2066", "\U000e0041", "\u2028", "�"} {
		text, err := json.Marshal(map[string]string{want: want})
		if err != nil {
			t.Fatal(err)
		}
		safe := visibleJSON(text)
		var got map[string]string
		if err := json.Unmarshal(safe, &got); err != nil || got[want] != want || strings.ContainsFunc(string(safe), func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q is %q, %v", want, safe, err)
		}
	}
}
