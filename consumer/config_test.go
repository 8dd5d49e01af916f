package consumer_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"publish-reconciler/consumer"
	"publish-reconciler/streams"
)

func TestConfig(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		cfg    consumer.Config
		faults []string
	}{
		"the zero value": {},
		"all at their limits": {cfg: consumer.Config{
			BatchSize: streams.MaxAckPending / 4, SweepInterval: time.Second, SweepMin: time.Second, StoreTimeout: streams.AckWait/2 - 1,
		}},
		"a batch of less than one": {consumer.Config{BatchSize: -1}, []string{"batch size is -1: it must be from 1 to 2000"}},
		"two batches exceed what may be in hand": {
			consumer.Config{BatchSize: streams.MaxAckPending/4 + 1},
			[]string{"batch size is 2001: it must be from 1 to 2000"},
		},
		"sweeps without a pause": {
			consumer.Config{SweepInterval: 999 * time.Millisecond},
			[]string{"sweep interval is 999ms: it must be at least 1s"},
		},
		"sweeps without even the shortest": {
			consumer.Config{SweepMin: 999 * time.Millisecond},
			[]string{"sweep minimum is 999ms: it must be at least 1s"},
		},
		"a drain that ends before it begins": {consumer.Config{DrainTimeout: -1}, []string{"drain timeout is -1ns: it must not be negative"}},
		"messages come back while in hand": {
			consumer.Config{StoreTimeout: streams.AckWait / 2},
			[]string{"store timeout is 15s: twice that must be less than the ack wait of 30s, or messages come back while in hand"},
		},
		"all at once": {
			consumer.Config{BatchSize: 5000, SweepInterval: -1, DrainTimeout: -1, StoreTimeout: time.Hour},
			[]string{
				"batch size is 5000: it must be from 1 to 2000",
				"sweep interval is -1ns: it must be at least 1s",
				"drain timeout is -1ns: it must not be negative",
				"store timeout is 1h0m0s: twice that must be less than the ack wait of 30s, or messages come back while in hand",
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := consumer.New(nil, nil, nil, nil, tt.cfg)
			var faults []string
			if err != nil {
				faults = strings.Split(err.Error(), "\n")
			}
			if !slices.Equal(faults, tt.faults) || (c == nil) != (tt.faults != nil) {
				t.Errorf("faults %q, want %q", faults, tt.faults)
			}
		})
	}
}
