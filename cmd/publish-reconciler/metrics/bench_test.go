package metrics

import (
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"

	"publish-reconciler/reconciler"
	"publish-reconciler/streams"
)

// What a batch of 500 confirmed logs costs beside its transaction.
func BenchmarkBatch(b *testing.B) {
	m := New(Config{Policy: reconciler.Policy{Timeouts: map[string]time.Duration{"instagram": time.Minute}}, Now: time.Now, Logger: slog.New(slog.DiscardHandler)})
	batch := make([]reconciler.Observation, 500)
	for i := range batch {
		batch[i] = reconciler.Observation{
			LogID: uuid.New(), Platform: "instagram", Result: reconciler.ResultSuccess, Reason: reconciler.ReasonWebhookConfirmed, Trigger: reconciler.TriggerWebhook,
			ConfirmedAt: time.Now().Add(-time.Duration(i) * time.Millisecond),
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		m.Batch("webhooks", len(batch))
		m.Committed(batch)
		for i := range batch {
			m.Decided(streams.KindWebhook, time.Duration(i)*time.Millisecond)
		}
	}
	b.ReportMetric(float64(len(batch)*b.N)/b.Elapsed().Seconds(), "logs/s")
}
