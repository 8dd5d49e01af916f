package tracing

import (
	"context"
	"log/slog"
	"sync/atomic"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Logger adds trace_id and span_id to the lines that are logged within a span.
func (t *Tracing) Logger(logger *slog.Logger) *slog.Logger {
	if t == nil {
		return logger
	}
	return slog.New(traced{logger.Handler()})
}

type traced struct{ slog.Handler }

// Handle is the handler's.
func (h traced) Handle(ctx context.Context, record slog.Record) error {
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		record.AddAttrs(
			slog.String("trace_id", span.SpanContext().TraceID().String()),
			slog.String("span_id", span.SpanContext().SpanID().String()),
		)
	}
	return h.Handler.Handle(ctx, record)
}

// WithAttrs is the handler's.
func (h traced) WithAttrs(attrs []slog.Attr) slog.Handler { return traced{h.Handler.WithAttrs(attrs)} }

// WithGroup is the handler's.
func (h traced) WithGroup(name string) slog.Handler { return traced{h.Handler.WithGroup(name)} }

// telling is an exporter that logs once that spans are lost, and once that they no longer are.
type telling struct {
	sdktrace.SpanExporter
	logger *slog.Logger
	losing atomic.Bool
}

// ExportSpans is the exporter's. The SDK would have its error printed, each time.
func (e *telling) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	switch {
	case err != nil && !e.losing.Swap(true):
		e.logger.WarnContext(ctx, "spans are lost", "err", err)
	case err != nil:
		e.logger.DebugContext(ctx, "spans are still lost", "err", err)
	case e.losing.Swap(false):
		e.logger.InfoContext(ctx, "spans are taken again")
	}
	return nil
}
