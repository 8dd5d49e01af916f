package main

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"publish-reconciler/cmd/publish-reconciler/contract/contracttest"
	"publish-reconciler/reconciler"
	"publish-reconciler/streams"
)

// Every message of real publishers, platforms, operators and the service is held against the contract: what goes over
// the wire, and what the streams hold. Of each channel there is one at least. What does not validate are the broken
// ones alone, and these became dead letters.
func TestContractOfRealMessages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	js := w.jetstream()
	seen := w.listen()

	s := w.serve("--sweep-interval=1s", "--sweep-min=1s")
	w.simulation(exitOK, "--logs=150", "--malformed=0.06", "--timeout=2s", "--seed=11")
	id := uuid.NewString()
	for subject, body := range map[string]string{
		"publish.check." + unknownLog: ``, // comes again
		"publish.check." + id:         `{"timeout_minutes":"5"}`,
		"publish.sweep":               `{"since_minutes":0}`,
		"publish.webhook.instagram":   `{"external_post_id":""}`,
	} {
		w.send(subject, body)
	}
	letters := func(kind streams.Kind) []*jetstream.RawStreamMsg {
		return w.all(js, streams.StreamDead, streams.DeadSubject(kind))
	}
	eventually(t, "dead letters of each kind", func() bool {
		return len(letters(streams.KindCheck)) > 0 && len(letters(streams.KindSweep)) == 1 && len(letters(streams.KindWebhook)) == 10
	})
	s.stop()
	s.exits(exitOK, soon)

	if err := streams.CancelCheck(t.Context(), js, uuid.New()); err != nil {
		t.Fatal(err)
	}
	// What JetStream moves by itself, nobody publishes.
	if err := streams.ScheduleCheck(t.Context(), js, streams.Check{LogID: uuid.New()}, time.Time{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a check and a sweep that schedules fired", func() bool {
		fired := map[bool]int{}
		for _, msg := range w.all(js, streams.StreamChecks, "publish.>") {
			if msg.Header.Get("Nats-Scheduler") != "" {
				fired[msg.Subject == streams.SubjectSweep]++
			}
		}
		return fired[true] > 0 && fired[false] > 0
	})
	dead := make(map[string]bool) // by where they lay
	for _, kind := range []streams.Kind{streams.KindWebhook, streams.KindCheck, streams.KindSweep} {
		for _, letter := range letters(kind) {
			dead[letter.Header.Get(streams.HeaderDeadStream)+" "+letter.Header.Get(streams.HeaderDeadSequence)] = true
		}
	}
	broken := make(map[string]bool)
	for _, name := range []string{streams.StreamWebhooks, streams.StreamChecks, streams.StreamDead, streams.StreamEvents} {
		for _, msg := range w.all(js, name, "publish.>") {
			if seen.take(msg.Subject, msg.Header, msg.Data) != nil {
				broken[name+" "+strconv.FormatUint(msg.Sequence, 10)] = true
			}
		}
	}
	maps.DeleteFunc(dead, func(place string, _ bool) bool { return strings.HasPrefix(place, streams.StreamChecks) }) // gone from there
	if diff := cmp.Diff(dead, broken); diff != "" || len(broken) != 10 {
		t.Errorf("%d messages are broken; not those that became dead letters (-): %s", len(broken), diff)
	}

	w.holdsAndRetries(js)
	seen.everyChannel(w)
	want := []string{"publish.check." + id, "publish.sweep", "publish.webhook.instagram"}
	if got := seen.refusedBut("publish.webhook.sim-"); !slices.Equal(got, want) {
		t.Errorf("of what was published %q is broken, want %q", got, want)
	}
}

