package simulate

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"publish-reconciler/reconciler"
	"publish-reconciler/streams"
)

// found is what there is of one log, everywhere.
type found struct {
	row    *row // nil: none
	ledger []event
	parked int
	// letters are the dead letters of its messages.
	letters []letter
	// told are its outcome events: the ids of their ledger events.
	told map[uuid.UUID]bool
	// left are the subjects of messages that nobody is done with.
	left []string
}

type row struct {
	ID          uuid.UUID
	Platform    string
	Post        string
	Status      reconciler.Status
	URL         string
	Error       string
	RetryCount  int
	PublishedAt *time.Time
	RetriedAt   *time.Time
	CreatedAt   *time.Time
	Metadata    map[string]any
}

// event is a line of the ledger, with what the service writes into its metadata.
type event struct {
	id       uuid.UUID
	log      string
	at       time.Time
	kind     reconciler.EventType
	severity reconciler.Severity
	receipt
}

type receipt struct {
	Platform       string             `json:"platform"`
	Post           string             `json:"external_post_id"`
	Action         reconciler.Action  `json:"action"`
	Reason         reconciler.Reason  `json:"reason"`
	Trigger        reconciler.Trigger `json:"trigger"`
	WebhookStatus  string             `json:"webhook_status"`
	TimeoutMinutes json.Number        `json:"timeout_minutes"`
	Deadline       time.Time          `json:"deadline"`
}

// letter is a dead letter.
type letter struct {
	place    uint64 // its own, in its stream
	kind     streams.Kind
	reason   streams.Reason
	original string // where that lay
	body     string
}

const (
	foundRowsSQL = `
SELECT id, platform, coalesce(external_post_id, ''), status, coalesce(external_url, ''), coalesce(error_message, ''),
       retry_count, published_at, last_retry_at, created_at::timestamptz, extra_metadata
  FROM publish_logs
 WHERE id = ANY ($1::uuid[])`

	foundLedgerSQL = `
SELECT id, entity_id, timestamp, event_type, severity, metadata
  FROM ledger_events
 WHERE entity_type = 'publish_log' AND entity_id = ANY ($1::text[])
 ORDER BY timestamp, id`
)

// find reads what Postgres has of some logs, at one moment.
func (s *Simulation) find(ctx context.Context, logs []Log) ([]found, error) {
	all := make([]found, len(logs))
	byID, byText, byPost := make(map[uuid.UUID]*found), make(map[string]*found), make(map[string]*found)
	ids, texts := make([]uuid.UUID, len(logs)), make([]string, len(logs))
	platforms, posts := make([]string, len(logs)), make([]string, len(logs))
	for i, log := range logs {
		ids[i] = s.cfg.Run.logID(log.Index)
		texts[i], platforms[i], posts[i] = ids[i].String(), log.Platform, s.cfg.Run.post(log)
		byID[ids[i]], byText[texts[i]], byPost[posts[i]] = &all[i], &all[i], &all[i]
	}
	snapshot := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err := s.persist(ctx, fmt.Sprintf("read %d logs", len(logs)), func(ctx context.Context) error {
		clear(all)
		batch := &pgx.Batch{}
		batch.Queue(foundRowsSQL, ids).Query(func(rows pgx.Rows) error {
			found, err := pgx.CollectRows(rows, pgx.RowToAddrOfStructByPos[row])
			for _, r := range found {
				byID[r.ID].row = r
			}
			return err
		})
		batch.Queue(foundLedgerSQL, texts).Query(func(rows pgx.Rows) error {
			events, err := pgx.CollectRows(rows, scanEvent)
			for _, e := range events {
				byText[e.log].ledger = append(byText[e.log].ledger, e)
			}
			return err
		})
		batch.Queue(parkedSQL, platforms, posts).Query(func(rows pgx.Rows) error {
			var post string
			var n int
			_, err := pgx.ForEachRow(rows, []any{&post, &n}, func() error {
				byPost[post].parked = n
				return nil
			})
			return err
		})
		return pgx.BeginTxFunc(ctx, s.cfg.DB, snapshot, func(tx pgx.Tx) error { return tx.SendBatch(ctx, batch).Close() })
	})
	return all, err
}

func scanEvent(row pgx.CollectableRow) (e event, err error) {
	var metadata []byte
	if err = row.Scan(&e.id, &e.log, &e.at, &e.kind, &e.severity, &metadata); err != nil {
		return e, err
	}
	if err := json.Unmarshal(metadata, &e.receipt); err != nil {
		e.receipt = receipt{} // another's; what is missing in it is told
	}
	return e, nil
}
