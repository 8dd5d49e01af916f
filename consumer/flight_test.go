package consumer_test

import (
	"fmt"
	"testing"

	"publish-reconciler/streams"
)

// Batches are worked on two at a time. What is about the same post is decided in the order in which it came all the same.
func TestTwoBatchesInFlightKeepTheOrder(t *testing.T) {
	t.Parallel()
	w := setup(t)
	const posts = 60
	w.insertLogs("p", posts, 0)
	// One webhook a batch: every second one comes while the one before it, about the same post, is in flight.
	w.sendMany(2*posts, func(i int) (subject, body string) {
		status := []string{"rejected", "published"}[i%2]
		return webhooks, fmt.Sprintf(`{"external_post_id":"p%d","status":%q}`, i/2+1, status)
	})
	w.start(batchSize(1))
	w.settled(streams.ConsumerWebhooks)
	equal(t, "logs", w.statuses(), fmt.Sprint("failed ", posts))
}
