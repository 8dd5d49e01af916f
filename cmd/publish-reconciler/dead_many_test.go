package main

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"publish-reconciler/streams"
)

// Many letters, some of which can't be replayed: the others are.
func TestDeadMany(t *testing.T) {
	t.Parallel()
	g := newGraveyard(t)
	const n = 600
	for i := range n {
		g.bury(streams.KindWebhook, "publish.webhook.tiktok", strconv.Itoa(i), "malformed_json", "broken")
	}
	for range mostRefusals + 5 {
		g.bury(streams.KindWebhook, "publish.api.override", "", "malformed_json", "forged")
	}
	p := g.types(exitFailure, "dead", "replay", "--all", "--yes")
	p.looks(`KIND +REASON +LETTERS`, `webhook +malformed_json +625`, `625 letters`, `600 letters replayed`)
	p.says("and 5 more\npublish-reconciler: 25 letters can't be replayed\n")
	if told := strings.Count(p.stderr.String(), "its original's subject is"); told != mostRefusals {
		t.Errorf("%d refusals are told", told)
	}
	same(t, "letters", len(g.left()), 25)
	same(t, "webhooks", g.back(streams.StreamWebhooks, "publish.webhook.*"), n)
	g.types(exitOK, "dead", "drop", "--all", "--yes").looks(`(?s:.*)`, `25 letters dropped`)
}

// Two operators with the same idea at the same time.
func TestDeadReplayTogether(t *testing.T) {
	t.Parallel()
	g := newGraveyard(t)
	const n = 200
	for i := range n {
		g.bury(streams.KindCheck, "publish.check.x", strconv.Itoa(i), "invalid_log_id", "broken")
	}
	var together []*program
	for range 3 {
		together = append(together, begin(t, "dead", "replay", "--all", "--yes", "--nats-url="+g.nats.URL()))
	}
	total := 0
	for _, p := range together {
		p.exits(exitOK, soon)
		lines := strings.Split(strings.TrimSpace(p.stdout.String()), "\n")
		replayed := 0
		if _, err := fmt.Sscanf(lines[len(lines)-1], "%d letter", &replayed); err == nil {
			total += replayed
		}
	}
	same(t, "replayed", total, n)
	same(t, "checks", g.back(streams.StreamChecks, "publish.check.*"), n)
	same(t, "letters", len(g.left()), 0)
}

// Stopped in between, it finishes what is in hand, and the same command does the rest.
func TestDeadStopped(t *testing.T) {
	t.Parallel()
	g := newGraveyard(t)
	const n = 2500 // more than are replayed before it hears of it
	for range n {
		if _, err := g.js.PublishMsgAsync(&nats.Msg{Subject: "publish.dead.check", Header: nats.Header{streams.HeaderDeadSubject: {"publish.check.x"}}}, jetstream.WithStallWait(soon)); err != nil {
			t.Fatal(err)
		}
	}
	<-g.js.PublishAsyncComplete()
	p := begin(t, "dead", "replay", "--all", "--yes", "--nats-url="+g.nats.URL())
	eventually(t, "some are replayed", func() bool { return g.back(streams.StreamChecks, "publish.check.x") > 0 })
	p.stop()
	p.exits(exitFailure, soon)
	p.says("publish-reconciler: stopped: the same command goes on with the other letters\n")
	back := g.back(streams.StreamChecks, "publish.check.x")
	if left := len(g.left()); left+back != n || left == 0 {
		t.Errorf("%d letters are left, and %d were replayed", left, back)
	}
	contains(t, p.stdout.String(), fmt.Sprintf("\n%d letters replayed\n", back))
	g.types(exitOK, "dead", "replay", "--all", "--yes").looks(`(?s:.*)`, strconv.Itoa(n-back)+` letters replayed`)
	same(t, "checks", g.back(streams.StreamChecks, "publish.check.x"), n)
}
