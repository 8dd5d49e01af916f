package metrics

import (
	"cmp"
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"publish-reconciler/repo"
)

// Tracer measures the round trips to Postgres of a [repo.Store].
func (m *Metrics) Tracer() pgx.QueryTracer { return roundTrips{m} }

// roundTrips measures a batch as a whole: its statements travel together, and Postgres sends what they answer together.
type roundTrips struct{ metrics *Metrics }

var _ pgx.BatchTracer = roundTrips{}

type startKey struct{}

// TraceQueryStart is called before a query is sent.
func (roundTrips) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return context.WithValue(ctx, startKey{}, time.Now())
}

// TraceQueryEnd is called once all rows are read.
func (r roundTrips) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryEndData) {
	r.end(ctx)
}

// TraceBatchStart is called before a batch is sent.
func (roundTrips) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return context.WithValue(ctx, startKey{}, time.Now())
}

// TraceBatchQuery is called for each answer.
func (roundTrips) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

// TraceBatchEnd is called once all answers are read.
func (r roundTrips) TraceBatchEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchEndData) {
	r.end(ctx)
}

func (r roundTrips) end(ctx context.Context) {
	if start, ok := ctx.Value(startKey{}).(time.Time); ok {
		r.metrics.statement.WithLabelValues(cmp.Or(repo.StatementOf(ctx), "other")).Observe(time.Since(start).Seconds())
	}
}
