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
	// Skipped counts the due logs that stay open because their evidence is unclear, Held those without evidence
	// that stay open because the platform is under a hold.
	Skipped int `json:"skipped"`
	Held    int `json:"held"`
	// OldestUpdate is the earliest last update of an open log; nil when no open log has one. It leaves out
	// what RFC 3339 can't say: infinity, and years of other than four digits.
	OldestUpdate *time.Time `json:"oldest_update"`
}

const (
	// backlogSQL reads the open logs alone, by the partial index publish_logs_open_idx. OFFSET 0 has the evidence of a
	// log looked at once for it, and not once for each count; it is null where the log is not due.
	backlogSQL = `
SELECT platform, open, due, unclear,
       CASE WHEN EXISTS (SELECT FROM publish_platforms p WHERE p.platform = backlog.platform AND ` + heldSQL + `)
            THEN silent ELSE 0 END,
       oldest
  FROM (SELECT platform, count(*) AS open, count(evidence) AS due,
               count(*) FILTER (WHERE evidence = 'unclear') AS unclear,
               count(*) FILTER (WHERE evidence = 'none') AS silent,
               min(updated_at) FILTER (WHERE updated_at BETWEEN '0001-01-02Z' AND '9999-12-30Z') AS oldest
          FROM (SELECT coalesce(l.platform, '') AS platform, l.updated_at,
                       CASE WHEN l.updated_at IS NULL OR l.updated_at = 'infinity'
                              OR l.updated_at <= now() - coalesce(t.timeout, $1::interval)
                            THEN ` + evidenceSQL + ` END AS evidence
                  FROM publish_logs l
                  LEFT JOIN unnest($2::text[], $3::interval[]) AS t(platform, timeout) ON t.platform = l.platform
                 WHERE l.status IN ('processing', 'retry')
                OFFSET 0) open
         GROUP BY platform) backlog
 ORDER BY platform`

	// heldSQL is [reconciler.Platform].Held.
	heldSQL = `p.held_since IS NOT NULL AND p.held_until > now() AND (p.confirmed_at <= p.held_since) IS NOT FALSE`

	// evidenceSQL is how [reconciler.Decide] takes what the metadata of an open log holds: 'none', 'unclear' or 'clear'.
	// A probe's answer counts where no webhook came, and it is in the log when it was unclear.
	evidenceSQL = `
       CASE WHEN l.extra_metadata->'webhook_received' = 'false'
              OR l.extra_metadata->'webhook_received' IS DISTINCT FROM 'true'
                 AND (coalesce(l.extra_metadata->>'webhook_status', '') = '' OR jsonb_typeof(l.extra_metadata->'webhook_status') IN ('object', 'array'))
            THEN CASE WHEN l.extra_metadata->'probe_timestamp' IS NULL THEN 'none' ELSE 'unclear' END
            WHEN l.extra_metadata->'webhook_status' IS NULL AND l.extra_metadata->'complete' = 'true' THEN 'clear'
            WHEN lower(btrim(l.extra_metadata->>'webhook_status', E' \t\n\x0b\f\r')) IN ('published', 'failed', 'error', 'rejected') THEN 'clear'
            ELSE 'unclear' END`
)

// Backlogs counts the open logs of each platform that has some, in the order of their names. Timeout holds
// for platforms that timeouts does not name. Without holds nothing is held, by a hold either that is left from when
// logs were.
func (s *Store) Backlogs(ctx context.Context, timeout time.Duration, timeouts map[string]time.Duration, holds bool) ([]Backlog, error) {
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
	if !holds {
		for i := range backlogs {
			backlogs[i].Held = 0
		}
	}
	return backlogs, nil
}
