package main

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"publish-reconciler/streams"
)

// receiver is an OpenTelemetry collector.
type receiver struct {
	*httptest.Server
	mu        sync.Mutex
	spans     []*spans.Span
	resources []string
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/traces", func(_ http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(request.Body)
		if err != nil {
			t.Error(err)
		}
		var sent collector.ExportTraceServiceRequest
		if err := proto.Unmarshal(body, &sent); err != nil {
			t.Error(err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, resource := range sent.GetResourceSpans() {
			r.resources = append(r.resources, attributes(resource.GetResource().GetAttributes())["service.name"])
			for _, scope := range resource.GetScopeSpans() {
				r.spans = append(r.spans, scope.GetSpans()...)
			}
		}
	})
	r.Server = httptest.NewServer(mux)
	t.Cleanup(r.Close)
	return r
}

// env has a service send its spans here, soon.
func (r *receiver) env(more ...string) []string {
	return append([]string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + r.URL, "OTEL_BSP_SCHEDULE_DELAY=50"}, more...)
}

// named are the spans so far with a name.
func (r *receiver) named(name string) (found []*spans.Span) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, span := range r.spans {
		if span.GetName() == name {
			found = append(found, span)
		}
	}
	return found
}

// within are the names of the spans within another, at any depth.
func (r *receiver) within(parent *spans.Span) map[string]*spans.Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	inside := map[string]bool{string(parent.GetSpanId()): true}
	found := make(map[string]*spans.Span)
	for before := -1; before != len(inside); {
		before = len(inside)
		for _, span := range r.spans {
			if inside[string(span.GetParentSpanId())] {
				inside[string(span.GetSpanId())] = true
				found[span.GetName()] = span
			}
		}
	}
	return found
}

func attributes(list []*common.KeyValue) map[string]string {
	all := make(map[string]string)
	for _, attribute := range list {
		all[attribute.GetKey()] = attribute.GetValue().GetStringValue()
	}
	return all
}

func (l *load) sendTraced(subject, body, header, parent string) {
	l.Helper()
	msg := nats.NewMsg(subject)
	msg.Data = []byte(body)
	if header != "" {
		msg.Header[header] = []string{parent}
	}
	if _, err := l.js.PublishMsg(l.Context(), msg); err != nil {
		l.Fatal(err)
	}
}

// The trace of a message is linked to, whatever the case of its header, and leads on through the decision to Postgres.
func TestTracing(t *testing.T) {
	t.Parallel()
	for _, header := range []string{"traceparent", "Traceparent"} {
		t.Run(header, func(t *testing.T) {
			t.Parallel()
			l, r := newWorld(t).load(), newReceiver(t)
			p := spawn(t, r.env("OTEL_SERVICE_NAME=ours"), l.world.args()...)
			p.logged("ready")
			log := l.publish("post", "processing", `{}`, 0)
			const trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
			l.sendTraced("publish.webhook.instagram", `{"external_post_id":"post","status":"published"}`, header, "00-"+trace+"-"+parent+"-01")
			eventually(t, "the batch is traced", func() bool { return len(r.named("process webhooks")) == 1 })
			batch := r.named("process webhooks")[0]
			if links := batch.GetLinks(); len(links) != 1 || hex.EncodeToString(links[0].GetTraceId()) != trace || hex.EncodeToString(links[0].GetSpanId()) != parent {
				t.Errorf("links: %v", links)
			}
			if len(batch.GetParentSpanId()) > 0 || attributes(batch.GetAttributes())["messaging.consumer.group.name"] != "webhooks" {
				t.Errorf("%v", batch)
			}
			inside := r.within(batch)
			decision := attributes(inside["decide"].GetAttributes())
			if decision["publish_reconciler.log_id"] != log || decision["publish_reconciler.reason"] != "webhook_confirmed" {
				t.Errorf("decision: %v", decision)
			}
			if sql := attributes(inside["UPDATE"].GetAttributes())["db.query.text"]; !strings.Contains(sql, "UPDATE publish_logs") {
				t.Errorf("SQL %q in %v", sql, inside)
			}
			line := p.logged("log decided")
			for key, want := range map[string]string{
				"log_id": log, "platform": "instagram", "reason": "webhook_confirmed", "trigger": "webhook", "trace_id": hex.EncodeToString(batch.GetTraceId()),
			} {
				if line[key] != want {
					t.Errorf("%s is %v in %v, want %s", key, line[key], line, want)
				}
			}
			for _, name := range r.resources {
				if name != "ours" {
					t.Errorf("service %q", name)
				}
			}
		})
	}
}

