package consumer_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"publish-reconciler/consumer"
	"publish-reconciler/reconciler"
	"publish-reconciler/streams"
	"publish-reconciler/streams/streamstest"
)

// asking is a prober on a NATS server of its own.
type asking struct {
	*testing.T
	*consumer.Prober
	nats *streamstest.Server
	nc   *nats.Conn
	logs *logbook
}

func newAsking(t *testing.T, cfg consumer.ProbeConfig) *asking {
	t.Helper()
	a := &asking{T: t, nats: streamstest.New(t), logs: &logbook{}}
	nc, err := a.nats.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	a.nc = nc
	cfg.Logger = slog.New(slog.NewTextHandler(a.logs, nil))
	a.Prober = consumer.NewProber(nc, cfg)
	return a
}

// answer has somebody listen for a platform, who answers what reply returns, or not at all for nil.
func answer(t *testing.T, server *streamstest.Server, platform string, reply func(*nats.Msg) *nats.Msg) (asked *atomic.Int64) {
	t.Helper()
	nc, err := server.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	asked = new(atomic.Int64)
	_, err = nc.Subscribe("publish.probe."+platform, func(msg *nats.Msg) {
		asked.Add(1)
		if told := reply(msg); told != nil {
			if err := msg.RespondMsg(told); err != nil {
				t.Error(err)
			}
		}
	})
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	return asked
}

// says answers everybody alike.
func says(body string) func(*nats.Msg) *nats.Msg {
	return func(*nats.Msg) *nats.Msg { return &nats.Msg{Data: []byte(body)} }
}

func silence(*nats.Msg) *nats.Msg { return nil }

// subjects are logs of n posts of a platform, post_0 and so on.
func subjects(platform string, n int) []reconciler.Subject {
	all := make([]reconciler.Subject, n)
	for i := range all {
		all[i] = reconciler.Subject{LogID: uuid.New(), Post: reconciler.Post{Platform: platform, ExternalPostID: fmt.Sprint("post_", i)}}
	}
	return all
}

// results counts what came of probes.
func results(probes []reconciler.Probe) map[reconciler.ProbeResult]int {
	n := make(map[reconciler.ProbeResult]int)
	for _, probe := range probes {
		n[probe.Result]++
	}
	return n
}

func TestProbeAnswers(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		reply  func(*nats.Msg) *nats.Msg
		result reconciler.ProbeResult
		want   reconciler.Evidence
	}{
		"published": {
			says(`{"status":"Published","media_url":"https://instagram.com/p/ABC/"}`), "answered",
			reconciler.Evidence{Verdict: reconciler.Confirmed, Status: "Published", URL: "https://instagram.com/p/ABC/"},
		},
		"complete, with the post's id": {
			says(`{"external_post_id":"post_0","complete":true}`), "answered",
			reconciler.Evidence{Verdict: reconciler.Confirmed, Status: "published"},
		},
		"rejected":       {says(`{"status":"rejected","fail_reason":"music"}`), "answered", reconciler.Evidence{Verdict: reconciler.Refused, Status: "rejected", Error: "music"}},
		"still at it":    {says(`{"status":"processing"}`), "answered", reconciler.Evidence{Verdict: reconciler.Unclear, Status: "processing"}},
		"not a word":     {says(`{}`), "answered", reconciler.Evidence{Verdict: reconciler.Unclear}},
		"NUL":            {says(`{"status":"\u0000"}`), "answered", reconciler.Evidence{Verdict: reconciler.Unclear, Status: "\uFFFD"}},
		"empty":          {says(``), "broken_answer", reconciler.Evidence{}},
		"no JSON":        {says(`published`), "broken_answer", reconciler.Evidence{}},
		"no object":      {says(`["published"]`), "broken_answer", reconciler.Evidence{}},
		"two values":     {says(`{"status":"published"} {}`), "broken_answer", reconciler.Evidence{}},
		"another post":   {says(`{"external_post_id":"post_1","status":"published"}`), "broken_answer", reconciler.Evidence{}},
		"its id is null": {says(`{"external_post_id":null,"status":"published"}`), "broken_answer", reconciler.Evidence{}},
		"a service's error": {func(*nats.Msg) *nats.Msg {
			return &nats.Msg{Data: []byte(`{"status":"published"}`), Header: nats.Header{"Nats-Service-Error": {"quota"}, "Nats-Service-Error-Code": {"429"}}}
		}, "broken_answer", reconciler.Evidence{}},
		"silence": {silence, "no_answer", reconciler.Evidence{}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			timeout := soon
			if tt.result == reconciler.ProbeNoAnswer {
				timeout = 500 * time.Millisecond
			}
			a := newAsking(t, consumer.ProbeConfig{Timeout: timeout})
			var body atomic.Value
			answer(t, a.nats, "instagram", func(msg *nats.Msg) *nats.Msg {
				body.Store(string(msg.Data))
				return tt.reply(msg)
			})
			subject := subjects("instagram", 1)
			probe := a.Probe(t.Context(), subject)[0]
			equal(t, "probe", probe, reconciler.Probe{Result: tt.result, Evidence: tt.want})
			for deadline := time.Now().Add(soon); body.Load() == nil && time.Now().Before(deadline); {
				time.Sleep(time.Millisecond) // the silent one may be slow to hear
			}
			equal(t, "request", body.Load(), any(`{"log_id":"`+subject[0].LogID.String()+`","external_post_id":"post_0","platform":"instagram"}`))
		})
	}
}

