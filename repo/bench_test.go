package repo_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"publish-reconciler/reconciler"
)

// benchmarkBatch measures do over batches of 500 logs that a publisher has just left in the status. Their
// ids are UUIDv7, and the first batch, which connects and prepares, is not measured.
func benchmarkBatch(b *testing.B, status string, do func(*service, []uuid.UUID, int) error) {
	b.Helper()
	const batch = 500
	s := newService(b)
	ids := make([]uuid.UUID, batch)
	n := 0
	publish := func() {
		posts := make([]string, batch)
		for i := range ids {
			ids[i], posts[i] = uuid.Must(uuid.NewV7()), fmt.Sprintf("post_%d_%d", n, i)
		}
		s.exec(`INSERT INTO publish_logs (id, platform, status, external_post_id, updated_at)
		        SELECT id, 'instagram', $3, post, now() - interval '1 hour'
		          FROM unnest($1::uuid[], $2::text[]) AS l(id, post)`, ids, posts, status)
	}
	run := func() {
		if err := do(s, ids, n); err != nil {
			b.Fatal(err)
		}
		n++
	}
	publish()
	run()
	for b.Loop() {
		b.StopTimer()
		publish()
		b.StartTimer()
		run()
	}
	b.ReportMetric(float64(b.N)*batch/b.Elapsed().Seconds(), "logs/s")
	equal(b, "logs still open", one[int](s.world, `SELECT count(*) FROM publish_logs WHERE status = 'processing'`), 0)
}

func checkAll(s *service, ids []uuid.UUID, _ int) error {
	checks := make([]reconciler.Check, len(ids))
	for i, id := range ids {
		checks[i].LogID = id
	}
	_, err := s.Checks(s.Context(), checks)
	return err
}

func BenchmarkWebhooksToSuccess(b *testing.B) {
	benchmarkBatch(b, "processing", func(s *service, ids []uuid.UUID, n int) error {
		webhooks := make([]reconciler.Webhook, len(ids))
		for i := range ids {
			post := fmt.Sprintf("post_%d_%d", n, i)
			webhooks[i] = reconciler.Webhook{
				Post:       reconciler.Post{Platform: "instagram", ExternalPostID: post},
				Fields:     map[string]any{"external_post_id": post, "status": "published", "media_url": "https://instagram.com/p/" + post},
				ReceivedAt: time.Now(),
			}
		}
		_, err := s.Webhooks(s.Context(), webhooks)
		return err
	})
}

func BenchmarkChecksToFailed(b *testing.B) { benchmarkBatch(b, "processing", checkAll) }

func BenchmarkChecksOfFinalLogs(b *testing.B) { benchmarkBatch(b, "success", checkAll) }
