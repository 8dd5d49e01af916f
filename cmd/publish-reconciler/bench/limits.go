package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"publish-reconciler/streams"
)

// What stands beside more than one line.
const (
	oneStatementName = "the same rows in one SQL statement"
	fetchAndAckName  = "the same messages, fetched and acknowledged"
)

// limits are what the same machine does at most with the same logs and messages, and what it does one at a time.
func (w *world) limits(ctx context.Context, figure *Figure) error {
	n := w.scale(100_000, 10_000)
	if err := w.limit(ctx, figure, oneStatementName, 0.5, n, w.oneStatement(confirmed)); err != nil {
		return err
	}
	if err := w.limit(ctx, figure, fetchAndAckName, 0, n, w.fetchAndAck); err != nil {
		return err
	}
	// The service takes them one by one then, too, two at the same time.
	if _, err := w.start(ctx, "--events=off", "--batch-size=1"); err != nil {
		return err
	}
	if _, err := w.confirm(ctx, n/100); err != nil {
		return err
	}
	return w.limit(ctx, figure, "one message, one transaction", 8, n/20, w.confirm)
}

// limit adds one, of which the figure must be a multiple at least; zero: it need not.
func (*world) limit(ctx context.Context, figure *Figure, name string, target float64, n int, measure func(context.Context, int) (time.Duration, error)) error {
	took, err := measure(ctx, n)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	figure.Limits = append(figure.Limits, Limit{Name: name, Value: float64(n) / took.Seconds(), Target: target})
	return nil
}

// written is what the service writes about a log: its state, its metadata, and its events.
type written struct {
	status, url, row string
	events           [][2]string // type and metadata
}

// oneStatement writes that for n logs.
func (w *world) oneStatement(what written) func(context.Context, int) (time.Duration, error) {
	return func(ctx context.Context, n int) (time.Duration, error) {
		from, err := w.insert(ctx, n, "processing", 0)
		if err != nil {
			return 0, err
		}
		var kinds, metadata []string
		for _, event := range what.events {
			kinds, metadata = append(kinds, event[0]), append(metadata, event[1])
		}
		began := time.Now()
		tag, err := w.db.Exec(ctx, `
			WITH closed AS (
			    UPDATE publish_logs l
			       SET status = $3, published_at = now(), updated_at = now(), external_url = nullif($4 || l.external_post_id, l.external_post_id),
			           extra_metadata = l.extra_metadata || $5::jsonb
			      FROM generate_series($1::int, $1 + $2 - 1) n
			     WHERE l.platform = `+platformSQL+` AND l.external_post_id = 'post_' || n
			    RETURNING l.id::text)
			INSERT INTO ledger_events (event_type, severity, entity_type, entity_id, metadata)
			SELECT e.kind, 'info', 'publish_log', closed.id, e.metadata
			  FROM closed, unnest($6::text[], $7::jsonb[]) AS e(kind, metadata)`,
			from, n, what.status, what.url, what.row, kinds, metadata)
		if events := int64(n * len(kinds)); err == nil && tag.RowsAffected() != events {
			err = fmt.Errorf("%d events were written, must be %d", tag.RowsAffected(), events)
		}
		return time.Since(began), err
	}
}

var (
	confirmed = written{"success", "https://instagram.com/p/", rowMetadata, [][2]string{{"publish_webhook_received", receivedMetadata}, {"publish_reconciled", reconciledMetadata}}}
	failed    = written{"failed", "", failedMetadata, [][2]string{{"publish_reconciled", timedOutMetadata}}}
)

// What the service writes about such a webhook, as JSON.
const (
	rowMetadata = `{"media_url":"https://instagram.com/p/post_1234567/","timestamp":"2024-01-15T10:30:00Z",
		"webhook_received":true,"webhook_platform":"instagram","webhook_status":"published","webhook_timestamp":"2024-01-15T10:30:00.123456789Z",
		"reconciled":true,"reconciled_at":"2024-01-15T10:30:00.123456Z","reconciliation_reason":"webhook_confirmed","reconciliation_trigger":"webhook"}`
	receivedMetadata   = `{"platform":"instagram","external_post_id":"post_1234567","webhook_status":"published"}`
	reconciledMetadata = `{"platform":"instagram","reason":"webhook_confirmed","trigger":"webhook","action":"marked_success","external_post_id":"post_1234567",
		"timeout_minutes":10,"deadline":"2024-01-15T10:40:00.123456Z","webhook_status":"published","webhook_timestamp":"2024-01-15T10:30:00.123456789Z"}`

	failedMetadata   = `{"reconciled":true,"reconciled_at":"2024-01-15T10:30:00.123456Z","reconciliation_reason":"webhook_timeout","reconciliation_trigger":"check"}`
	timedOutMetadata = `{"platform":"instagram","reason":"webhook_timeout","trigger":"check","action":"marked_failed","external_post_id":"post_1234567",
		"timeout_minutes":10,"deadline":"2024-01-15T10:40:00.123456Z"}`
)

// fetchAndAck takes n webhooks from their stream, with pulls ahead as the service has them, and does nothing with them.
func (w *world) fetchAndAck(ctx context.Context, n int) (time.Duration, error) {
	stream, err := w.js.Stream(ctx, streams.StreamWebhooks)
	if err != nil {
		return 0, err
	}
	// The service is not to see them.
	if _, err := w.pause(ctx, streams.StreamWebhooks, streams.ConsumerWebhooks); err != nil {
		return 0, err
	}
	c, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverNewPolicy, AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: streams.MaxAckPending,
	})
	if err != nil {
		return 0, err
	}
	if err := w.publish(n, webhook); err != nil {
		return 0, err
	}
	began := time.Now()
	messages, err := c.Messages(jetstream.PullMaxMessages(1000))
	if err != nil {
		return 0, err
	}
	defer messages.Stop()
	for range n {
		msg, err := messages.Next(jetstream.NextContext(ctx))
		if err == nil {
			err = msg.Ack()
		}
		if err != nil {
			return 0, err
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
	if err == nil {
		_, err = w.js.ResumeConsumer(ctx, streams.StreamWebhooks, streams.ConsumerWebhooks)
	}
	return took, err
}
