package repo

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"publish-reconciler/reconciler"
)

const (
	// knowPlatformsSQL makes the rows that are missing. Others may make the same: in the order of the names
	// nobody waits in a circle.
	knowPlatformsSQL = `
INSERT INTO publish_platforms (platform)
SELECT name FROM unnest($1::text[]) AS name
 WHERE NOT EXISTS (SELECT FROM publish_platforms p WHERE p.platform = name)
 ORDER BY name
    ON CONFLICT DO NOTHING`

	// confirmedSQL waits for nobody: whoever holds a platform's row, for however long, must not hold up its
	// webhooks, and the next confirmation is not far. It writes at most once a second.
	confirmedSQL = `
UPDATE publish_platforms known
   SET confirmed_at = clock_timestamp()
  FROM (SELECT platform FROM publish_platforms
         WHERE platform = ANY ($1::text[])
           AND (confirmed_at IS NULL OR confirmed_at < clock_timestamp() - interval '1 second')
           FOR UPDATE SKIP LOCKED) free
 WHERE known.platform = free.platform`

	silentSQL = `
INSERT INTO publish_platform_silence (platform, at, logs)
SELECT s.platform, now(), s.logs
  FROM unnest($1::text[], $2::int[]) AS s(platform, logs)`
)

// queueSigns queues what the transaction learned of platforms.
func queueSigns(batch *pgx.Batch, changes reconciler.Changes) {
	confirmed, silent := make(map[string]bool), make(map[string]int)
	for _, sign := range changes.Signs {
		if sign.Confirmed {
			confirmed[sign.Platform] = true
		}
		if sign.Silent {
			silent[sign.Platform]++
		}
	}
	if len(confirmed) > 0 {
		platforms := slices.Collect(maps.Keys(confirmed))
		batch.Queue(knowPlatformsSQL, platforms)
		batch.Queue(confirmedSQL, platforms)
	}
	if len(silent) > 0 {
		platforms := slices.Collect(maps.Keys(silent))
		logs := make([]int, len(platforms))
		for i, platform := range platforms {
			logs[i] = silent[platform]
		}
		batch.Queue(silentSQL, platforms, logs)
	}
}

const (
	platformColumns = `p.platform, p.confirmed_at, p.held_since, p.held_until, p.hold_ended`

	lockPlatformsSQL = `
SELECT ` + platformColumns + `,
       (SELECT coalesce(sum(s.logs), 0)::int
          FROM publish_platform_silence s
         WHERE s.platform = p.platform AND s.at >= now() - $2::interval),
       now()
  FROM publish_platforms p
 WHERE p.platform = ANY ($1::text[])
 ORDER BY p.platform
   FOR UPDATE`

	beginHoldSQL = `
UPDATE publish_platforms SET held_since = $2, held_until = $3, hold_ended = false WHERE platform = $1`

	endHoldSQL = `UPDATE publish_platforms SET hold_ended = true WHERE platform = $1`

	// forgetSilenceSQL keeps the table as small as it is needed: a window is minutes.
	forgetSilenceSQL = `
DELETE FROM publish_platform_silence
 WHERE platform = ANY ($1::text[]) AND at < now() - interval '1 hour'`
)

// holdOutcome is the last token of the subject on which the begin of a hold is told.
const holdOutcome = "hold"

// Platforms locks what is known of the platforms, hands it to decide in the order of their names, and writes
// what decide returns, all in one transaction. Decide sees what fell due in silence within the window.
func (s *Store) Platforms(ctx context.Context, platforms []string, window time.Duration, decide func([]reconciler.Platform, time.Time) []reconciler.HoldChange) error {
	ctx, cancel := s.limit(ctx, "look after platforms")
	defer cancel()
	told := false
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, knowPlatformsSQL, platforms); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, lockPlatformsSQL, platforms, window)
		if err != nil {
			return err
		}
		var now time.Time
		known, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (reconciler.Platform, error) {
			return scanPlatform(row, &now)
		})
		if err != nil {
			return err
		}
		batch := &pgx.Batch{}
		batch.Queue(forgetSilenceSQL, platforms)
		for _, change := range decide(known, now) {
			hold := change.Hold
			if change.Begun == nil {
				batch.Queue(endHoldSQL, hold.Platform)
				continue
			}
			batch.Queue(beginHoldSQL, hold.Platform, hold.Since, hold.Until)
			if s.outbox {
				told = true
				body, err := json.Marshal(change.Begun)
				if err != nil {
					return fmt.Errorf("hold of %s: %w", hold.Platform, err)
				}
				queueOutbox(batch, []reconciler.OutboxEvent{{ID: change.Begun.ID, Platform: hold.Platform, Outcome: holdOutcome, Body: body}})
			}
		}
		return tx.SendBatch(ctx, batch).Close()
	})
	if err != nil {
		return translate(ctx, err)
	}
	if told {
		s.wakeOutbox()
	}
	return nil
}

const holdsSQL = `
SELECT ` + platformColumns + `, 0, now()
  FROM publish_platforms p
 WHERE p.held_until > now()
 ORDER BY p.platform`

// Holds are the holds that are on now.
func (s *Store) Holds(ctx context.Context) ([]reconciler.Hold, error) {
	ctx, cancel := s.limit(ctx, "look for holds")
	defer cancel()
	rows, err := s.pool.Query(ctx, holdsSQL)
	if err != nil {
		return nil, translate(ctx, err)
	}
	holds, err := collectHolds(rows)
	if err != nil {
		return nil, translate(ctx, err)
	}
	return holds, nil
}

// collectHolds are the holds that are on, of the platforms in the rows.
func collectHolds(rows pgx.Rows) ([]reconciler.Hold, error) {
	var now time.Time
	platforms, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (reconciler.Platform, error) {
		return scanPlatform(row, &now)
	})
	holds := []reconciler.Hold{}
	for _, p := range platforms {
		if p.Held(now) {
			holds = append(holds, *p.Hold)
		}
	}
	return holds, err
}

func scanPlatform(row pgx.CollectableRow, now *time.Time) (reconciler.Platform, error) {
	var p reconciler.Platform
	var confirmed, since, until *time.Time
	if err := row.Scan(&p.Name, &confirmed, &since, &until, &p.HoldEnded, &p.Due, now); err != nil {
		return p, err
	}
	if confirmed != nil {
		p.ConfirmedAt = *confirmed
	}
	if since != nil && until != nil {
		p.Hold = &reconciler.Hold{Platform: p.Name, Since: since.UTC(), Until: until.UTC()}
	}
	return p, nil
}
