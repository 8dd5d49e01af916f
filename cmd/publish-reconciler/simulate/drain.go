package simulate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"publish-reconciler/streams"
)

// outboxSQL counts the outcome events of the run that are not told yet. The table is empty as a rule.
const outboxSQL = `
SELECT count(*)
  FROM publish_outbox, unnest(platforms, bodies) AS event(platform, body)
 WHERE platform = ANY ($1) AND body LIKE $2`

// findEnds notes where the streams end.
func (s *Simulation) findEnds(ctx context.Context) error {
	return s.persist(ctx, "look where the streams end", func(ctx context.Context) error {
		for name, last := range map[string]*uint64{streams.StreamDead: &s.from.dead, streams.StreamEvents: &s.from.events} {
			stream, err := s.cfg.JS.Stream(ctx, name)
			if err != nil {
				return fmt.Errorf("stream %s: %w", name, err)
			}
			*last = stream.CachedInfo().State.LastSeq
		}
		return nil
	})
}

// leftovers are messages of the run that the service is not done with.
type leftovers struct {
	// checks are subjects, by log.
	checks map[int][]string
	// webhooks tells that some are not acknowledged yet, as far as is known.
	webhooks bool
	// outbox counts outcome events.
	outbox int
}

// count is how much there is. Unacknowledged webhooks can't be counted among those of others.
func (l leftovers) count() int {
	n := len(l.checks) + l.outbox
	if l.webhooks {
		n++
	}
	return n
}

func (l leftovers) String() string {
	text := fmt.Sprintf("the checks of %d logs and %d outcome events", len(l.checks), l.outbox)
	if l.webhooks {
		text += " and unacknowledged webhooks"
	}
	return text
}

// drain waits until no message of the run is left.
func (s *Simulation) drain(ctx context.Context) error {
	least := -1
	for {
		left, err := s.left(ctx)
		if err != nil {
			return err
		}
		n := left.count()
		s.cfg.Progress(Progress{Logs: s.story.Len(), Done: s.story.Len(), Phase: fmt.Sprintf("waiting for %s", left)})
		if n == 0 {
			return nil
		}
		if least < 0 || n < least {
			least = n
			s.move()
		}
		if err := s.stalled(left.String()); err != nil {
			return err
		}
		if err := pause(ctx, 500*time.Millisecond); err != nil {
			return err
		}
	}
}

// left finds what messages of the run are left, among those of all others.
func (s *Simulation) left(ctx context.Context) (left leftovers, err error) {
	err = s.persist(ctx, "look for messages that are left", func(ctx context.Context) error {
		left = leftovers{}
		stream, err := s.cfg.JS.Stream(ctx, streams.StreamChecks)
		if err != nil {
			return err
		}
		info, err := stream.Info(ctx, jetstream.WithSubjectFilter("publish.>"))
		if err != nil {
			return err
		}
		left.checks = s.ownSubjects(info.State.Subjects)
		if last := s.webhooks.Load(); last > 0 { // else none was sent, or by another process
			consumer, err := s.cfg.JS.Consumer(ctx, streams.StreamWebhooks, streams.ConsumerWebhooks)
			switch {
			case errors.Is(err, jetstream.ErrConsumerNotFound):
				left.webhooks = true
			case err != nil:
				return err
			default:
				left.webhooks = consumer.CachedInfo().AckFloor.Stream < last
			}
		}
		// Last, since the others leave something here.
		return s.cfg.DB.QueryRow(ctx, outboxSQL, platforms, "%"+s.cfg.Run.idPrefix()+"%").Scan(&left.outbox)
	})
	return left, err
}

// ownSubjects are those that end with an id of the run's logs, by log.
func (s *Simulation) ownSubjects(subjects map[string]uint64) map[int][]string {
	own := make(map[int][]string)
	for subject := range subjects {
		if index, is := s.cfg.Run.parseIndex(lastToken(subject)); is {
			own[index] = append(own[index], subject)
		}
	}
	return own
}