// holdsAndRetries has the service send what it sends with settings of their own, and answer every request.
func (w *world) holdsAndRetries(js jetstream.JetStream) {
	w.Helper()
	nc := js.Conn()
	if _, err := nc.Subscribe("publish.probe.tiktok", func(msg *nats.Msg) { _ = msg.Respond([]byte(`{"status":"published"}`)) }); err != nil {
		w.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		w.Fatal(err)
	}
	s := w.serve("--default-timeout=10m", "--outage-hold=on", "--platform-retries=instagram=1", "--ledger-retention=90d", "--sweep-interval=1h")
	s.swept()
	silent := w.publish("ig_silent", "processing", `{}`, time.Hour)
	for n := range reconciler.HoldDueLogs {
		w.exec(`INSERT INTO publish_logs (id, platform, status, external_post_id, updated_at) VALUES (gen_random_uuid(), 'quiet', 'processing', $1, now() - interval '1 hour')`, fmt.Sprint("quiet_", n))
	}
	w.exec(`INSERT INTO publish_logs (id, platform, status, external_post_id, updated_at) VALUES (gen_random_uuid(), 'tiktok', 'processing', 'tt_1', now() - interval '1 hour')`)
	for _, tt := range []struct{ endpoint, body string }{
		{"reconcile", `{"since_minutes":30}`},
		{"log", `{"log_id":"` + silent + `"}`},
		{"override", `{"log_id":"` + silent + `","status":"failed","actor":"ana","note":"taken down"}`},
		{"log", `{"log_id":"` + silent + `"}`},
		{"logs", `{"limit":500}`},
		{"logs", `{"limit":1,"status":"processing"}`},
		{"status", ``},
	} {
		if got := w.request(tt.endpoint, tt.body); got.status != http.StatusOK { // which holds it against the contract
			w.Errorf("%s %s: %+v", tt.endpoint, tt.body, got)
		}
	}
	eventually(w, "the events", func() bool { return len(w.all(js, streams.StreamEvents, "publish.event.quiet.hold")) == 1 })
}

// all are the messages that a stream holds on subjects.
func (w *world) all(js jetstream.JetStream, stream, subjects string) []*jetstream.RawStreamMsg {
	w.Helper()
	var all []*jetstream.RawStreamMsg
	read, err := js.Stream(w.Context(), stream)
	if err != nil {
		w.Fatal(err)
	}
	for sequence := uint64(1); ; sequence++ {
		msg, err := read.GetMsg(w.Context(), sequence, jetstream.WithGetMsgSubject(subjects))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return all
		}
		if err != nil {
			w.Fatal(err)
		}
		all, sequence = append(all, msg), msg.Sequence
	}
}

// traffic is what was seen of each channel.
type traffic struct {
	contract *contracttest.Contract

	mu      sync.Mutex
	valid   map[string]int   // by channel
	refused map[string]error // by subject
	odd     []string         // what belongs to no channel
}

// listen hears everything that is published from now on.
func (w *world) listen() *traffic {
	w.Helper()
	seen := &traffic{contract: contracttest.Load(w), valid: map[string]int{}, refused: map[string]error{}}
	nc := w.client()
	if _, err := nc.Subscribe("publish.>", func(msg *nats.Msg) { _ = seen.take(msg.Subject, msg.Header, msg.Data) }); err != nil {
		w.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		w.Fatal(err)
	}
	return seen
}

func (s *traffic) take(subject string, header nats.Header, body []byte) error {
	channel, err := s.contract.ValidateSubject(subject, header, body)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case channel == "":
		s.odd = append(s.odd, subject)
	case err != nil:
		s.refused[subject] = fmt.Errorf("%w in %q", err, body)
	default:
		s.valid[channel]++
	}
	return err
}

// everyChannel wants messages of all channels but those of answers.
func (s *traffic) everyChannel(tb testing.TB) {
	tb.Helper()
	unseen := func() (names []string) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, name := range s.contract.Names("channels") {
			if s.contract.At("channels", name)["address"] != nil && s.valid[name] == 0 {
				names = append(names, name)
			}
		}
		return names
	}
	for deadline := time.Now().Add(soon); len(unseen()) > 0 && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
	if names := unseen(); len(names) > 0 || len(s.odd) > 0 {
		tb.Errorf("no message of the channels %q, and messages of no channel at %q; seen %v", names, s.odd, s.valid)
	}
}

// refusedBut are the subjects of messages that do not validate, sorted, without those that begin with a prefix.
func (s *traffic) refusedBut(prefix string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	subjects := slices.Sorted(maps.Keys(s.refused))
	return slices.DeleteFunc(subjects, func(subject string) bool { return strings.HasPrefix(subject, prefix) })
}
