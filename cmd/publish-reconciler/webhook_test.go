package main

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"publish-reconciler/streams"
)

const ig123 = `{"external_post_id":"ig_123","status":"published"}`

func TestWebhookDoor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve()
	log := w.publish("ig_123", "processing", `{}`, 0)
	got := s.ask("POST", "/publishing/webhooks/Instagram", ig123)
	if diff := cmp.Diff(map[string]any{"status": "stored", "stream": "PUBLISH_WEBHOOKS", "sequence": 1.0, "duplicate": false}, got.body); diff != "" || got.status != http.StatusAccepted {
		t.Errorf("%d: %s", got.status, diff)
	}
	eventually(t, "the log is closed", func() bool { return w.status(log) == "success" })

	// A retry with the same id is stored once; curl -d sends a form's type.
	for _, duplicate := range []bool{false, true} {
		got := s.ask("POST", "/publishing/webhooks/tiktok", ig123, "nats-msg-id", "retry-1", "Content-Type", "application/x-www-form-urlencoded")
		if got.status != http.StatusAccepted || got.body["sequence"] != 2.0 || got.body["duplicate"] != duplicate {
			t.Errorf("%+v", got)
		}
	}
	msg, err := w.stream("PUBLISH_WEBHOOKS").GetMsg(t.Context(), 2)
	if err != nil || string(msg.Data) != ig123 || msg.Subject != "publish.webhook.tiktok" || msg.Header.Get("Nats-Msg-Id") != "retry-1" {
		t.Errorf("stored is %+v, %v", msg, err)
	}
	if n := w.stored("PUBLISH_WEBHOOKS"); n != 2 {
		t.Errorf("%d are stored", n)
	}
}

func TestBadWebhooks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve()
	const instagram = "/publishing/webhooks/instagram"
	for name, tt := range map[string]struct {
		path, body, contentType string
		status                  int
		want                    string
	}{
		"empty":              {instagram, "", "", 400, "the body is empty: it must be a JSON object"},
		"empty form":         {instagram, "", "application/x-www-form-urlencoded", 400, "the body is empty: it must be a JSON object"},
		"broken":             {instagram, `{"external_post_id":`, "", 400, "the body is not JSON"},
		"broken JSON":        {instagram, `{"external_post_id":`, "application/json; charset=utf-8", 400, "the body is not JSON"},
		"broken, vendor's":   {instagram, `{"external_post_id":`, "application/vnd.platform+json", 400, "the body is not JSON"},
		"curl's default":     {instagram, `external_post_id=1`, "application/x-www-form-urlencoded", 400, `the body is not JSON`},
		"XML":                {instagram, `<post/>`, "text/xml", 415, `the body is not JSON, but "text/xml"`},
		"no type at all":     {instagram, `<post/>`, "?", 400, "the body is not JSON"},
		"array":              {instagram, `[]`, "text/plain", 400, "the body is an array: it must be a JSON object"},
		"no post":            {instagram, `{}`, "", 400, "external_post_id is missing: it must be a string or a number"},
		"post of wrong type": {instagram, `{"external_post_id":{}}`, "", 400, "external_post_id is an object: it must be a string or a number"},
		"long post":          {instagram, `{"external_post_id":"` + strings.Repeat("x", 1025) + `"}`, "", 400, "must be 1 to 1024 bytes without NUL"},
		"platform":           {"/publishing/webhooks/a.b", ig123, "", 400, `platform "a.b" must be one subject token of 1 to 128 bytes`},
		"platform, wild":     {"/publishing/webhooks/%3E", ig123, "", 400, `platform ">" must be one subject token`},
		"platform, control":  {"/publishing/webhooks/a%0D%0A", ig123, "", 400, `platform "a\r\n" must be one subject token`},
		"platform, slash":    {"/publishing/webhooks/a%2Fb%20", ig123, "", 400, `platform "a/b " must be one subject token`},
		"query":              {instagram + "?a=b", ig123, "", 400, `parameter "a" is not known: none is`},
		"too large":          {instagram, `{"external_post_id":"` + strings.Repeat("x", maxBody) + `"}`, "", 413, "the body is too large: it must be at most 262144 bytes"},
		"no platform":        {"/publishing/webhooks/", ig123, "", 404, "nothing is served at POST /publishing/webhooks/"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := s.ask("POST", tt.path, tt.body, "Content-Type", tt.contentType)
			if got.status != tt.status {
				t.Errorf("status is %d, want %d", got.status, tt.status)
			}
			contains(t, got.error(), tt.want)
		})
	}
	got := s.ask("POST", instagram, ig123, "Nats-Msg-Id", strings.Repeat("x", 1025))
	contains(t, got.error(), "Nats-Msg-Id is 1025 bytes long: it must have at most 1024")
	if got := s.ask("GET", instagram, ""); got.status != http.StatusNotFound {
		t.Errorf("GET: %+v", got)
	}
	if got := s.ask("PUT", instagram, ""); got.status != http.StatusMethodNotAllowed || got.header.Get("Allow") != "GET, HEAD, POST" {
		t.Errorf("PUT: %+v", got)
	}
	if n := w.stored("PUBLISH_WEBHOOKS"); n != 0 {
		t.Errorf("%d are stored", n)
	}
}

