package simulate

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"publish-reconciler/reconciler"
	"publish-reconciler/streams"
)

// mail is what the service has published about the run's logs, by log.
type mail struct {
	letters map[int][]letter
	told    map[int]map[uuid.UUID]bool
}

// readMail reads the dead letters and the outcome events, those of others left out.
func (s *Simulation) readMail(ctx context.Context) (m mail, err error) {
	m.letters, m.told = make(map[int][]letter), make(map[int]map[uuid.UUID]bool)
	read := s.from
	err = s.persist(ctx, "read the dead letters", func(ctx context.Context) error {
		return s.read(ctx, streams.StreamDead, nil, &read.dead, func(msg jetstream.Msg) error {
			index, l, err := s.readLetter(msg)
			if index >= 0 {
				m.letters[index] = append(m.letters[index], l)
			}
			return err
		})
	})
	if err != nil || !s.cfg.Events {
		return m, err
	}
	subjects := make([]string, len(platforms))
	for i, platform := range platforms {
		subjects[i] = streams.EventSubject(platform, "*")
	}
	err = s.persist(ctx, "read the outcome events", func(ctx context.Context) error {
		return s.read(ctx, streams.StreamEvents, subjects, &read.events, func(msg jetstream.Msg) error {
			var change reconciler.StateChange
			id, err := uuid.Parse(msg.Headers().Get(nats.MsgIdHdr))
			if err != nil || json.Unmarshal(msg.Data(), &change) != nil {
				return nil //nolint:nilerr // no event of a log, such as a hold
			}
			index, own := s.cfg.Run.indexOf(change.LogID)
			if !own {
				return nil
			}
			if m.told[index] == nil {
				m.told[index] = make(map[uuid.UUID]bool, 2)
			}
			m.told[index][id] = true
			return nil
		})
	})
	return m, err
}

// readLetter tells which log a dead letter is about; -1 for none of the run's.
func (s *Simulation) readLetter(msg jetstream.Msg) (index int, l letter, err error) {
	header := msg.Headers()
	metadata, err := msg.Metadata()
	if err != nil {
		return -1, l, err
	}
	kind := streams.Kind(lastToken(msg.Subject()))
	name := header.Get(headerLog)
	if kind == streams.KindCheck {
		name = lastToken(header.Get(streams.HeaderDeadSubject))
	}
	index, own := s.cfg.Run.parseIndex(name)
	if !own {
		return -1, l, nil
	}
	return index, letter{
		place:    metadata.Sequence.Stream,
		kind:     kind,
		reason:   streams.Reason(header.Get(streams.HeaderDeadReason)),
		original: header.Get(streams.HeaderDeadSequence) + " at " + header.Get(streams.HeaderDeadTime),
		body:     string(msg.Data()),
	}, nil
}

// read hands over what a stream holds behind a place, up to where it ends now, and moves the place along: the
// next attempt goes on there.
func (s *Simulation) read(ctx context.Context, stream string, subjects []string, behind *uint64, take func(jetstream.Msg) error) error {
	reader, err := s.cfg.JS.CreateConsumer(ctx, stream, jetstream.ConsumerConfig{
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       *behind + 1,
		FilterSubjects:    subjects,
		AckPolicy:         jetstream.AckNonePolicy,
		InactiveThreshold: time.Minute,
		MemoryStorage:     true,
	})
	if err != nil {
		return err
	}
	defer func() {
		_ = s.cfg.JS.DeleteConsumer(context.WithoutCancel(ctx), stream, reader.CachedInfo().Name) // else it ends by itself
	}()
	for left := reader.CachedInfo().NumPending; left > 0 && ctx.Err() == nil; {
		batch, err := reader.Fetch(int(min(left, 2*batchSize)), jetstream.FetchMaxWait(5*time.Second)) //nolint:gosec // at most a batch
		if err != nil {
			return err
		}
		n := uint64(0)
		for msg := range batch.Messages() {
			n++
			metadata, err := msg.Metadata()
			if err == nil {
				err = take(msg)
			}
			if err != nil {
				return err
			}
			*behind = metadata.Sequence.Stream
		}
		if err := batch.Error(); err != nil {
			return err
		}
		if n == 0 {
			return nil // others have taken out what was left
		}
		left -= min(n, left)
	}
	return ctx.Err()
}

func lastToken(subject string) string { return subject[strings.LastIndexByte(subject, '.')+1:] }
