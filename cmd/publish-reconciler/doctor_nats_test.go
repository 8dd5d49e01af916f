package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"publish-reconciler/streams"
)

// ran is a world in which the service has run, and runs no more.
func ran(t *testing.T, more ...string) (*world, jetstream.JetStream) {
	t.Helper()
	w := newWorld(t)
	s := w.serve(more...)
	s.swept()
	s.stop()
	s.exits(exitOK, soon)
	return w, w.nats.JetStream(t)
}

func TestDoctorOfStreams(t *testing.T) {
	t.Parallel()
	w, js := ran(t)
	for _, subject := range []string{streams.SubjectScheduleSweep, streams.SubjectSchedulePrune} {
		stream, err := js.Stream(t.Context(), streams.StreamChecks)
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Purge(t.Context(), jetstream.WithPurgeSubject(subject)); err != nil {
			t.Fatal(err)
		}
	}
	consumer, err := js.Consumer(t.Context(), streams.StreamWebhooks, streams.ConsumerWebhooks)
	if err != nil {
		t.Fatal(err)
	}
	changed := consumer.CachedInfo().Config
	changed.MaxDeliver = 3
	if _, err := js.UpdateConsumer(t.Context(), streams.StreamWebhooks, changed); err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteStream(t.Context(), streams.StreamEvents); err != nil {
		t.Fatal(err)
	}
	dead, err := js.Stream(t.Context(), streams.StreamDead)
	if err != nil {
		t.Fatal(err)
	}
	small := dead.CachedInfo().Config
	small.MaxBytes = 1000
	if _, err := js.UpdateStream(t.Context(), small); err != nil {
		t.Fatal(err)
	}
	for subject, size := range map[string]int{"publish.dead.webhook": 800, "publish.webhook.instagram": 3, "publish.check." + unknownLog: 0} {
		if _, err := js.Publish(t.Context(), subject, make([]byte, size)); err != nil {
			t.Fatal(err)
		}
	}
	e := w.doctor(exitFailure)
	e.tells("sweep", levelWrong, `none is pending, and a replica schedules one within 1m \(SWEEP_INTERVAL\): see that one runs`)
	e.tells("prune", levelWarning, `none is pending, unless one is under way; a replica schedules one within 1m \(SWEEP_INTERVAL\): see that one runs`)
	e.tells("dead letters", levelWarning, `1 message could not be processed: see why with publish-reconciler dead list, then replay or drop them`)
	e.tells("nats storage", levelWarning, `nearly used up: the bytes of stream PUBLISH_DEAD \(\d+ of 1000\): raise the limit before messages are refused, or dropped`)
	if text := fmt.Sprint(e.found["streams"]); !strings.Contains(text, "stream PUBLISH_EVENTS is missing") || !strings.Contains(text, "max_deliver is 3, must be ") {
		t.Error(text)
	}
	const idle = ` and nobody takes them: see whether the service runs, and what its log says`
	e.tells("queue webhooks", levelWarning, `1 message waits`+idle)
	e.tells("queue checks", levelWarning, `1 message waits`+idle)
	e.tells("queue sweeper", levelOK, `nothing waits`)
}

// More comes in than somebody takes.
func TestDoctorOfAGrowingQueue(t *testing.T) {
	t.Parallel()
	w, js := ran(t)
	ctx, cancel := context.WithCancel(t.Context())
	publishing, taking := make(chan struct{}), make(chan struct{})
	defer func() { cancel(); <-publishing; <-taking }()
	nc := w.client()
	go func() {
		defer close(publishing)
		for ctx.Err() == nil {
			for range 500 {
				_ = nc.Publish("publish.webhook.instagram", []byte("{}"))
			}
			_ = nc.Flush()
		}
	}()
	consumer, err := js.Consumer(t.Context(), streams.StreamWebhooks, streams.ConsumerWebhooks)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(taking)
		for ctx.Err() == nil {
			msg, err := consumer.Next(jetstream.FetchMaxWait(100 * time.Millisecond))
			if err == nil {
				_ = msg.Ack()
			}
		}
	}()
	w.doctor(exitFailure).tells("queue webhooks", levelWarning, `\d{4,} messages wait, \d+ more a second: add replicas if it goes on`)
}