func TestFullStreamTakesNoWebhook(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve()
	if got := s.ask("POST", "/publishing/webhooks/instagram", ig123); got.status != http.StatusAccepted {
		t.Fatalf("%+v", got)
	}
	cfg := w.stream("PUBLISH_WEBHOOKS").CachedInfo().Config
	cfg.MaxMsgs = 1
	if _, err := w.nats.JetStream(t).UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	got := s.ask("POST", "/publishing/webhooks/instagram", ig123)
	if got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") != "5" {
		t.Errorf("%+v", got)
	}
	contains(t, got.error(), "maximum messages exceeded")
}

// Whoever hears of a failure tries again: what was not stored then must not be stored later, too.
func TestWebhookWhileNATSIsAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve()
	w.nats.Halt()
	eventually(t, "NATS is away", func() bool { return s.ask("GET", "/readyz", "").body["nats"] != "ok" })
	s.storesNothing()
	if err := w.nats.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "NATS is back", func() bool { return s.ask("GET", "/readyz", "").status == 200 })
	eventually(t, "a webhook is stored", func() bool {
		return s.ask("POST", "/publishing/webhooks/tiktok", ig123).status == http.StatusAccepted
	})
	if n := w.stored("PUBLISH_WEBHOOKS"); n != 1 {
		t.Errorf("%d are stored", n)
	}
}

// Without its stream, and where JetStream does not answer at all, the sender hears so in time.
func TestWebhookWithoutStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	js := w.nats.JetStream(t)
	if err := streams.Ensure(t.Context(), js, streams.Config{}); err != nil {
		t.Fatal(err)
	}
	s := w.serve("--manage-streams=false") // else it makes the stream anew
	if err := js.DeleteStream(t.Context(), "PUBLISH_WEBHOOKS"); err != nil {
		t.Fatal(err)
	}
	s.storesNothing()
	if _, err := js.Conn().SubscribeSync("publish.webhook.*"); err != nil {
		t.Fatal(err)
	}
	if err := js.Conn().Flush(); err != nil {
		t.Fatal(err)
	}
	s.storesNothing()
}

// storesNothing wants a webhook to be put off within the time that its sender has.
func (s served) storesNothing() {
	s.Helper()
	began := time.Now()
	got := s.ask("POST", "/publishing/webhooks/instagram", ig123)
	if got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") != "5" || got.error() == "" {
		s.Errorf("%+v", got)
	}
	if took := time.Since(began); took > 6*time.Second {
		s.Errorf("it took %s", took)
	}
}

func (w *world) stream(name string) jetstream.Stream {
	w.Helper()
	stream, err := w.nats.JetStream(w).Stream(w.Context(), name)
	if err != nil {
		w.Fatal(err)
	}
	return stream
}

func (w *world) stored(stream string) uint64 {
	w.Helper()
	return w.stream(stream).CachedInfo().State.Msgs
}
