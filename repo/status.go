package repo

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// Backlog is what is open on one platform.
type Backlog struct {
	Platform string `json:"platform"`
	// Open counts the logs that have to be closed, Due those of them whose deadline has passed.
	Open int `json:"open"`
	Due  int `json:"due"`
	// OldestUpdate is the earliest last update of an open log; nil when no open log has one. It leaves out
	// what RFC 3339 can't say: infinity, and years of other than four digits.
	OldestUpdate *time.Time `json:"oldest_update"`
}

// backlogSQL reads the open logs alone, by the partial index publish_logs_open_idx.
const backlogSQL = `
SELECT coalesce(l.platform, ''), count(*),
       count(*) FILTER (WHERE l.updated_at IS NULL OR l.updated_at = 'infinity'
                           OR l.updated_at <= now() - coalesce((SELECT t.timeout
                                                                  FROM unnest($2::text[], $3::interval[]) AS t(platform, timeout)
                                                                 WHERE t.platform = l.platform), $1::interval)),
       min(l.updated_at) FILTER (WHERE l.updated_at BETWEEN '0001-01-02Z' AND '9999-12-30Z')
  FROM publish_logs l
 WHERE l.status IN ('processing', 'retry')
 GROUP BY 1
 ORDER BY 1`

// Backlogs counts the open logs of each platform that has some, in the order of their names. Timeout holds
// for platforms that timeouts does not name.
func (s *Store) Backlogs(ctx context.Context, timeout time.Duration, timeouts map[string]time.Duration) ([]Backlog, error) {
	ctx, cancel := s.limit(ctx, "count the open logs")
	defer cancel()
	platforms := make([]string, 0, len(timeouts))
	own := make([]time.Duration, 0, len(timeouts))
	for platform, timeout := range timeouts {
		platforms, own = append(platforms, platform), append(own, timeout)
	}
	rows, err := s.pool.Query(ctx, backlogSQL, timeout, platforms, own)
	if err != nil {
		return nil, translate(ctx, err)
	}
	backlogs, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Backlog])
	if err != nil {
		return nil, translate(ctx, err)
	}
	return backlogs, nil
}

const countParkedSQL = `SELECT count(*) FROM parked_webhooks`

// CountParked counts the webhooks that wait for their log.
func (s *Store) CountParked(ctx context.Context) (n int, err error) {
	ctx, cancel := s.limit(ctx, "count the parked webhooks")
	defer cancel()
	if err := s.pool.QueryRow(ctx, countParkedSQL).Scan(&n); err != nil {
		return 0, translate(ctx, err)
	}
	return n, nil
}
