package repo

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/pressly/goose/v3"
)

// indexVersions are the indexes that migrations make, by version. Tables may be the publishers' own, large and in use,
// and partitioned.
var indexVersions = map[int64][]step{
	2: {
		// The sweep's order: its cost follows the number of due logs, never the size of the table.
		index{"publish_logs_open_idx", "publish_logs", "(updated_at, id) WHERE status IN ('processing', 'retry')"},
		// A webhook names a post, not a log.
		index{"publish_logs_post_idx", "publish_logs", "(platform, external_post_id)"},
		// The history of one log.
		index{"ledger_events_entity_idx", "ledger_events", "(entity_type, entity_id)"},
	},
	4: {
		listedColumns{},
		// The order of lists, read backwards. In a publishers' own table created_at may be null: such a log is
		// listed too, last.
		index{"publish_logs_created_idx", "publish_logs", "(coalesce(created_at, '-infinity'), id)"},
	},
	6: {
		// What is old enough to be deleted. Others' events in the ledger cost nothing.
		index{"ledger_events_timestamp_idx", "ledger_events", "(timestamp) WHERE entity_type = 'publish_log'"},
		index{"parked_webhooks_received_idx", "parked_webhooks", "(received_at)"},
	},
}

func indexMigrations() []*goose.Migration {
	migrations := make([]*goose.Migration, 0, len(indexVersions))
	for version, steps := range indexVersions {
		migrations = append(migrations, migration(version, steps...))
	}
	return migrations
}

type step interface {
	do(ctx context.Context, db *sql.DB) error
}

// migration is not one transaction: a concurrent build can't be in one.
func migration(version int64, steps ...step) *goose.Migration {
	return goose.NewGoMigration(version, &goose.GoFunc{RunDB: func(ctx context.Context, db *sql.DB) error {
		for _, step := range steps {
			if err := step.do(ctx, db); err != nil {
				return err
			}
		}
		return nil
	}}, nil)
}

type index struct{ name, table, definition string }

const (
	isPartitionedSQL = `SELECT relkind = 'p' FROM pg_class WHERE oid = $1::text::regclass`
	// brokenSQL is an index that was not finished, as SQL names it, or empty.
	brokenSQL = `
SELECT coalesce((SELECT i.indexrelid::regclass::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
                  WHERE NOT i.indisvalid AND i.indrelid = $1::text::regclass AND c.relname = $2), '')`
)

// do builds the index concurrently, so that the table can be written meanwhile. One that was interrupted is left behind
// invalid, would count as existing, and is made anew. Postgres can't build concurrently for a partitioned table: its
// administrator may make the index beforehand, partition by partition, and else it is built at once.
func (i index) do(ctx context.Context, db *sql.DB) error {
	var partitioned bool
	var broken string
	if err := db.QueryRowContext(ctx, isPartitionedSQL, i.table).Scan(&partitioned); err != nil {
		return fmt.Errorf("look at table %s: %w", i.table, err)
	}
	if err := db.QueryRowContext(ctx, brokenSQL, i.table, i.name).Scan(&broken); err != nil {
		return fmt.Errorf("look for index %s: %w", i.name, err)
	}
	concurrently := `CONCURRENTLY`
	switch {
	case partitioned && broken != "":
		return fmt.Errorf("index %s of the partitioned table %s is not on all partitions yet: make it there too and attach it (ALTER INDEX %[1]s ATTACH PARTITION …)", broken, i.table)
	case partitioned:
		concurrently = ``
	case broken != "":
		if _, err := db.ExecContext(ctx, `DROP INDEX `+broken); err != nil {
			return fmt.Errorf("drop the broken index %s: %w", broken, err)
		}
	}
	create := fmt.Sprintf(`CREATE INDEX %s IF NOT EXISTS %s ON %s %s`, concurrently, i.name, i.table, i.definition)
	if err := build(ctx, db, create, !partitioned); err != nil {
		return fmt.Errorf("create index %s: %w", i.name, err)
	}
	return nil
}

// build may take as long as it needs where it is concurrent: it waits for all transactions that are older, and nobody
// waits for it.
func build(ctx context.Context, db *sql.DB, create string, concurrent bool) (err error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if concurrent {
		if _, err := conn.ExecContext(ctx, `SET lock_timeout = 0`); err != nil {
			return err
		}
		defer func() {
			_, resetErr := conn.ExecContext(ctx, `RESET lock_timeout`)
			err = errors.Join(err, resetErr)
		}()
	}
	_, err = conn.ExecContext(ctx, create)
	return err
}

// listedColumns are two of the publishers' that lists read, and order by.
type listedColumns struct{}

const wrongColumnsSQL = `
SELECT coalesce(string_agg(format('publish_logs.%s is %s, must be timestamp with time zone', attname, format_type(atttypid, NULL)), '; ' ORDER BY attname), '')
  FROM pg_attribute
 WHERE attrelid = 'publish_logs'::regclass AND attname IN ('created_at', 'requested_at') AND NOT attisdropped
   AND format_type(atttypid, NULL) NOT IN ('timestamp with time zone', 'timestamp without time zone')`

func (listedColumns) do(ctx context.Context, db *sql.DB) error {
	var wrong string
	if err := db.QueryRowContext(ctx, wrongColumnsSQL).Scan(&wrong); err != nil {
		return err
	}
	if wrong != "" {
		return fmt.Errorf("existing tables do not fit: %s", wrong)
	}
	return nil
}
