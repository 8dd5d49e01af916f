package repo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"publish-reconciler/reconciler"
)

// Transact locks the logs that keys name, hands them to decide, and writes what decide returns, in one
// transaction of two round trips: BEGIN and the lock, then all the writes and COMMIT.
func (s *Store) Transact(ctx context.Context, keys reconciler.Keys, decide func(reconciler.Locked) reconciler.Changes) error {
	ctx, cancel := s.limit(ctx, "reconcile a batch")
	defer cancel()
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return translate(ctx, err)
	}
	defer conn.Release() // closes a connection that is not idle
	if err := s.transact(ctx, conn, keys, decide); err != nil {
		rollback(conn)
		return translate(ctx, err)
	}
	return nil
}

func (s *Store) transact(ctx context.Context, conn *pgxpool.Conn, keys reconciler.Keys, decide func(reconciler.Locked) reconciler.Changes) error {
	var locked reconciler.Locked
	first := beginBatch()
	if err := queueLock(first, keys, &locked); err != nil {
		return err
	}
	// Not now(), which is when the transaction began: whoever waited for a lock comes after whoever held it.
	first.Queue(`SELECT clock_timestamp()`).QueryRow(func(row pgx.Row) error { return row.Scan(&locked.Now) })
	if err := conn.SendBatch(named(ctx, "lock"), first).Close(); err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	changes := decide(locked)
	if !s.outbox {
		changes.Outbox = nil
	}
	second := &pgx.Batch{}
	if err := queueChanges(second, changes, locked.Now); err != nil {
		return err
	}
	queueCommit(second)
	if err := conn.SendBatch(named(ctx, "write"), second).Close(); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	if len(changes.Outbox) > 0 {
		s.wakeOutbox()
	}
	return nil
}

// beginBatch is a batch that begins a transaction.
func beginBatch() *pgx.Batch {
	batch := &pgx.Batch{}
	batch.Queue(`BEGIN ISOLATION LEVEL READ COMMITTED`)
	return batch
}

// durableSQL has a commit wait for its place on the disk, where the server is set to say so before: what is then
// acknowledged would be lost if the server crashed. All stricter settings are the administrator's.
const durableSQL = `
SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'`

func queueCommit(batch *pgx.Batch) {
	batch.Queue(durableSQL)
	batch.Queue(`COMMIT`).Exec(func(tag pgconn.CommandTag) error {
		if tag.String() != "COMMIT" { // a failed transaction answers COMMIT with ROLLBACK
			return errors.New("the transaction was rolled back")
		}
		return nil
	})
}

