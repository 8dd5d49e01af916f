package simulate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"

	"publish-reconciler/streams"
)

const (
	deleteLogsSQL   = `DELETE FROM publish_logs WHERE id = ANY ($1::uuid[])`
	deleteLedgerSQL = `DELETE FROM ledger_events WHERE entity_type = 'publish_log' AND entity_id = ANY ($1::text[])`
	deleteParkedSQL = `
DELETE FROM parked_webhooks p
 USING unnest($1::text[], $2::text[]) AS own(platform, post)
 WHERE p.platform = own.platform AND p.external_post_id = own.post`
)

// CleanUp removes what the run has left behind: pending checks, rows, ledger events, parked webhooks and dead
// letters. Webhooks and outcome events stay in their streams for as long as these keep them.
func (s *Simulation) CleanUp(ctx context.Context) error {
	if err := s.awaitWebhooks(ctx); err != nil {
		return err
	}
	// Checks before rows: one that finds no row becomes a dead letter.
	if err := s.cancelChecks(ctx); err != nil {
		return err
	}
	begun := int(s.begun.Load())
	for from := 0; from < begun; from += batchSize {
		n := min(batchSize, begun-from)
		ids, texts := make([]uuid.UUID, n), make([]string, n)
		platforms, posts := make([]string, n), make([]string, n)
		for i := range n {
			log := s.story.Log(from + i)
			ids[i] = s.cfg.Run.logID(log.Index)
			texts[i], platforms[i], posts[i] = ids[i].String(), log.Platform, s.cfg.Run.post(log)
		}
		err := s.persist(ctx, fmt.Sprintf("remove %d logs", n), func(ctx context.Context) error {
			batch := &pgx.Batch{}
			batch.Queue(deleteLogsSQL, ids)
			batch.Queue(deleteLedgerSQL, texts)
			batch.Queue(deleteParkedSQL, platforms, posts)
			return pgx.BeginFunc(ctx, s.cfg.DB, func(tx pgx.Tx) error { return tx.SendBatch(ctx, batch).Close() })
		})
		if err != nil {
			return err
		}
	}
	return s.removeLetters(ctx)
}

// awaitWebhooks gives the service a while to read what was sent: a webhook that is read once its row is gone is
// parked for ever.
func (s *Simulation) awaitWebhooks(ctx context.Context) error {
	for deadline := time.Now().Add(min(attemptTimeout, s.cfg.Patience)); time.Now().Before(deadline); {
		left, err := s.left(ctx)
		if err != nil || !left.webhooks {
			return err
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

func (s *Simulation) cancelChecks(ctx context.Context) error {
	left, err := s.left(ctx)
	if err != nil {
		return err
	}
	for _, subjects := range left.checks {
		for _, subject := range subjects {
			err := s.persist(ctx, "cancel a check", func(ctx context.Context) error {
				stream, err := s.cfg.JS.Stream(ctx, streams.StreamChecks)
				if err != nil {
					return err
				}
				return stream.Purge(ctx, jetstream.WithPurgeSubject(subject))
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Simulation) removeLetters(ctx context.Context) error {
	mail, err := s.readMail(ctx)
	if err != nil {
		return err
	}
	for _, letters := range mail.letters {
		for _, l := range letters {
			err := s.persist(ctx, "remove a dead letter", func(ctx context.Context) error {
				stream, err := s.cfg.JS.Stream(ctx, streams.StreamDead)
				if err != nil {
					return err
				}
				if err := stream.DeleteMsg(ctx, l.place); !errors.Is(err, jetstream.ErrMsgNotFound) {
					return err
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}
