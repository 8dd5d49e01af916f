package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"publish-reconciler/reconciler"
)

// maxHistory is how many events of a log are read, the newest: a log has a handful, unless somebody sends
// it webhooks without end.
const maxHistory = 1000

// reasonColumn is [reconciler.Row].Reason, or null.
const (
	reasonColumn = `
       CASE WHEN l.status IN ('processing', 'retry') THEN ` + reasonOfOpen + ` ELSE ` + reasonOfClosed + ` END`

	reasonOfOpen = `(
            SELECT CASE WHEN e.metadata->>'action' IN ('marked_success', 'marked_failed') THEN NULL -- opened again since
                        ELSE e.metadata->>'reason' END
              FROM ledger_events e
             WHERE e.entity_type = 'publish_log' AND e.entity_id = l.id::text
               AND e.event_type IN ('publish_reconciled', 'publish_reconcile_skipped', 'publish_deadline_extended')
             ORDER BY e.timestamp DESC NULLS LAST, e.id DESC NULLS LAST
             LIMIT 1)`
	reasonOfClosed = `l.extra_metadata->>'reconciliation_reason'`
)

// rowsSQL has the columns that scanRow reads. In a publishers' own table any column but the id may be null,
// and those that the rules don't read may be of other types.
const rowsSQL = `
SELECT l.id, l.clip_id::text, coalesce(l.platform, ''), l.social_account_id::text, coalesce(l.status, ''),
       l.external_post_id, l.external_url, l.error_message, l.requested_at::timestamptz, l.published_at,
       coalesce(l.retry_count, 0), coalesce(l.max_retries, 0), l.last_retry_at, coalesce(l.extra_metadata, '{}'),
       l.created_at::timestamptz, l.updated_at, coalesce(` + reasonColumn + `, '')
  FROM publish_logs l`

func scanRow(row pgx.CollectableRow) (r reconciler.Row, err error) {
	var requested, published, retried, created, updated pgtype.Timestamptz
	err = row.Scan(&r.ID, &r.ClipID, &r.Platform, &r.SocialAccountID, &r.Status,
		&r.ExternalPostID, &r.ExternalURL, &r.ErrorMessage, &requested, &published,
		&r.RetryCount, &r.MaxRetries, &retried, &r.ExtraMetadata,
		&created, &updated, &r.Reason)
	r.RequestedAt, r.PublishedAt, r.LastRetryAt = moment(requested), moment(published), moment(retried)
	r.CreatedAt, r.UpdatedAt = moment(created), moment(updated)
	return r, err
}

// moment is nil for what is null or infinite, and for years that RFC 3339 can't say.
func moment(t pgtype.Timestamptz) *time.Time {
	utc := t.Time.UTC()
	if !t.Valid || t.InfinityModifier != pgtype.Finite || utc.Year() < 1 || utc.Year() > 9999 {
		return nil
	}
	return &utc
}

const (
	viewSQL = rowsSQL + `
 WHERE l.id = $1`

	// historySQL's columns may be null in a ledger that is shared with others.
	historySQL = `
SELECT coalesce(id, '00000000-0000-0000-0000-000000000000'), timestamp, coalesce(event_type, ''),
       coalesce(severity, ''), coalesce(metadata, '{}')
  FROM ledger_events
 WHERE entity_type = 'publish_log' AND entity_id = $1
 ORDER BY timestamp DESC NULLS LAST, id DESC NULLS LAST
 LIMIT $2`

	parkedOfLogSQL = `
SELECT now(), (SELECT count(*)
                 FROM publish_logs l
                 JOIN parked_webhooks p ON p.platform = l.platform AND p.external_post_id = l.external_post_id
                WHERE l.id = $1)`

	platformOfLogSQL = `
SELECT ` + platformColumns + `, 0, now()
  FROM publish_platforms p
 WHERE p.platform = (SELECT platform FROM publish_logs WHERE id = $1)`
)

// View reads what is known about a log, at one moment; of its history the newest 1,000 events.
// [reconciler.ErrNotFound] tells that there is no such log.
func (s *Store) View(ctx context.Context, id uuid.UUID) (reconciler.View, error) {
	ctx, cancel := s.limit(ctx, "read a log and its history")
	defer cancel()
	var view reconciler.View
	batch := &pgx.Batch{}
	batch.Queue(viewSQL, id).Query(func(rows pgx.Rows) (err error) {
		view.Row, err = pgx.CollectExactlyOneRow(rows, scanRow)
		return err
	})
	batch.Queue(historySQL, id.String(), maxHistory).Query(func(rows pgx.Rows) (err error) {
		view.History, err = pgx.CollectRows(rows, scanHistory)
		return err
	})
	batch.Queue(parkedOfLogSQL, id).QueryRow(func(row pgx.Row) error { return row.Scan(&view.Now, &view.Parked) })
	batch.Queue(platformOfLogSQL, id).Query(func(rows pgx.Rows) error {
		holds, err := collectHolds(rows)
		if len(holds) > 0 {
			view.Hold = &holds[0]
		}
		return err
	})
	snapshot := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err := pgx.BeginTxFunc(ctx, s.pool, snapshot, func(tx pgx.Tx) error { return tx.SendBatch(ctx, batch).Close() })
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return reconciler.View{}, reconciler.ErrNotFound
	case err != nil:
		return reconciler.View{}, translate(ctx, err)
	}
	slices.Reverse(view.History)
	view.Now = view.Now.UTC()
	return view, nil
}