func TestDoctorOfQueues(t *testing.T) {
	t.Parallel()
	q := func(pending, delivered uint64) map[string]queue {
		return map[string]queue{"webhooks": {pending, delivered}}
	}
	for name, tt := range map[string]struct {
		before, after map[string]queue
		want          finding
	}{
		"shrinks":         {q(5000, 10), q(2000, 3010), finding{levelOK, "queue webhooks", "2000 messages wait, -1000 a second"}},
		"a few more":      {q(3, 10), q(5, 11), finding{levelOK, "queue webhooks", "5 messages wait, +1 a second"}},
		"has just begun":  {q(0, 10), q(5, 10), finding{levelOK, "queue webhooks", "5 messages wait, +2 a second"}},
		"grows":           {q(0, 10), q(3000, 11), finding{levelWarning, "queue webhooks", "3000 messages wait, 1000 more a second: add replicas if it goes on"}},
		"is left alone":   {q(1, 10), q(1, 10), finding{levelWarning, "queue webhooks", "1 message waits and nobody takes them: see whether the service runs, and what its log says"}},
		"was not there":   {nil, q(5, 10), finding{}},
		"is gone":         {q(5, 10), nil, finding{}},
		"shrinks by hand": {q(5, 10), q(4, 10), finding{levelOK, "queue webhooks", "4 messages wait, -0 a second"}},
	} {
		var d natsDoctor
		d.lookAtQueues(tt.before, tt.after, 3*time.Second)
		got := finding{}
		if len(d.findings) > 0 {
			got = d.findings[0]
		}
		if got != tt.want || len(d.findings) > 1 {
			t.Errorf("%s: %v, want %v", name, d.findings, tt.want)
		}
	}
}

func TestDoctorOfTicks(t *testing.T) {
	t.Parallel()
	var f findings
	now := time.Now().Add(time.Hour) // by another clock
	f.lookAtTick("sweep", now.Add(-2*time.Minute), now, "")
	f.lookAtTick("sweep", now.Add(-time.Second), now, "now")
	if f[0].Level != levelWrong || !strings.Contains(f[0].Text, "did not fire: look after the NATS server") || f[1] != (finding{levelOK, "sweep", "the next one: now"}) {
		t.Error(f)
	}
}

// A user who may not do everything hears what.
func TestDoctorOfPermissions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	permissions := &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: []string{"$JS.API.>", "$JS.ACK.>", "$SYS.REQ.USER.INFO", "$SRV.>", "publish.>"}, Deny: []string{"publish.dead.check", "$JS.API.STREAM.CREATE.>"}},
		Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX_reconciler.>", "$SRV.>"}},
	}
	opts := &server.Options{JetStream: true, StoreDir: t.TempDir(), Users: []*server.User{{Username: "ana", Password: "hush", Permissions: permissions}}}
	url := strings.Replace("nats://"+startNATS(t, opts).Addr().String(), "nats://", "nats://ana:hush@", 1)
	doctor := func(more ...string) examined {
		t.Helper()
		return readFindings(begin(t, append([]string{"doctor", "--json", "--database-url=" + w.database, "--nats-url=" + url}, more...)...), exitFailure)
	}
	e := doctor()
	const creates = `publish to \$JS\.API\.STREAM\.CREATE\.PUBLISH_`
	e.tells("nats permissions", levelWrong, `the user may not publish to publish\.dead\.\*, `+
		creates+`WEBHOOKS, `+creates+`CHECKS, `+creates+`DEAD, `+creates+`EVENTS, publish to _INBOX\.> \(or allow_responses\), subscribe to publish\.api\.\*: grant it to him`)
	if strings.Contains(fmt.Sprint(e.found), "hush") {
		t.Errorf("a password: %v", e.found)
	}
	doctor("--manage-streams=false").tells("nats permissions", levelWrong, `the user may not publish to publish\.dead\.\*, publish to _INBOX\.> \(or allow_responses\), subscribe to publish\.api\.\*: grant it to him`)
}

