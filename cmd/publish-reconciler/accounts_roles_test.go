package main

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"publish-reconciler/streams"
)

// roles has each producer do, by the helpers of package streams, what it is there for.
func (g *guarded) roles(w *world, s served) {
	g.Helper()
	_, ingestor := g.as("ingestor")
	publisherConn, publisher := g.as("publisher")
	prober, _ := g.as("prober")

	_, err := prober.Subscribe("publish.probe.*", func(msg *nats.Msg) {
		if strings.Contains(string(msg.Data), "ig_3") { // of the others it knows nothing
			_ = msg.Respond([]byte(`{"status":"published"}`))
		}
	})
	if err == nil {
		err = prober.Flush()
	}
	if err != nil {
		g.Fatal(err)
	}
	told, err := publisherConn.SubscribeSync("publish.event.>")
	if err == nil {
		err = publisherConn.Flush()
	}
	if err != nil {
		g.Fatal(err)
	}
	confirmed := w.publish("ig_1", "processing", `{}`, 0)
	if err := streams.PublishWebhook(g.Context(), ingestor, "instagram", []byte(`{"external_post_id":"ig_1","status":"published"}`), jetstream.WithMsgID("one")); err != nil {
		g.Errorf("ingestor: %v", err)
	}
	s.becomes(confirmed, "success")
	if _, err := told.NextMsg(soon); err != nil {
		g.Errorf("publisher hears of no event: %v", err)
	}

	silent := w.publish("ig_2", "processing", `{}`, 0)
	patience := time.Duration(0)
	for _, at := range []time.Time{time.Now().Add(time.Hour), time.Now()} {
		if err := streams.ScheduleCheck(g.Context(), publisher, streams.Check{LogID: uuid.MustParse(silent), Timeout: &patience}, at); err != nil {
			g.Errorf("publisher: %v", err)
		}
	}
	s.becomes(silent, "failed")
	if err := streams.ScheduleCheck(g.Context(), publisher, streams.Check{LogID: uuid.MustParse(confirmed)}, time.Now().Add(time.Hour)); err != nil {
		g.Errorf("publisher: %v", err)
	}
	if err := streams.CancelCheck(g.Context(), publisher, uuid.MustParse(confirmed)); err != nil {
		g.Errorf("publisher: %v", err)
	}
	_, reader := g.as("operator")
	eventually(g, "no check is pending", func() bool {
		stream, err := reader.Stream(g.Context(), streams.StreamChecks)
		if err != nil {
			g.Fatal(err)
		}
		info, err := stream.Info(g.Context(), jetstream.WithSubjectFilter("publish.schedule.check.*"))
		return err == nil && len(info.State.Subjects) == 0
	})

	asked := w.publish("ig_3", "processing", `{}`, 0)
	if err := streams.ScheduleCheck(g.Context(), publisher, streams.Check{LogID: uuid.MustParse(asked), Timeout: &patience}, time.Now()); err != nil {
		g.Errorf("publisher: %v", err)
	}
	s.becomes(asked, "success")
}

// commands has an operator type every command that needs NATS alone.
func (g *guarded) commands(w *world, s served) {
	g.Helper()
	_, ingestor := g.as("ingestor")
	for range 3 {
		if _, err := ingestor.Publish(g.Context(), "publish.webhook.instagram", []byte(`{`)); err != nil {
			g.Fatal(err)
		}
	}
	id := w.publish("ig_9", "processing", `{}`, 0)
	eventually(g, "three dead letters", func() bool {
		dead, _ := s.ask("GET", "/publishing/status", "").body["dead_letters"].(float64)
		return dead == 3
	})
	for _, args := range []string{
		"status", "list", "show " + id, "override " + id + " success --actor ana", "reconcile --since-minutes 60",
		"dead list", "dead list --kind webhook", "dead show 1", "dead drop 1", "dead replay 2 --yes", "dead replay --all --yes",
		"dead list --json", "dead drop --all --yes",
	} {
		words := strings.Fields(args)
		if strings.HasPrefix(args, "dead drop") && !slices.Contains(words, "--yes") {
			words = append(words, "--yes")
		}
		p := begin(g.TB, append(words, "--nats-url="+g.url("operator"))...)
		p.exits(exitOK, soon)
	}
	operator, js := g.as("operator")
	for _, subject := range []string{"publish.check." + id, "publish.sweep"} {
		if _, err := js.Publish(g.Context(), subject, nil); err != nil {
			g.Errorf("operator on %s: %v", subject, err)
		}
	}
	if _, err := operator.Request("$SRV.INFO.publish-reconciler", nil, soon); err != nil {
		g.Errorf("micro info: %v", err)
	}
	for name := range js.StreamNames(g.Context()).Name() {
		if !strings.HasPrefix(name, "PUBLISH_") {
			continue // the claims of replays, which the commands read
		}
		stream, err := js.Stream(g.Context(), name)
		if err == nil {
			_, err = stream.GetMsg(g.Context(), 1)
		}
		if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
			g.Errorf("operator reads %s: %v", name, err)
		}
	}
}