func scanHistory(row pgx.CollectableRow) (event reconciler.HistoryEvent, err error) {
	var at pgtype.Timestamptz
	err = row.Scan(&event.ID, &at, &event.Type, &event.Severity, &event.Metadata)
	if t := moment(at); t != nil {
		event.Timestamp = *t
	}
	return event, err
}

const (
	listedLast  = `coalesce(l.created_at, '-infinity')` // publish_logs_created_idx has it so
	listOrder   = ` ORDER BY ` + listedLast + ` DESC, l.id DESC LIMIT `
	beforeIDSQL = `(` + listedLast + `, l.id) < ((SELECT coalesce(created_at, '-infinity') FROM publish_logs WHERE id = %[1]s), %[1]s)`
	existsSQL   = `SELECT EXISTS (SELECT FROM publish_logs WHERE id = $1)`
)

// statusFilters are written out, so that Postgres sees when publish_logs_open_idx holds all there is to find.
var statusFilters = map[reconciler.Status]string{
	reconciler.StatusPending:    `l.status = 'pending'`,
	reconciler.StatusProcessing: `l.status = 'processing'`,
	reconciler.StatusRetry:      `l.status = 'retry'`,
	reconciler.StatusSuccess:    `l.status = 'success'`,
	reconciler.StatusFailed:     `l.status = 'failed'`,
}

// listSQL is the statement of a page, with its arguments.
func listSQL(filter reconciler.Filter, limit int) (sql string, args []any) {
	var conditions []string
	where := func(condition string, value any) {
		args = append(args, value)
		conditions = append(conditions, fmt.Sprintf(condition, "$"+strconv.Itoa(len(args))))
	}
	if known, found := statusFilters[filter.Status]; found {
		conditions = append(conditions, known)
	} else if filter.Status != "" {
		where(`l.status = %s`, string(filter.Status))
	}
	if filter.Platform != "" {
		where(`l.platform = %s`, filter.Platform)
	}
	if filter.Reason != "" {
		where(reasonFilter(filter.Status), string(filter.Reason))
	}
	if !filter.Before.IsZero() {
		where(listedLast+` < %s::timestamptz`, filter.Before)
	}
	if filter.BeforeID != uuid.Nil {
		where(beforeIDSQL, filter.BeforeID)
	}
	sql = rowsSQL
	if len(conditions) > 0 {
		sql += ` WHERE ` + strings.Join(conditions, ` AND `)
	}
	args = append(args, limit)
	return sql + listOrder + "$" + strconv.Itoa(len(args)), args
}

// reasonFilter leaves out of reasonColumn what can't be: Postgres takes the search in the ledger for dearer than
// it is. A reason that no failed log of a million has is not found in 130 ms, else in 400.
func reasonFilter(status reconciler.Status) string {
	switch {
	case status.Open():
		return reasonOfOpen + ` = %s`
	case status != "":
		return reasonOfClosed + ` = %s`
	default:
		return reasonColumn + ` = %s`
	}
}

// List is one page of the logs that the filter takes in, newest created first; after all others come those
// without a time. More tells that there are others behind it. [reconciler.ErrNotFound] tells that no log has
// the filter's BeforeID.
func (s *Store) List(ctx context.Context, filter reconciler.Filter) (rows []reconciler.Row, more bool, err error) {
	ctx, cancel := s.limit(ctx, "list logs")
	defer cancel()
	limit := min(filter.Limit, reconciler.MaxListed)
	if limit < 1 {
		limit = reconciler.DefaultListed
	}
	sql, args := listSQL(filter, limit+1)
	// Planned for the values at hand: a plan for any values knows neither how rare a platform is nor how
	// short the page.
	found, err := s.pool.Query(ctx, sql, append([]any{pgx.QueryExecModeDescribeExec}, args...)...)
	if err != nil {
		return nil, false, translate(ctx, err)
	}
	rows, err = pgx.CollectRows(found, scanRow)
	if err != nil {
		return nil, false, translate(ctx, err)
	}
	if len(rows) == 0 && filter.BeforeID != uuid.Nil {
		var exists bool
		if err := s.pool.QueryRow(ctx, existsSQL, filter.BeforeID).Scan(&exists); err != nil {
			return nil, false, translate(ctx, err)
		}
		if !exists {
			return nil, false, fmt.Errorf("the page before log %s: %w", filter.BeforeID, reconciler.ErrNotFound)
		}
	}
	if len(rows) > limit {
		return rows[:limit], true, nil
	}
	return rows, false, nil
}
