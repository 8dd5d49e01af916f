package streams

import (
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// AckWait is how long a message may stay in hand before JetStream delivers it again. It must exceed
	// the longest a batch can take (two batches in hand, each with the store's time limit).
	AckWait = 30 * time.Second

	// MaxAckPending bounds the messages of one consumer in hand over all replicas together: room for four
	// replicas with four batches of 500 each.
	MaxAckPending = 8000
)

// Streams returns the definitions of the streams, kept on replicas servers each (1 or 3).
func Streams(replicas int) []jetstream.StreamConfig {
	return []jetstream.StreamConfig{
		{
			Name:        StreamWebhooks,
			Description: "What the platforms said about posts",
			Subjects:    []string{prefixWebhook + "*"},
			Retention:   jetstream.LimitsPolicy,
			Storage:     jetstream.FileStorage,
			Replicas:    replicas,
			MaxAge:      7 * 24 * time.Hour,
			// A full stream refuses the ingestor's publish, which tries again, instead of dropping the oldest.
			Discard:    jetstream.DiscardNew,
			Duplicates: 2 * time.Minute,
		},
		{
			Name:        StreamChecks,
			Description: "Checks and sweeps, due and scheduled",
			Subjects:    []string{prefixCheck + "*", SubjectSweep, "publish.schedule.>"},
			Retention:   jetstream.WorkQueuePolicy,
			Storage:     jetstream.FileStorage,
			Replicas:    replicas,
			// A stream with schedules must be discard old, and it has no limit that would discard.
			Discard:           jetstream.DiscardOld,
			Duplicates:        2 * time.Minute,
			AllowMsgTTL:       true,
			AllowMsgSchedules: true,
			AllowRollup:       true, // a schedule replaces the one before it on its subject
		},
		{
			Name:        StreamDead,
			Description: "Messages that can never be processed, whole, with the reason",
			Subjects:    []string{prefixDead + "*"},
			Retention:   jetstream.LimitsPolicy,
			Storage:     jetstream.FileStorage,
			Replicas:    replicas,
			MaxAge:      30 * 24 * time.Hour,
			Discard:     jetstream.DiscardOld,
			// Long enough for a crash between the dead letter and the end of its original to leave one letter.
			Duplicates: time.Hour,
		},
		{
			Name:        StreamEvents,
			Description: "What became of the logs",
			Subjects:    []string{prefixEvent + ">"},
			Retention:   jetstream.LimitsPolicy,
			Storage:     jetstream.FileStorage,
			Replicas:    replicas,
			MaxAge:      7 * 24 * time.Hour,
			Discard:     jetstream.DiscardOld,
			Duplicates:  2 * time.Minute,
		},
	}
}

// ConsumerDefinition is one durable consumer and the stream it reads.
type ConsumerDefinition struct {
	Stream string
	Config jetstream.ConsumerConfig
}

// Consumers returns the definitions of the durable pull consumers. None of them has a MaxDeliver: a
// message leaves by being settled, never by being counted out.
func Consumers() []ConsumerDefinition {
	durable := func(name, filter string, maxAckPending int) jetstream.ConsumerConfig {
		return jetstream.ConsumerConfig{
			Durable:       name,
			FilterSubject: filter,
			DeliverPolicy: jetstream.DeliverAllPolicy,
			AckPolicy:     jetstream.AckExplicitPolicy,
			AckWait:       AckWait,
			MaxDeliver:    -1,
			MaxAckPending: maxAckPending,
		}
	}
	return []ConsumerDefinition{
		{StreamWebhooks, durable(ConsumerWebhooks, prefixWebhook+"*", MaxAckPending)},
		{StreamChecks, durable(ConsumerChecks, prefixCheck+"*", MaxAckPending)},
		// One sweep at a time over all replicas, without a leader: one tick in hand.
		{StreamChecks, durable(ConsumerSweeper, SubjectSweep, 1)},
	}
}