// What no role may do is refused by the server, at once and in words.
func TestAccountsRefuse(t *testing.T) {
	t.Parallel()
	g := guardedNATS(t, nil)
	_, service := g.as("reconciler")
	if err := streams.Ensure(t.Context(), service, streams.Config{}); err != nil {
		t.Fatal(err)
	}
	const (
		pub = "Publish to "
		sub = "Subscription to "
		api = "$JS.API."
	)
	others := []string{
		sub + ">", sub + "publish.>", sub + "publish.webhook.*", sub + "publish.check.*", sub + "publish.schedule.>", sub + "publish.dead.*",
		sub + "$JS.>", sub + "$SYS.>", sub + "*.>", pub + "else.where",
		pub + api + "STREAM.DELETE.PUBLISH_WEBHOOKS", pub + api + "STREAM.PURGE.PUBLISH_WEBHOOKS", pub + api + "STREAM.CREATE.OTHER",
		pub + api + "STREAM.PURGE.PUBLISH_DEAD", pub + api + "STREAM.PURGE.PUBLISH_EVENTS", pub + api + "STREAM.MSG.DELETE.PUBLISH_WEBHOOKS",
		pub + api + "STREAM.MSG.DELETE.PUBLISH_CHECKS", pub + api + "STREAM.SNAPSHOT.PUBLISH_WEBHOOKS", pub + api + "STREAM.RESTORE.PUBLISH_WEBHOOKS",
		pub + api + "CONSUMER.DELETE.PUBLISH_WEBHOOKS.webhooks", pub + api + "CONSUMER.PAUSE.PUBLISH_WEBHOOKS.webhooks",
		pub + api + "CONSUMER.CREATE.PUBLISH_WEBHOOKS.spy.publish.webhook.*", pub + api + "CONSUMER.CREATE.PUBLISH_CHECKS.spy.publish.schedule.>",
		pub + api + "CONSUMER.DURABLE.CREATE.PUBLISH_WEBHOOKS.webhooks", pub + api + "STREAM.LEADER.STEPDOWN.PUBLISH_WEBHOOKS",
	}
	notTheService := []string{
		sub + "publish.api.*", sub + "publish.api.override", sub + "$SRV.PING", sub + "_INBOX_reconciler.>", pub + "_INBOX_reconciler.x",
		pub + api + "CONSUMER.MSG.NEXT.PUBLISH_WEBHOOKS.webhooks", pub + api + "CONSUMER.MSG.NEXT.PUBLISH_CHECKS.checks",
		pub + api + "CONSUMER.CREATE.PUBLISH_WEBHOOKS.webhooks.publish.webhook.*",
		pub + "$JS.ACK.PUBLISH_WEBHOOKS.webhooks.1.1.1.1.1", pub + "$JS.ACK.PUBLISH_CHECKS.checks.1.1.1.1.1",
		pub + "publish.event.instagram.success", pub + "publish.dead.webhook", pub + "publish.probe.instagram",
		pub + "publish.schedule.sweep", pub + "publish.schedule.retry.x", pub + api + "STREAM.UPDATE.PUBLISH_WEBHOOKS",
	}
	notProducers := []string{
		pub + "publish.api.override", pub + "publish.api.status", pub + "publish.check.x", pub + "publish.sweep", pub + "$SRV.PING",
		pub + api + "INFO", pub + api + "STREAM.INFO.PUBLISH_WEBHOOKS", pub + api + "STREAM.MSG.GET.PUBLISH_WEBHOOKS", pub + api + "STREAM.NAMES",
		pub + api + "STREAM.MSG.GET.PUBLISH_DEAD", pub + api + "CONSUMER.CREATE.PUBLISH_EVENTS.spy", pub + api + "STREAM.PURGE.PUBLISH_CHECKS",
		pub + "$KV.publish_replays.x", pub + "_INBOX.x", sub + "_INBOX.>",
	}
	for role, refused := range map[role][]string{
		"ingestor": slices.Concat(others, notTheService, notProducers, []string{
			pub + "publish.schedule.check.x", pub + "publish.webhook", pub + "publish.webhook.a.b", sub + "publish.event.>", sub + "publish.probe.*", sub + "_INBOX_publisher.>",
		}),
		"publisher": slices.Concat(others, notTheService, notProducers, []string{
			pub + "publish.webhook.instagram", sub + "publish.probe.*", sub + "_INBOX_ingestor.>",
		}),
		"prober": slices.Concat(others, notTheService, notProducers, []string{
			pub + "publish.webhook.instagram", pub + "publish.schedule.check.x", sub + "publish.event.>", sub + "_INBOX_ingestor.>", sub + "_INBOX_prober.>",
		}),
		"reconciler": slices.Concat(others, []string{
			pub + "publish.api.override", sub + "_INBOX.>", sub + "_INBOX_ingestor.>", pub + "_INBOX.x", sub + "publish.probe.*", sub + "publish.event.>",
			pub + api + "STREAM.DELETE.PUBLISH_DEAD", pub + api + "STREAM.PURGE.PUBLISH_CHECKS", pub + api + "STREAM.NAMES",
		}),
		"operator": slices.Concat(others, notTheService, []string{
			sub + "_INBOX_ingestor.>", sub + "_INBOX_publisher.>", sub + "publish.probe.*", pub + api + "STREAM.DELETE.PUBLISH_DEAD",
			pub + api + "STREAM.UPDATE.PUBLISH_DEAD", pub + api + "CONSUMER.MSG.NEXT.PUBLISH_CHECKS.sweeper", pub + "_INBOX.x",
		}),
	} {
		t.Run(string(role), func(t *testing.T) {
			t.Parallel()
			g.refuses(t, role, refused)
		})
	}
}

