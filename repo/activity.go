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
// keep events in the ledger too. OFFSET 0 has the metadata of an event read once, and not once for each count.
const activitySQL = `
SELECT platform, at,
       count(*) FILTER (WHERE action = 'marked_success' AND reason IS DISTINCT FROM 'webhook_late'),
       count(*) FILTER (WHERE action = 'marked_failed' AND reason = 'webhook_timeout'),
       count(*) FILTER (WHERE action = 'marked_failed' AND reason IS DISTINCT FROM 'webhook_timeout'),
       count(*) FILTER (WHERE action = 'marked_retry'),
       count(*) FILTER (WHERE action = 'marked_success' AND reason = 'webhook_late')
  FROM (SELECT coalesce(metadata->>'platform', '') AS platform, date_bin($2::interval, timestamp, $1::timestamptz) AS at,
               metadata->>'action' AS action, metadata->>'reason' AS reason
          FROM ledger_events
         WHERE entity_type = 'publish_log' AND event_type = 'publish_reconciled'
           AND timestamp >= $1::timestamptz AND timestamp < 'infinity'
        OFFSET 0) e
 WHERE action IN ('marked_success', 'marked_failed', 'marked_retry')
 GROUP BY platform, at
 ORDER BY platform, at`

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
