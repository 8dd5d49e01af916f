package consumer

import (
	"context"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// trace begins the span of a batch, which links to the trace of each message that tells of one. End is called when
// the batch is settled.
func (w *worker) trace(ctx context.Context, msgs []jetstream.Msg) (_ context.Context, end func(error)) {
	ctx, span := w.c.cfg.Tracer.Start(ctx, "process "+w.name, trace.WithSpanKind(trace.SpanKindConsumer))
	if !span.IsRecording() {
		return ctx, func(error) {}
	}
	// OpenTelemetry's semantic conventions for messaging.
	span.SetAttributes(
		attribute.String("messaging.system", "nats"),
		attribute.String("messaging.operation.type", "process"),
		attribute.String("messaging.operation.name", "process"),
		attribute.String("messaging.destination.name", w.stream),
		attribute.String("messaging.consumer.group.name", w.name),
		attribute.Int("messaging.batch.message_count", len(msgs)),
	)
	for _, msg := range msgs {
		origin := propagation.TraceContext{}.Extract(context.Background(), headerCarrier(msg.Headers()))
		if from := trace.SpanContextFromContext(origin); from.IsValid() {
			span.AddLink(trace.Link{SpanContext: from, Attributes: []attribute.KeyValue{
				attribute.String("messaging.nats.subject", msg.Subject()),
			}})
		}
	}
	return ctx, func(err error) {
		if err != nil {
			span.SetStatus(codes.Error, err.Error())
		}
		span.End()
	}
}

// headerCarrier reads a message's trace context. Headers of NATS keep the case they were written in: some producers
// write Traceparent, as Go's HTTP does, others traceparent, as W3C does.
type headerCarrier nats.Header

var _ propagation.TextMapCarrier = headerCarrier{}

func (h headerCarrier) Get(key string) string {
	for name, values := range h {
		if strings.EqualFold(name, key) && len(values) > 0 {
			return values[0]
		}
	}
	return ""
}

func (h headerCarrier) Set(key, value string) { nats.Header(h).Set(key, value) }

func (h headerCarrier) Keys() []string {
	keys := make([]string, 0, len(h))
	for name := range h {
		keys = append(keys, name)
	}
	return keys
}
