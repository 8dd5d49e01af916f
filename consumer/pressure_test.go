package consumer_test

import (
	"strconv"
	"testing"
	"time"

	"publish-reconciler/streams"
)

func TestBackpressure(t *testing.T) {
	t.Parallel()
	const (
		batch = 100
		all   = 5000
	)
	tests := map[string]struct {
		storeTimeout time.Duration
		holds        time.Duration
		rounds       int // of redelivery, at most
	}{
		"the store waits": {storeTimeout: 10 * time.Second, holds: time.Second},
		// The pauses in between grow from 100 ms.
		"the store gives up": {storeTimeout: 300 * time.Millisecond, holds: 3 * time.Second, rounds: 10},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			w.insertLogs("p", all, 0)
			w.sendMany(all, publishedMany("p"))
			release := w.hold(`LOCK TABLE publish_logs`)
			defer release()
			w.start(batchSize(batch), func(p *parts) {
				p.store.Timeout = tt.storeTimeout
				p.store.URL += "&lock_timeout=" + strconv.FormatInt(soon.Milliseconds(), 10) // a slow store, not a lock that is not to be had
			})

			most := 0
			inHand := func() {
				info := w.consumerInfo(streams.ConsumerWebhooks)
				if info.NumAckPending > 4*batch {
					t.Errorf("%d messages in hand", info.NumAckPending)
				}
				most = max(most, info.NumAckPending)
				if done := int(info.AckFloor.Stream); done != 0 {
					t.Errorf("%d messages are settled, and nothing is written", done)
				}
			}
			w.until("batches are in hand", func() bool {
				inHand()
				return most >= batch
			})
			w.during(tt.holds, inHand)
			release()

			w.settled(streams.ConsumerWebhooks)
			equal(t, "logs", w.statuses(), "success 5000")
			equal(t, "reconciled", w.reconciled(), "5000 logs 1 times")
			equal(t, "events", one[int](w, `SELECT count(*) FROM ledger_events`), 2*all)
			equal(t, "dead letters", w.dead(), 0)
			equal(t, "parked", w.parked(), 0)
			if again := redelivered(w.consumerInfo(streams.ConsumerWebhooks)); again > tt.rounds*4*batch {
				t.Errorf("%d redeliveries", again)
			}
		})
	}
}
