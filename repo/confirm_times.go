package repo

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// ConfirmTimes is how long a platform takes to confirm: from when the log was last written to its success.
type ConfirmTimes struct {
	Platform string
	// Confirmed is how many confirmations the times are of.
	Confirmed int
	// Median, P90 and P99 are within which a half, nine tenths and ninety-nine hundredths of them came.
	Median, P90, P99 time.Duration
}

// maxTimed bounds how many of the newest ledger events are read: about a quarter of a second's work.
const maxTimed = 50_000

// deadlinePattern is of every time in UTC that the service writes, and of no day that the calendar lacks: Postgres would
// refuse the whole query for it. 2000-02-29 is lost on it.
const deadlinePattern = `^([1-9]\d{3}-((0[13578]|1[02])-(0[1-9]|[12]\d|3[01])|(0[469]|11)-(0[1-9]|[12]\d|30)|02-(0[1-9]|1\d|2[0-8]))` +
	`|[1-9]\d(0[48]|[2468][048]|[13579][26])-02-29)T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,9})?Z$`

// confirmTimesSQL goes backwards through ledger_events_timestamp_idx. A receipt tells the deadline and the timeout, and
// their difference is when the log's patience began. Others may write the ledger, too: what is no receipt counts not.
const confirmTimesSQL = `
SELECT platform, count(*), percentile_cont(ARRAY[0.5, 0.9, 0.99]) WITHIN GROUP (ORDER BY seconds)
  FROM (SELECT coalesce(e.metadata->>'platform', '') AS platform,
               CASE WHEN e.metadata->>'deadline' ~ '` + deadlinePattern + `'
                     AND jsonb_typeof(e.metadata->'timeout_minutes') = 'number'
                     AND e.metadata->>'timeout_minutes' ~ '^\d{1,9}(\.\d{1,30})?$'
                    THEN greatest(0, extract(epoch FROM e.timestamp - (e.metadata->>'deadline')::timestamptz)::float8
                                     + 60 * (e.metadata->>'timeout_minutes')::float8)
               END AS seconds
          FROM (SELECT timestamp, event_type, metadata
                  FROM ledger_events
                 WHERE entity_type = 'publish_log' AND timestamp >= $1 AND timestamp < 'infinity'
                 ORDER BY timestamp DESC
                 LIMIT $2) e
         WHERE e.event_type = 'publish_reconciled' AND e.metadata->>'action' = 'marked_success'
           AND e.metadata->>'reason' IN ('webhook_confirmed', 'probe_confirmed')) timed
 WHERE seconds IS NOT NULL
 GROUP BY platform
 ORDER BY platform`

// ConfirmTimes is how long each platform took to confirm since then, in the order of their names. Of more than 50,000
// ledger events it reads the newest. What came after its log had failed is left out.
func (s *Store) ConfirmTimes(ctx context.Context, since time.Time) ([]ConfirmTimes, error) {
	ctx, cancel := s.limit(ctx, "read how long confirmations take")
	defer cancel()
	rows, err := s.pool.Query(ctx, confirmTimesSQL, since, maxTimed)
	if err != nil {
		return nil, translate(ctx, err)
	}
	times, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (t ConfirmTimes, err error) {
		var seconds []float64
		if err := row.Scan(&t.Platform, &t.Confirmed, &seconds); err != nil {
			return t, err
		}
		for i, part := range []*time.Duration{&t.Median, &t.P90, &t.P99} {
			*part = time.Duration(min(seconds[i], maxSeconds) * float64(time.Second))
		}
		return t, nil
	})
	if err != nil {
		return nil, translate(ctx, err)
	}
	return times, nil
}

// maxSeconds is what a duration can hold, and more than any log waits: a hundred years.
const maxSeconds = 100 * 365 * 24 * 3600
