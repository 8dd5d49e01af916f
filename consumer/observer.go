package consumer

import (
	"time"

	"publish-reconciler/streams"
)

// Observer is told what messages are consumed. Its methods are called by several goroutines at once, and must not wait.
type Observer interface {
	// Batch is told how many messages a durable consumer's batch has.
	Batch(consumer string, messages int)
	// Decided is told of each webhook and each check that is done with, once what it led to is committed, how long
	// after JetStream stored it that is. It is by the NATS server's clock, and may be a little less than nothing.
	Decided(kind streams.Kind, after time.Duration)
}

// unobserved is the observer where there is none.
type unobserved struct{}

func (unobserved) Batch(string, int)                   {}
func (unobserved) Decided(streams.Kind, time.Duration) {}