// refuses wants the server to refuse a role each of these, and its connection to stand all the while.
func (g *guarded) refuses(t *testing.T, r role, refused []string) {
	t.Helper()
	told := make(chan error, 10*len(refused))
	nc, err := nats.Connect(g.url(r), nats.NoReconnect(), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { told <- err }))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	for _, what := range refused {
		if subject, is := strings.CutPrefix(what, "Publish to "); is {
			err = nc.Publish(subject, nil)
		} else {
			_, err = nc.SubscribeSync(strings.TrimPrefix(what, "Subscription to "))
		}
		if err == nil {
			err = nc.FlushTimeout(soon)
		}
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		verb, subject, _ := strings.Cut(what, "to ")
		want := verb + "to " + quote(subject)
		if last := nc.LastError(); !errors.Is(last, nats.ErrPermissionViolation) || !strings.Contains(last.Error(), want) {
			t.Errorf("%s may do this: %s (the last refusal is %v)", r, what, last)
		}
	}
}

// What the right to schedule checks implies, as the file says.
func TestAccountsOfAPublisherThatMeansHarm(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := guardedNATS(t, nil)
	s := w.serve("--nats-url="+g.url("reconciler"), "--default-timeout=10m", "--sweep-interval=1s", "--sweep-min=1s")
	s.swept()
	_, publisher := g.as("publisher")
	victim := w.publish("ig_1", "processing", `{}`, 0)
	if err := streams.ScheduleCheck(t.Context(), publisher, streams.Check{LogID: uuid.MustParse(victim)}, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	emptying := nats.NewMsg("publish.schedule.check.x")
	emptying.Header.Set("Nats-Rollup", "all")
	emptying.Header.Set("Nats-TTL", "1s")
	if _, err := publisher.PublishMsg(t.Context(), emptying); err != nil {
		t.Errorf("it does not empty the stream: mend the comment, %v", err)
	}
	_, operator := g.as("operator")
	stream, err := operator.Stream(t.Context(), streams.StreamChecks)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.GetLastMsgForSubject(t.Context(), "publish.schedule.check."+victim); !errors.Is(err, jetstream.ErrMsgNotFound) {
		t.Errorf("the check is there: %v", err)
	}
	// A sweep finds it once its deadline has passed.
	w.exec(`UPDATE publish_logs SET updated_at = now() - interval '1 hour' WHERE id = $1`, victim)
	s.becomes(victim, "failed")
	if err := streams.PublishWebhook(t.Context(), func() jetstream.JetStream { _, js := g.as("ingestor"); return js }(), "instagram", []byte(`{"external_post_id":"ig_1","status":"published"}`)); err != nil {
		t.Fatal(err)
	}
	s.becomes(victim, "success")
}

// Whoever lacks a right hears so, at once.
func TestRefusalsAreTold(t *testing.T) {
	t.Parallel()
	g := guardedNATS(t, nil)
	_, service := g.as("reconciler")
	if err := streams.Ensure(t.Context(), service, streams.Config{}); err != nil {
		t.Fatal(err)
	}
	_, publisher := g.as("publisher")
	log := uuid.New()
	began := time.Now()
	err := streams.PublishWebhook(t.Context(), publisher, "instagram", []byte(`{"external_post_id":"ig_1"}`))
	if !errors.Is(err, nats.ErrPermissionViolation) || !strings.Contains(err.Error(), `"publish.webhook.instagram"`) {
		t.Errorf("a publisher's webhook: %v", err)
	}
	_, ingestor := g.as("ingestor")
	if err := streams.ScheduleCheck(t.Context(), ingestor, streams.Check{LogID: log}, time.Now()); !errors.Is(err, nats.ErrPermissionViolation) {
		t.Errorf("an ingestor's check: %v", err)
	}
	if err := streams.CancelCheck(t.Context(), ingestor, log); !errors.Is(err, nats.ErrPermissionViolation) {
		t.Errorf("an ingestor's cancellation: %v", err)
	}
	nc, err := nats.Connect(g.url("ingestor"), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	deaf, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	err = streams.PublishWebhook(t.Context(), deaf, "instagram", []byte(`{"external_post_id":"ig_1"}`))
	if !errors.Is(err, nats.ErrPermissionViolation) || !strings.Contains(err.Error(), "inbox prefix") {
		t.Errorf("without the inbox prefix: %v", err)
	}
	if took := time.Since(began); took > 15*time.Second { // four times the five seconds of JetStream's answers
		t.Errorf("it took %s", took)
	}
	for _, args := range []string{"status", "override " + log.String() + " success --actor ana", "reconcile", "dead list", "dead show 1", "dead replay --all --yes"} {
		p := begin(t, append(strings.Fields(args), "--nats-url="+g.url("publisher"))...)
		p.exits(exitFailure, soon)
		p.says("the NATS server refuses it: nats: permissions violation: Permissions Violation for ")
	}
	doctor := begin(t, "doctor", "--json", "--database-url="+aDatabase, "--nats-url="+g.url("operator"))
	doctor.exits(exitFailure, 2*soon)
	var report doctorAnswer
	if err := json.Unmarshal([]byte(doctor.stdout.String()), &report); err != nil {
		t.Fatal(err)
	}
	for _, f := range report.Findings {
		if f.Check == "nats" && !strings.Contains(f.Text, "ermissions Violation for Subscription to") {
			t.Errorf("doctor as an operator: %v", f)
		}
	}
}

// JetStream answers whatever it stores, to the subject that the producer names. The server does not check that one.
func TestAccountsKeepAnswersApart(t *testing.T) {
	t.Parallel()
	g := guardedNATS(t, nil)
	_, service := g.as("reconciler")
	if err := streams.Ensure(t.Context(), service, streams.Config{}); err != nil {
		t.Fatal(err)
	}
	heard, err := service.Conn().SubscribeSync("publish.api.*")
	if err != nil {
		t.Fatal(err)
	}
	for role, subject := range map[role]string{"ingestor": "publish.webhook.instagram", "publisher": "publish.schedule.check.x"} {
		nc, js := g.as(role)
		for _, reply := range []string{"publish.event.instagram.success", "publish.dead.webhook", "publish.sweep", "publish.api.reconcile", "$JS.API.STREAM.DELETE.PUBLISH_DEAD"} {
			if err := nc.PublishMsg(&nats.Msg{Subject: subject, Reply: reply, Data: []byte("x")}); err != nil {
				t.Fatal(err)
			}
		}
		// Its answer comes after theirs.
		if _, err := js.Publish(t.Context(), subject, []byte("last")); err != nil {
			t.Fatal(err)
		}
	}
	_, operator := g.as("operator")
	for name, want := range map[string]uint64{streams.StreamWebhooks: 6, streams.StreamChecks: 6, streams.StreamEvents: 0, streams.StreamDead: 0} {
		stream, err := operator.Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if n := stream.CachedInfo().State.LastSeq; n != want {
			t.Errorf("%s has had %d messages, want %d", name, n, want)
		}
	}
	if err := service.Conn().Flush(); err != nil {
		t.Fatal(err)
	}
	if n, _, err := heard.Pending(); n > 0 || err != nil {
		t.Errorf("the service is asked %d times, %v", n, err)
	}
}