// A delayed check goes on in the trace of whoever scheduled it.
func TestTracingADelayedCheck(t *testing.T) {
	t.Parallel()
	l, r := newWorld(t).load(), newReceiver(t)
	spawn(t, r.env(), l.world.args()...).logged("ready")
	log := l.publish("post", "processing", `{}`, 0)
	msg := nats.NewMsg("publish.schedule.check." + log)
	msg.Header = nats.Header{
		"traceparent":          {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
		"Nats-Schedule":        {"@at " + time.Now().Add(500*time.Millisecond).UTC().Format(time.RFC3339Nano)},
		"Nats-Schedule-Target": {"publish.check." + log},
	}
	if _, err := l.js.PublishMsg(t.Context(), msg); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the batch is traced", func() bool { return len(r.named("process checks")) > 0 })
	if links := r.named("process checks")[0].GetLinks(); len(links) != 1 || attributes(links[0].GetAttributes())["messaging.nats.subject"] != "publish.check."+log {
		t.Errorf("links: %v", links)
	}
}

// OpenTelemetry keeps 128 links of a span, if it is not told otherwise.
func TestTracingALargeBatch(t *testing.T) {
	t.Parallel()
	l, r := newWorld(t).load(), newReceiver(t)
	first := l.serve()
	first.stop() // it made the streams: now a whole batch can wait there
	first.exits(exitOK, soon)
	const messages = 1000
	for i := range messages {
		l.sendTraced("publish.webhook.instagram", fmt.Sprintf(`{"external_post_id":"post %d","status":"published"}`, i),
			"traceparent", fmt.Sprintf("00-%032x-%016x-01", i+1, i+1))
	}
	// While the first batches are held up, the next one gathers.
	ctx := t.Context()
	tx, err := connect(t, l.database).Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(ctx, `LOCK TABLE parked_webhooks`); err != nil {
		t.Fatal(err)
	}
	p := spawn(t, r.env(), l.args()...)
	eventually(t, "all are in hand", func() bool {
		webhooks, err := l.js.Consumer(ctx, streams.StreamWebhooks, streams.ConsumerWebhooks)
		return err == nil && webhooks.CachedInfo().NumAckPending == messages
	})
	if err := tx.Rollback(ctx); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all are read", func() bool { return l.text(`SELECT count(*)::text FROM parked_webhooks`) == fmt.Sprint(messages) })
	p.signal(syscall.SIGTERM) // which sends the last spans
	p.exits(exitOK, soon)
	linked, largest := make(map[string]bool), 0
	for _, batch := range r.named("process webhooks") {
		for _, link := range batch.GetLinks() {
			linked[string(link.GetTraceId())] = true
		}
		if n := len(batch.GetLinks()); n > largest {
			largest = n
		}
	}
	if len(linked) != messages || largest <= 128 {
		t.Errorf("%d links, %d in the largest batch", len(linked), largest)
	}
}

func TestTracingOff(t *testing.T) {
	t.Parallel()
	for name, more := range map[string][]string{
		"no endpoint": {"OTEL_EXPORTER_OTLP_ENDPOINT="}, "disabled": {"OTEL_SDK_DISABLED=true"}, "no exporter": {"OTEL_TRACES_EXPORTER=none"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, r := newWorld(t).load(), newReceiver(t)
			p := spawn(t, r.env(more...), l.world.args()...)
			p.logged("ready")
			l.confirm(l.js, "post")
			if line := p.logged("log decided"); line["trace_id"] != nil {
				t.Errorf("%v", line)
			}
			p.signal(syscall.SIGTERM)
			p.exits(exitOK, soon)
			if len(r.spans) > 0 {
				t.Errorf("%v", r.spans)
			}
		})
	}
}

// A collector that is away costs spans, and nothing else.
func TestTracingWithoutACollector(t *testing.T) {
	t.Parallel()
	l, r := newWorld(t).load(), newReceiver(t)
	r.Close()
	p := spawn(t, r.env("OTEL_EXPORTER_OTLP_TIMEOUT=200"), l.args()...)
	p.logged("ready")
	l.confirm(l.js, "one")
	p.logged("spans are lost")
	l.confirm(l.js, "two")
	p.signal(syscall.SIGTERM)
	p.exits(exitOK, 10*time.Second)
	if n := len(p.lines("spans are lost")); n != 1 {
		t.Errorf("it is said %d times", n)
	}
}

func TestTracingSettings(t *testing.T) {
	t.Parallel()
	for setting, says := range map[string]string{
		"OTEL_EXPORTER_OTLP_PROTOCOL=grpc":         `OTEL_EXPORTER_OTLP_PROTOCOL is "grpc": it must be http/protobuf`,
		"OTEL_TRACES_EXPORTER=jaeger":              `OTEL_TRACES_EXPORTER is "jaeger": it must be otlp or none`,
		"OTEL_EXPORTER_OTLP_ENDPOINT=collector:80": "OTEL_EXPORTER_OTLP_ENDPOINT can't be read: it must be a URL such as http://127.0.0.1:4318",
	} {
		t.Run(setting, func(t *testing.T) {
			t.Parallel()
			p := spawn(t, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1", setting}, "run", "--database-url=postgres://127.0.0.1:1/none", "--http-addr=127.0.0.1:0")
			p.exits(exitUsage, soon)
			p.says(says)
		})
	}
}
