package simulate

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"publish-reconciler/reconciler"
)

const (
	// lookSQL tells of logs where they stand. A row's patience is counted by the database's clock.
	lookSQL = `
SELECT id, status, coalesce(extra_metadata->>'webhook_status', ''), updated_at + make_interval(secs => $2) <= now()
  FROM publish_logs
 WHERE id = ANY ($1::uuid[])`

	// parkedSQL tells how many webhooks are parked for the posts.
	parkedSQL = `
SELECT p.external_post_id, count(*)
  FROM parked_webhooks p
  JOIN unnest($1::text[], $2::text[]) AS own(platform, post)
    ON p.platform = own.platform AND p.external_post_id = own.post
 GROUP BY p.external_post_id`
)

// sight is where a log stands.
type sight struct {
	id            uuid.UUID
	status        reconciler.Status
	webhookStatus string
	due           bool
}

func scanSight(row pgx.CollectableRow) (l sight, err error) {
	err = row.Scan(&l.id, &l.status, &l.webhookStatus, &l.due)
	return l, err
}

// look returns those of the logs that have what they wait for.
func (s *Simulation) look(ctx context.Context, logs []*actor) ([]*actor, error) {
	var met []*actor
	for part := range slices.Chunk(logs, 2*batchSize) {
		err := s.persist(ctx, fmt.Sprintf("look at %d logs", len(part)), func(ctx context.Context) error {
			found, err := s.lookAt(ctx, part)
			if err == nil {
				met = append(met, found...)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return met, nil
}

func (s *Simulation) lookAt(ctx context.Context, logs []*actor) (met []*actor, err error) {
	byID, byPost := make(map[uuid.UUID]*actor), make(map[string]*actor)
	ids, platforms, posts := []uuid.UUID{}, []string{}, []string{}
	for _, a := range logs {
		if a.wait() == ForParked {
			post := s.cfg.Run.post(a.log)
			byPost[post] = a
			platforms, posts = append(platforms, a.log.Platform), append(posts, post)
			continue
		}
		id := s.cfg.Run.logID(a.log.Index)
		byID[id] = a
		ids = append(ids, id)
	}
	batch := &pgx.Batch{}
	batch.Queue(lookSQL, ids, s.cfg.Plan.Timeout.Seconds()).Query(func(rows pgx.Rows) error {
		sights, err := pgx.CollectRows(rows, scanSight)
		for _, l := range sights {
			if a := byID[l.id]; l.meets(a) {
				met = append(met, a)
			}
		}
		return err
	})
	batch.Queue(parkedSQL, platforms, posts).Query(func(rows pgx.Rows) error {
		var post string
		var n int
		_, err := pgx.ForEachRow(rows, []any{&post, &n}, func() error {
			met = append(met, byPost[post])
			return nil
		})
		return err
	})
	return met, s.cfg.DB.SendBatch(ctx, batch).Close()
}

// meets tells whether this is what the log waits for.
func (l sight) meets(a *actor) bool {
	switch a.wait() {
	case ForFailed:
		return l.status == reconciler.StatusFailed
	case ForReviewed:
		return l.webhookStatus == vagueStatus && l.due
	case forEnd:
		if a.log.Outcome.Status.Open() {
			return l.webhookStatus != ""
		}
		return l.status == a.log.Outcome.Status
	case ForParked:
	}
	return false
}
