package repo

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Parked is a webhook that waits for its log.
type Parked struct {
	ID             uuid.UUID
	Platform       string
	ExternalPostID string
	ReceivedAt     time.Time
	// Payload is its JSON, of which 4,096 characters are read; Whole is how many it has.
	Payload string
	Whole   int
}

const parkedColumns = `
SELECT p.id, p.platform, p.external_post_id, p.received_at, left(p.payload::text, 4096), length(p.payload::text)
  FROM parked_webhooks p`

var (
	findPostSQL = fmt.Sprintf(everyPlatformSQL, "publish_logs") + rowsSQL + `
 WHERE l.id = ANY (ARRAY(SELECT id FROM found))
 ORDER BY ` + listedLast + ` DESC, l.id DESC`

	findParkedSQL = fmt.Sprintf(everyPlatformSQL, "parked_webhooks") + parkedColumns + `
 WHERE p.id = ANY (ARRAY(SELECT id FROM found))
 ORDER BY p.received_at, p.id`
)

// ParkedPage is a page of the parked webhooks, oldest first, from beyond a place in that order; zero values are the first.
type ParkedPage struct {
	After   time.Time
	AfterID uuid.UUID
	Limit   int
}

const parkedPageSQL = parkedColumns + `
 WHERE (p.received_at, p.id) > ($1, $2)
 ORDER BY p.received_at, p.id
 LIMIT $3`

// ParkedWebhooks is a page of the parked webhooks, by parked_webhooks_received_idx. More tells that others follow.
func (s *Store) ParkedWebhooks(ctx context.Context, page ParkedPage) (parked []Parked, more bool, err error) {
	parked, err = s.parked(ctx, "list parked webhooks", parkedPageSQL, page.After, page.AfterID, page.Limit+1)
	if len(parked) > page.Limit {
		return parked[:page.Limit], true, err
	}
	return parked, false, err
}

// FindParked returns the parked webhooks of a post, oldest first, 200 at most, as [Store.FindPost] finds logs.
func (s *Store) FindParked(ctx context.Context, platform, post string) ([]Parked, error) {
	return s.parked(ctx, "look for parked webhooks", findParkedSQL, post, orNull(platform), maxPlatforms, maxFound)
}

func (s *Store) parked(ctx context.Context, what, sql string, args ...any) ([]Parked, error) {
	ctx, cancel := s.limit(ctx, what)
	defer cancel()
	rows, err := s.pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, translate(ctx, err)
	}
	parked, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Parked])
	if err != nil {
		return nil, translate(ctx, err)
	}
	return parked, nil
}
