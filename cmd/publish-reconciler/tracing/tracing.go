// Package tracing sends spans of the service's work to an OpenTelemetry collector, by OTLP over HTTP. It is off unless
// OpenTelemetry's standard variables name one.
package tracing

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/exaring/otelpgx"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/multitracer"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	metrics "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"publish-reconciler/reconciler"
)

const (
	serviceName = "publish-reconciler"
	// stopTimeout is how long the last spans may take to be sent.
	stopTimeout = 2 * time.Second
	// maxLinks is enough for a batch: one link for each of its messages. OpenTelemetry's default is 128.
	maxLinks = 2000
)

// Tracing makes spans and sends them. Nil makes none: all its methods are there.
type Tracing struct {
	provider *sdktrace.TracerProvider
}

// Start returns nil where tracing is off. Its error names a variable, its value, and what is allowed. It connects to
// nothing yet.
func Start(ctx context.Context, getenv func(string) string, version string, logger *slog.Logger) (*Tracing, error) {
	if on, err := enabled(getenv); !on || err != nil {
		return nil, err
	}
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("trace: %w", err)
	}
	// The variables come last, and so they count.
	about, err := resource.New(ctx,
		resource.WithTelemetrySDK(), resource.WithHost(), resource.WithProcessPID(),
		resource.WithAttributes(attribute.String("service.name", serviceName), attribute.String("service.version", version)),
		resource.WithFromEnv(),
	)
	if err != nil && !errors.Is(err, resource.ErrPartialResource) {
		return nil, fmt.Errorf("trace: OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	limits := sdktrace.NewSpanLimits()
	if getenv("OTEL_SPAN_LINK_COUNT_LIMIT") == "" {
		limits.LinkCountLimit = maxLinks
	}
	return &Tracing{sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(&telling{SpanExporter: exporter, logger: logger}),
		sdktrace.WithResource(about),
		sdktrace.WithRawSpanLimits(limits),
	)}, nil
}

// enabled reads the variables that OpenTelemetry's SDK leaves to its user.
func enabled(getenv func(string) string) (bool, error) {
	endpointName := "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
	endpoint := getenv(endpointName)
	if endpoint == "" {
		endpointName = "OTEL_EXPORTER_OTLP_ENDPOINT"
		endpoint = getenv(endpointName)
	}
	exporter := getenv("OTEL_TRACES_EXPORTER")
	if endpoint == "" || exporter == "none" || strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true") {
		return false, nil
	}
	var faults []error
	if u, err := url.Parse(endpoint); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		faults = append(faults, fmt.Errorf("%s can't be read: it must be a URL such as http://127.0.0.1:4318", endpointName))
	}
	if exporter != "" && exporter != "otlp" {
		faults = append(faults, fmt.Errorf("OTEL_TRACES_EXPORTER is %q: it must be otlp or none", exporter))
	}
	protocol := cmp.Or(getenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"), getenv("OTEL_EXPORTER_OTLP_PROTOCOL"))
	if protocol != "" && protocol != "http/protobuf" {
		faults = append(faults, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL is %q: it must be http/protobuf", protocol))
	}
	return len(faults) == 0, errors.Join(faults...)
}

// Stop sends what is left, for at most two seconds.
func (t *Tracing) Stop(ctx context.Context) {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	_ = t.provider.Shutdown(ctx) // the exporter has told
}

// Tracer makes spans.
func (t *Tracing) Tracer() trace.Tracer {
	if t == nil {
		return noop.Tracer{}
	}
	return t.provider.Tracer(serviceName)
}

// Postgres has a span made of each round trip to Postgres, and each statement in it, that is made within another span;
// the other tracer is told as well.
func (t *Tracing) Postgres(other pgx.QueryTracer) pgx.QueryTracer {
	if t == nil {
		return other
	}
	return multitracer.New(other, otelpgx.NewTracer(
		otelpgx.WithTracerProvider(t.provider), otelpgx.WithMeterProvider(metrics.NewMeterProvider()), otelpgx.WithDisableAcquireTracer(),
	))
}

// Store has a span made of each decision on a batch that is made within another span.
func (t *Tracing) Store(store reconciler.Store) reconciler.Store {
	if t == nil {
		return store
	}
	return decisions{store, t.Tracer()}
}

type decisions struct {
	reconciler.Store
	tracer trace.Tracer
}

// Transact is the store's.
func (d decisions) Transact(ctx context.Context, keys reconciler.Keys, decide func(reconciler.Locked) reconciler.Changes) error {
	if !trace.SpanFromContext(ctx).IsRecording() {
		return d.Store.Transact(ctx, keys, decide)
	}
	return d.Store.Transact(ctx, keys, func(locked reconciler.Locked) reconciler.Changes {
		_, span := d.tracer.Start(ctx, "decide")
		defer span.End()
		changes := decide(locked)
		span.SetAttributes(
			attribute.Int("publish_reconciler.logs", len(locked.Logs)),
			attribute.Int("publish_reconciler.state_changes", len(changes.Outbox)),
		)
		if len(locked.Logs) == 1 {
			log := locked.Logs[0]
			span.SetAttributes(attribute.String("publish_reconciler.log_id", log.ID.String()), attribute.String("publish_reconciler.platform", log.Post.Platform))
		}
		if len(changes.Outbox) == 1 {
			change := changes.Outbox[0]
			span.SetAttributes(
				attribute.String("publish_reconciler.status", string(change.To)),
				attribute.String("publish_reconciler.reason", string(change.Reason)),
				attribute.String("publish_reconciler.trigger", string(change.Trigger)),
			)
		}
		return changes
	})
}