// A large sweep must not wait for platforms for which nobody listens, nor be postponed.
func TestProbeNobodyListens(t *testing.T) {
	t.Parallel()
	a := newAsking(t, consumer.ProbeConfig{Timeout: time.Minute, Rate: 1})
	for range 3 {
		equal(t, "results", results(a.Probe(t.Context(), subjects("instagram", 500))), map[reconciler.ProbeResult]int{"no_responder": 500})
	}
	if a.Listens("instagram") || !a.Listens("tiktok") {
		t.Error("it does not remember who listens")
	}
	asked := answer(t, a.nats, "instagram", says(`{}`))
	equal(t, "results", results(a.Probe(t.Context(), subjects("instagram", 1))), map[reconciler.ProbeResult]int{"no_responder": 1})
	for deadline := time.Now().Add(soon); !a.Listens("instagram"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never asked again")
		}
	}
	equal(t, "results", results(a.Probe(t.Context(), subjects("instagram", 1))), map[reconciler.ProbeResult]int{"answered": 1})
	equal(t, "asked", int(asked.Load()), 1)
	equal(t, "lines of the log", len(a.logs.with("platform can be probed")), 1)
}

func TestProbeRate(t *testing.T) {
	t.Parallel()
	a := newAsking(t, consumer.ProbeConfig{Rate: 2})
	asked := answer(t, a.nats, "instagram", says(`{}`))
	answer(t, a.nats, "tiktok", says(`{}`))
	logs := subjects("instagram", 50)
	probes := a.Probe(t.Context(), append(logs, subjects("tiktok", 1)...))
	// The first finds out that somebody listens; two more are a second's worth.
	equal(t, "results", results(probes), map[reconciler.ProbeResult]int{"answered": 4, "postponed": 47})
	equal(t, "asked", int(asked.Load()), 3)
	lined, last := 0, time.Duration(0)
	for _, probe := range probes {
		if probe.Wait == 0 {
			continue
		}
		lined++
		if gap := probe.Wait - last; gap < 300*time.Millisecond || gap > 501*time.Millisecond {
			t.Errorf("%s after %s in the line", probe.Wait, last)
		}
		last = probe.Wait
	}
	equal(t, "in the line", lined, 47)
	for i, probe := range a.Probe(t.Context(), logs[3:]) {
		if probe.Result == reconciler.ProbePostponed && probe.Wait != 0 {
			t.Errorf("log %d is lined up again, in %s", i, probe.Wait)
		}
	}
	// The line is a minute long; who finds no place there is left to a later sweep.
	lined, last = 0, 0
	for _, probe := range a.Probe(t.Context(), subjects("instagram", 200)) {
		if probe.Wait > 0 {
			lined++
		}
		last = max(last, probe.Wait)
	}
	if lined < 60 || lined > 80 || last > time.Minute {
		t.Errorf("%d more in a line of %s", lined, last)
	}
}