// rollback gives the connection back to the pool fit for use, so that a refused row costs no reconnect.
func rollback(conn *pgxpool.Conn) {
	const idle = 'I' // ReadyForQuery's status byte (PostgreSQL manual, 55.7)
	pgConn := conn.Conn().PgConn()
	if pgConn.IsClosed() || pgConn.TxStatus() == idle {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, _ = conn.Exec(ctx, `ROLLBACK`) // where this fails, Release closes the connection
}

// lockColumns are what the rules need of a row. extra_metadata is read only where it can bear on a
// decision: most rows hold no evidence yet. In a publishers' own table any column may be null.
const lockColumns = `
       l.id, coalesce(l.platform, ''), coalesce(l.external_post_id, ''), coalesce(l.status, ''),
       coalesce(l.external_url, ''), coalesce(l.retry_count, 0), coalesce(l.max_retries, 0),
       CASE WHEN isfinite(l.updated_at) THEN l.updated_at ELSE 'epoch' END,
       CASE WHEN l.status IN ('pending', 'failed')
              OR l.extra_metadata ?| ARRAY['webhook_received', 'webhook_status', 'probe_timestamp']
            THEN l.extra_metadata END`

const (
	ofPosts = `
  FROM publish_logs l
 WHERE (l.platform, l.external_post_id) IN (SELECT * FROM unnest($1::text[], $2::text[]))
 ORDER BY l.id`

	// ofLogs also names the other logs of a post for which something is parked: it may only be unparked when
	// all of them have seen it. The ids are arrays whose length the planner can't see: for hundreds of ids it
	// may prefer to scan the whole table, which is slower.
	ofLogs = `
  FROM publish_logs l
 WHERE l.id = ANY ($1::uuid[] || ARRAY(
       SELECT sibling.id
         FROM publish_logs named
         JOIN parked_webhooks p ON p.platform = named.platform AND p.external_post_id = named.external_post_id
         JOIN publish_logs sibling ON sibling.platform = p.platform AND sibling.external_post_id = p.external_post_id
        WHERE named.id = ANY ((SELECT $1::uuid[])::uuid[])))
 ORDER BY l.id`

	// namedColumns tell which logs there are, locked or not.
	namedColumns = `
SELECT l.id, coalesce(l.platform, ''), coalesce(l.external_post_id, '')`
)

const lockPostsSQL = `
SELECT` + lockColumns + `, NULL::jsonb` + ofPosts + `
   FOR UPDATE`

// lockLogsSQL is one statement, so that the logs and what is parked for them are of one snapshot.
const lockLogsSQL = `
SELECT` + lockColumns + `,
       (SELECT jsonb_agg(jsonb_build_object('id', p.id, 'payload', p.payload, 'received_at', p.received_at)
                         ORDER BY p.received_at, p.id)
          FROM parked_webhooks p
         WHERE p.platform = l.platform AND p.external_post_id = l.external_post_id)` + ofLogs + `
   FOR UPDATE OF l`

// queueLock queues the lock of the logs that keys name; they lie in locked when the batch is closed.
func queueLock(batch *pgx.Batch, keys reconciler.Keys, locked *reconciler.Locked) error {
	lock, named := lockLogsSQL, namedColumns+ofLogs
	args := []any{keys.LogIDs}
	if len(keys.Posts) > 0 {
		if len(keys.LogIDs) > 0 {
			return errors.New("lock by posts or by ids, not both")
		}
		platforms := make([]string, len(keys.Posts))
		posts := make([]string, len(keys.Posts))
		for i, post := range keys.Posts {
			platforms[i], posts[i] = post.Platform, post.ExternalPostID
		}
		lock, named = lockPostsSQL, namedColumns+ofPosts
		args = []any{platforms, posts}
	}
	if keys.SkipLocked {
		lock += ` SKIP LOCKED`
	}
	batch.Queue(lock, args...).Query(func(rows pgx.Rows) (err error) {
		locked.Logs, err = pgx.CollectRows(rows, scanLocked)
		return err
	})
	if keys.SkipLocked {
		batch.Queue(named, args...).Query(func(rows pgx.Rows) error {
			all, err := pgx.CollectRows(rows, scanHeld)
			locked.Held = slices.DeleteFunc(all, func(log reconciler.HeldLog) bool {
				_, isLocked := slices.BinarySearchFunc(locked.Logs, log.ID, func(l reconciler.LockedLog, id uuid.UUID) int {
					return bytes.Compare(l.ID[:], id[:]) // both are in the order of ids
				})
				return isLocked
			})
			return err
		})
	}
	return nil
}

func scanHeld(row pgx.CollectableRow) (log reconciler.HeldLog, err error) {
	err = row.Scan(&log.ID, &log.Post.Platform, &log.Post.ExternalPostID)
	return log, err
}

func scanLocked(row pgx.CollectableRow) (reconciler.LockedLog, error) {
	var log reconciler.LockedLog
	var metadata, parked []byte
	err := row.Scan(&log.ID, &log.Post.Platform, &log.Post.ExternalPostID, &log.Status, &log.ExternalURL,
		&log.RetryCount, &log.MaxRetries, &log.UpdatedAt, &metadata, &parked)
	if err != nil {
		return log, err
	}
	log.Metadata = decodeObject(metadata)
	var webhooks []struct {
		ID         uuid.UUID       `json:"id"`
		Payload    json.RawMessage `json:"payload"`
		ReceivedAt time.Time       `json:"received_at"`
	}
	if parked != nil {
		if err := json.Unmarshal(parked, &webhooks); err != nil {
			return log, fmt.Errorf("parked webhooks of log %s: %w", log.ID, err)
		}
	}
	for _, w := range webhooks {
		log.Parked = append(log.Parked, reconciler.ParkedWebhook{
			ID: w.ID, Post: log.Post, Fields: decodeObject(w.Payload), ReceivedAt: w.ReceivedAt,
		})
	}
	return log, nil
}
