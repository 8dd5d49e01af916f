package repo

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// Activity is what became of the logs of one platform in one interval. Each state change counts once.
type Activity struct {
	Platform string `json:"platform"`
	// At is when the interval begins.
	At time.Time `json:"at"`
	// Confirmed counts the logs that the platform's word made a success, in time.
	Confirmed int `json:"confirmed"`
	// TimedOut counts the logs that silence failed, Rejected those that failed for any other reason.
	TimedOut int `json:"timed_out"`
	Rejected int `json:"rejected"`
	// Retried counts the logs that were given another round of patience.
	Retried int `json:"retried"`
	// Late counts the logs that silence had failed, and that became a success after all.
	Late int `json:"late"`
}

// activitySQL goes by ledger_events_timestamp_idx: what it costs follows the number of events since $1. Others may
// keep events in the ledger too.
const activitySQL = `
SELECT coalesce(e.metadata->>'platform', ''),
       date_bin($2::interval, e.timestamp, $1::timestamptz),
       count(*) FILTER (WHERE e.metadata->>'action' = 'marked_success' AND e.metadata->>'reason' IS DISTINCT FROM 'webhook_late'),
       count(*) FILTER (WHERE e.metadata->>'action' = 'marked_failed' AND e.metadata->>'reason' IS NOT DISTINCT FROM 'webhook_timeout'),
       count(*) FILTER (WHERE e.metadata->>'action' = 'marked_failed' AND e.metadata->>'reason' IS DISTINCT FROM 'webhook_timeout'),
       count(*) FILTER (WHERE e.metadata->>'action' = 'marked_retry'),
       count(*) FILTER (WHERE e.metadata->>'action' = 'marked_success' AND e.metadata->>'reason' IS NOT DISTINCT FROM 'webhook_late')
  FROM ledger_events e
 WHERE e.entity_type = 'publish_log'
   AND e.timestamp >= $1::timestamptz AND e.timestamp < 'infinity'
   AND e.event_type = 'publish_reconciled'
   AND e.metadata->>'action' IN ('marked_success', 'marked_failed', 'marked_retry')
 GROUP BY 1, 2
 ORDER BY 1, 2`

// Activity tells what became of logs since then, by platform and interval, in the order of the platforms' names
// and of time. The intervals are of length step, which must be positive, and the first begins at since; those in
// which nothing became of a platform's logs are left out. What operators set by hand is left out too.
func (s *Store) Activity(ctx context.Context, since time.Time, step time.Duration) ([]Activity, error) {
	ctx, cancel := s.limit(ctx, "count what became of logs")
	defer cancel()
	rows, err := s.pool.Query(ctx, activitySQL, since, step)
	if err != nil {
		return nil, translate(ctx, err)
	}
	activity, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Activity])
	if err != nil {
		return nil, translate(ctx, err)
	}
	for i := range activity {
		activity[i].At = activity[i].At.UTC()
	}
	return activity, nil
}