func TestProbeRemembersForSweeps(t *testing.T) {
	t.Parallel()
	a := newAsking(t, consumer.ProbeConfig{})
	asked := answer(t, a.nats, "instagram", says(`{"status":"in_review"}`))
	subject := subjects("instagram", 1)
	want := []reconciler.Probe{{Result: "answered", Evidence: reconciler.Evidence{Verdict: reconciler.Unclear, Status: "in_review"}}}
	ask := func(name string, n int64) {
		t.Helper()
		equal(t, name, a.Probe(t.Context(), subject), want)
		equal(t, name+": asked", asked.Load(), n)
	}
	subject[0].Remember = time.Hour
	ask("first", 1)
	ask("again", 1)
	subject[0].UpdatedAt = time.Now()
	ask("updated", 2)
	subject[0].Remember = 0
	ask("by hand", 3)
	subject[0].Remember = time.Nanosecond
	subject[0].LogID = uuid.New()
	ask("another", 4)
	ask("another, too old", 5)
}

// Without NATS no webhook comes either: nothing is known of a platform.
func TestProbeWhileNATSIsAway(t *testing.T) {
	t.Parallel()
	a := newAsking(t, consumer.ProbeConfig{Timeout: 5 * time.Second})
	a.Probe(t.Context(), subjects("instagram", 1)) // nobody listens
	answer(t, a.nats, "tiktok", silence)
	midway := make(chan []reconciler.Probe, 1)
	go func() { midway <- a.Probe(t.Context(), subjects("tiktok", 1)) }()
	a.nats.Halt()
	for deadline := time.Now().Add(soon); a.nc.IsConnected(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("still connected")
		}
	}
	equal(t, "results", results(a.Probe(t.Context(), subjects("instagram", 3))), map[reconciler.ProbeResult]int{"postponed": 3})
	equal(t, "one that was under way", results(<-midway), map[reconciler.ProbeResult]int{"postponed": 1})
	if !a.Listens("instagram") {
		t.Error("it says that nobody listens")
	}
}

func TestProbesOfOddPlatforms(t *testing.T) {
	t.Parallel()
	a := newAsking(t, consumer.ProbeConfig{})
	answer(t, a.nats, "a_b_", says(`{}`))
	equal(t, "result", a.Probe(t.Context(), subjects("a.b>", 1))[0].Result, reconciler.ProbeAnswered)
}

// End to end: checks and sweeps ask before they fail a log.
func TestLogsAreProbed(t *testing.T) {
	t.Parallel()
	w := setup(t)
	asked := answer(t, w.nats, "instagram", func(msg *nats.Msg) *nats.Msg {
		var request streams.ProbeRequest
		if err := json.Unmarshal(msg.Data, &request); err != nil {
			t.Error(err)
		}
		return map[string]*nats.Msg{
			"out":     {Data: []byte(`{"status":"published","media_url":"https://instagram.com/p/ABC/"}`)},
			"refused": {Data: []byte(`{"status":"failed","message":"music"}`)},
			"slow":    {Data: []byte(`{"status":"processing"}`)},
			"broken":  {Data: []byte(`oops`)},
		}[request.ExternalPostID]
	})
	w.start()
	for name, look := range map[string]func(uuid.UUID){
		"check": func(id uuid.UUID) { w.send(streams.CheckSubject(id), "") },
		"sweep": func(uuid.UUID) { w.send(streams.SubjectSweep, "") },
	} {
		for post, want := range map[string]row{
			"out":     {"success", "https://instagram.com/p/ABC/", "", "probe_confirmed", name},
			"refused": {"failed", "", "music", "probe_rejected", name},
			"broken":  {"failed", "", "No webhook received after 10 minutes", "webhook_timeout", name},
			"silent":  {"failed", "", "No webhook received after 10 minutes", "webhook_timeout", name},
		} {
			id := w.insertLog(post, "processing", time.Hour)
			look(id)
			becomes(w, post+" by a "+name, want, func() row { return w.row(id) })
			w.allSettled() // no sweep is on its way any more
		}
	}
	slow := w.insertLog("slow", "processing", time.Hour)
	w.send(streams.CheckSubject(slow), "")
	becomes(w, "ledger", "publish_deadline_extended probe_unclear check", func() string { return w.ledger(slow) })
	w.allSettled()
	if in := time.Until(w.scheduledAt(streams.ScheduleCheckSubject(slow))).Round(time.Minute); in != 10*time.Minute {
		t.Errorf("checked again in %s", in)
	}
	equal(t, "asked", int(asked.Load()), 9)
}
