package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"publish-reconciler/streams"
)

// limits are what the same machine does at most with the same logs and messages, and what it does one at a time.
func (w *world) limits(ctx context.Context, figure *Figure) error {
	n := w.scale(100_000, 20_000)
	from := 10 * n
	for _, limit := range []struct {
		name    string
		n       int
		measure func(context.Context, int, int) (time.Duration, error)
	}{
		{"the same rows in one SQL statement", n, w.oneStatement},
		{"the same messages, fetched and acknowledged", n, w.fetchAndAck},
		{"one message, one transaction", n / 20, w.oneAtATime},
	} {
		took, err := limit.measure(ctx, from, limit.n)
		if err != nil {
			return fmt.Errorf("%s: %w", limit.name, err)
		}
		figure.Limits = append(figure.Limits, Limit{Name: limit.name, Value: float64(limit.n) / took.Seconds()})
		from += n
	}
	return nil
}

// oneStatement writes what the service writes for n webhooks: the log's state and metadata, and two events.
func (w *world) oneStatement(ctx context.Context, from, n int) (time.Duration, error) {
	if err := w.insert(ctx, from, n, "processing", 0); err != nil {
		return 0, err
	}
	if err := w.settled(ctx); err != nil {
		return 0, err
	}
	began := time.Now()
	tag, err := w.db.Exec(ctx, `
		WITH closed AS (
		    UPDATE publish_logs l
		       SET status = 'success', published_at = now(), updated_at = now(), external_url = 'https://instagram.com/p/' || l.external_post_id || '/',
		           extra_metadata = l.extra_metadata || $3::jsonb
		      FROM generate_series($1::int, $1 + $2 - 1) n
		     WHERE l.platform = `+platformSQL+` AND l.external_post_id = 'post_' || n
		    RETURNING l.id::text)
		INSERT INTO ledger_events (event_type, severity, entity_type, entity_id, metadata)
		SELECT e.kind, 'info', 'publish_log', closed.id, e.metadata
		  FROM closed, (VALUES ('publish_webhook_received', $4::jsonb), ('publish_reconciled', $5::jsonb)) AS e(kind, metadata)`,
		from, n, rowMetadata, receivedMetadata, reconciledMetadata)
	if err == nil && tag.RowsAffected() != int64(2*n) {
		err = fmt.Errorf("%d events were written, must be %d", tag.RowsAffected(), 2*n)
	}
	return time.Since(began), err
}

// What the service writes about such a webhook, as JSON.
const (
	rowMetadata = `{"media_url":"https://instagram.com/p/post_1234567/","timestamp":"2024-01-15T10:30:00Z",
		"webhook_received":true,"webhook_platform":"instagram","webhook_status":"published","webhook_timestamp":"2024-01-15T10:30:00.123456789Z",
		"reconciled":true,"reconciled_at":"2024-01-15T10:30:00.123456Z","reconciliation_reason":"webhook_confirmed","reconciliation_trigger":"webhook"}`
	receivedMetadata   = `{"platform":"instagram","external_post_id":"post_1234567","webhook_status":"published"}`
	reconciledMetadata = `{"platform":"instagram","reason":"webhook_confirmed","trigger":"webhook","action":"marked_success","external_post_id":"post_1234567",
		"timeout_minutes":10,"deadline":"2024-01-15T10:40:00.123456Z","webhook_status":"published","webhook_timestamp":"2024-01-15T10:30:00.123456789Z"}`
)

// fetchAndAck takes n webhooks from their stream as the service does, and does nothing with them.
func (w *world) fetchAndAck(ctx context.Context, from, n int) (time.Duration, error) {
	stream, err := w.js.Stream(ctx, streams.StreamWebhooks)
	if err != nil {
		return 0, err
	}
	c, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverNewPolicy, AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: streams.MaxAckPending,
	})
	if err != nil {
		return 0, err
	}
	// The service is not to see them.
	if _, err := w.js.PauseConsumer(ctx, streams.StreamWebhooks, streams.ConsumerWebhooks, time.Now().Add(time.Hour)); err != nil {
		return 0, err
	}
	if err := w.publish(n, func(i int) *nats.Msg { return webhook(from + i) }); err != nil {
		return 0, err
	}
	began := time.Now()
	for done := 0; done < n; {
		batch, err := c.FetchNoWait(500)
		if err != nil {
			return 0, err
		}
		for msg := range batch.Messages() {
			if err := msg.Ack(); err != nil {
				return 0, err
			}
			done++
		}
	}
	err = w.until(ctx, "all are acknowledged", func() (bool, error) {
		info, err := c.Info(ctx)
		return err == nil && info.NumAckPending == 0, err
	})
	took := time.Since(began)
	if err == nil {
		err = stream.Purge(ctx)
	}
	return took, err
}

// oneAtATime has the service take one message in each transaction.
func (w *world) oneAtATime(ctx context.Context, from, n int) (time.Duration, error) {
	for _, s := range w.services {
		if err := s.stop(); err != nil {
			return 0, err
		}
	}
	if _, err := w.start(ctx, "--events=off", "--batch-size=1"); err != nil {
		return 0, err
	}
	return w.confirm(ctx, from, n)
}
