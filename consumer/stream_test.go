package consumer_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"publish-reconciler/streams"
)

// stored are the messages that a stream holds on a subject, oldest first.
func (w *world) stored(stream, subject string) []*jetstream.RawStreamMsg {
	w.Helper()
	s, err := w.js.Stream(w.Context(), stream)
	if err != nil {
		w.Fatal(err)
	}
	var found []*jetstream.RawStreamMsg
	for seq := uint64(1); ; {
		msg, err := s.GetMsg(w.Context(), seq, jetstream.WithGetMsgSubject(subject))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return found
		}
		if err != nil {
			w.Fatal(err)
		}
		found = append(found, msg)
		seq = msg.Sequence + 1
	}
}

// messageIDs are the ids of the messages that a stream holds on a subject: [world.stored] asks for one after the
// other, and these may be thousands.
func (w *world) messageIDs(stream, subject string) []string {
	w.Helper()
	c, err := w.js.OrderedConsumer(w.Context(), stream, jetstream.OrderedConsumerConfig{FilterSubjects: []string{subject}, HeadersOnly: true})
	if err != nil {
		w.Fatal(err)
	}
	info, err := c.Info(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	ids := make([]string, info.NumPending)
	if len(ids) == 0 {
		return ids
	}
	batch, err := c.Fetch(len(ids), jetstream.FetchMaxWait(soon))
	if err != nil {
		w.Fatal(err)
	}
	n := 0
	for msg := range batch.Messages() {
		ids[n] = msg.Headers().Get(nats.MsgIdHdr)
		n++
	}
	if n != len(ids) {
		w.Fatalf("%d of %d messages came: %v", n, len(ids), batch.Error())
	}
	return ids
}

// scheduled is the one message that is scheduled on a subject; it waits for it.
func (w *world) scheduled(subject string) *jetstream.RawStreamMsg {
	w.Helper()
	var found []*jetstream.RawStreamMsg
	w.until("a schedule on "+subject, func() bool {
		found = w.stored(streams.StreamChecks, subject)
		return len(found) == 1
	})
	return found[0]
}

func (w *world) scheduledAt(subject string) time.Time {
	w.Helper()
	at, ok := streams.ScheduledAt(w.scheduled(subject).Header)
	if !ok {
		w.Fatalf("no schedule on %s", subject)
	}
	return at
}

func (w *world) scheduleCheck(check streams.Check, at time.Time) {
	w.Helper()
	if err := streams.ScheduleCheck(w.Context(), w.js, check, at); err != nil {
		w.Fatal(err)
	}
}

func retrySubject(id uuid.UUID) string { return "publish.schedule.retry." + id.String() }

// letters are the dead letters of a kind, oldest first.
func (w *world) letters(kind streams.Kind) []*jetstream.RawStreamMsg {
	w.Helper()
	return w.stored(streams.StreamDead, streams.DeadSubject(kind))
}

// dead counts the dead letters of all kinds.
func (w *world) dead() int {
	w.Helper()
	return int(w.streamInfo(streams.StreamDead).State.Msgs)
}

func (w *world) purge(stream, subject string) {
	w.Helper()
	s, err := w.js.Stream(w.Context(), stream)
	if err != nil {
		w.Fatal(err)
	}
	if err := s.Purge(w.Context(), jetstream.WithPurgeSubject(subject)); err != nil {
		w.Fatal(err)
	}
}

func (w *world) streamInfo(name string) *jetstream.StreamInfo {
	w.Helper()
	s, err := w.js.Stream(w.Context(), name)
	if err != nil {
		w.Fatal(err)
	}
	return s.CachedInfo()
}

func (w *world) consumerInfo(name string) *jetstream.ConsumerInfo {
	w.Helper()
	c, err := w.js.Consumer(w.Context(), definition(w.T, name).Stream, name)
	if err != nil {
		w.Fatal(err)
	}
	return c.CachedInfo()
}

// definition is a durable consumer as streams has it.
func definition(t *testing.T, name string) streams.ConsumerDefinition {
	t.Helper()
	for _, d := range streams.Consumers() {
		if d.Config.Durable == name {
			return d
		}
	}
	t.Fatalf("no consumer %s", name)
	return streams.ConsumerDefinition{}
}

// backlog is what a consumer has left to do.
type backlog struct {
	// Waiting was not delivered yet, or came back; InHand is not settled yet.
	Waiting, InHand int
}

func (w *world) backlog(name string) backlog {
	w.Helper()
	info := w.consumerInfo(name)
	return backlog{Waiting: int(info.NumPending), InHand: info.NumAckPending}
}

// settled waits until a consumer has nothing left to do.
func (w *world) settled(name string) {
	w.Helper()
	becomes(w, "backlog of "+name, backlog{}, func() backlog { return w.backlog(name) })
}

// allSettled waits until no consumer has anything left to do.
func (w *world) allSettled() {
	w.Helper()
	for _, d := range streams.Consumers() {
		w.settled(d.Config.Durable)
	}
}