// What doctor takes for enough is enough: a service that may do no more works.
func TestDoctorOfTheLeastPermissions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	publish := []string{
		"publish.webhook.*", "publish.dead.*", "publish.schedule.>", "publish.probe.*", "publish.event.>",
		"$JS.API.STREAM.MSG.GET.PUBLISH_WEBHOOKS", "$JS.API.STREAM.MSG.GET.PUBLISH_CHECKS", "$SYS.REQ.USER.INFO",
	}
	for _, stream := range []string{"WEBHOOKS", "CHECKS", "DEAD", "EVENTS"} {
		for _, verb := range []string{"INFO", "CREATE", "UPDATE"} {
			publish = append(publish, "$JS.API.STREAM."+verb+".PUBLISH_"+stream)
		}
	}
	for consumer, filter := range map[string]string{"PUBLISH_WEBHOOKS.webhooks": "publish.webhook.*", "PUBLISH_CHECKS.checks": "publish.check.*", "PUBLISH_CHECKS.sweeper": "publish.sweep"} {
		publish = append(publish, "$JS.API.CONSUMER.INFO."+consumer, "$JS.API.CONSUMER.MSG.NEXT."+consumer, "$JS.ACK."+consumer+".>", "$JS.API.CONSUMER.CREATE."+consumer+"."+filter)
	}
	subscribe := []string{"publish.api.*", streams.ServiceInboxPrefix + ".>"}
	for _, verb := range []string{"PING", "STATS", "INFO"} {
		subscribe = append(subscribe, "$SRV."+verb, "$SRV."+verb+".publish-reconciler", "$SRV."+verb+".publish-reconciler.*")
	}
	least := &server.User{Username: "service", Password: "hush", Permissions: &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: publish},
		Subscribe: &server.SubjectPermission{Allow: subscribe},
		Response:  &server.ResponsePermission{MaxMsgs: 1, Expires: time.Minute},
	}}
	opts := &server.Options{JetStream: true, StoreDir: t.TempDir(), Users: []*server.User{least, {Username: "all", Password: "hush"}}}
	address := startNATS(t, opts).Addr().String()
	s := w.serve("--nats-url=nats://service:hush@"+address, "--default-timeout=10m")
	s.swept()
	id := w.publish("ig_1", "processing", `{}`, 0)
	if got := s.ask("POST", "/publishing/webhooks/instagram", `{"external_post_id":"ig_1","status":"published"}`); got.status != http.StatusAccepted {
		t.Errorf("%+v", got)
	}
	if got := s.ask("POST", "/publishing/webhooks/instagram", `{"external_post_id":"ig_2","status":"published"}`); got.status != http.StatusAccepted {
		t.Errorf("%+v", got)
	}
	s.becomes(id, "success")
	late := w.publish("ig_3", "processing", `{}`, time.Hour)
	if got := s.ask("POST", "/publishing/reconcile", ""); got.status != http.StatusOK {
		t.Errorf("%+v", got)
	}
	s.becomes(late, "failed")
	eventually(t, "all is told", func() bool { return w.text(`SELECT count(*)::text FROM publish_outbox`) == "0" })
	if refused := s.lines("nats"); len(refused) > 0 {
		t.Errorf("it was refused: %v", refused)
	}
	e := readFindings(begin(t, "doctor", "--json", "--database-url="+w.database, "--nats-url=nats://service:hush@"+address), exitOK)
	e.tells("nats permissions", levelWarning, `the user may do what the service needs, but not publish to publish\.check\.\*, publish to publish\.sweep, .*: grant it to him if operators are to check logs and see to dead letters on the page`)
	e.tells("nats storage", levelWarning, `the account's limits can't be told: let the user ask on \$JS\.API\.INFO \(.*\)`)
	e.tells("service", levelWarning, `its replicas can't be asked: let the user publish to \$SRV\.PING\.publish-reconciler`)
	e.tells("streams", levelOK, `.*`)
	e.tells("queue webhooks", levelOK, `nothing waits`)
	p := begin(t, "status", "--nats-url=nats://all:hush@"+address)
	p.exits(exitOK, soon)
}

// An account with tiers has limits there alone.
func TestDoctorOfTiers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := startNATS(t, &server.Options{JetStream: true, StoreDir: t.TempDir()})
	unlimited := server.JetStreamAccountLimits{MaxMemory: -1, MaxStore: -1, MaxStreams: 5, MaxConsumers: 100, MaxAckPending: -1, MemoryMaxStreamBytes: -1, StoreMaxStreamBytes: -1}
	if err := s.GlobalAccount().UpdateJetStreamLimits(map[string]server.JetStreamAccountLimits{"R1": unlimited, "R3": unlimited}); err != nil {
		t.Fatal(err)
	}
	url := "nats://" + s.Addr().String()
	running := w.serve("--nats-url=" + url)
	running.swept()
	e := readFindings(begin(t, "doctor", "--json", "--database-url="+w.database, "--nats-url="+url), exitOK)
	e.tells("nats storage", levelWarning, `nearly used up: the account's streams in tier R1 \(4 of 5\): raise the limit before messages are refused, or dropped`)
}

// Who has no time left to ask does not say that nobody answers.
func TestDoctorWithoutTime(t *testing.T) {
	t.Parallel()
	d := natsDoctor{nc: newWorld(t).client()}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d.lookAtService(ctx)
	if want := (finding{levelWarning, "service", "not looked at: the time for all was up"}); len(d.findings) != 1 || d.findings[0] != want {
		t.Errorf("%v, want %v", d.findings, want)
	}
}
