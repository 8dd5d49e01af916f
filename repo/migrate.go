package repo

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var migrations embed.FS

const (
	// migrationsTable is the service's own, since the publishers may keep theirs in goose's usual one.
	migrationsTable = "publish_reconciler_migrations"
	schemaTable     = "publish_reconciler_schema"
	// migrationsLock is the advisory lock that lets one migration run at a time: a random number, fixed
	// for ever.
	migrationsLock = 7306250931178844631
	// migrationsLockTimeout is how long a migration waits for a table that somebody reads or writes, since all others
	// who come for it queue up behind.
	migrationsLockTimeout = "3s"
)

// ErrBusy tells that a migration gave way to a transaction that held a table for too long.
var ErrBusy = errors.New("another transaction holds a table for longer than lock_timeout, and nobody should have to queue up behind a migration: try again when it has ended")

// Migrate brings the schema up to date and returns how it found it. It is safe when several run at the same time: one
// migrates, the others wait for up to five minutes and find the schema as that one left it. One that is killed leaves whole steps behind, and the next goes on
// from there. A newer schema is left as it is: where the program works with it ([Schema.Newer]) that is no error, else a
// [*SchemaError]. After [ErrBusy], try again.
func Migrate(ctx context.Context, url string) (Schema, error) {
	var schema Schema
	err := withProvider(url, func(db *sql.DB, provider *goose.Provider) (err error) {
		if schema, err = readSchema(ctx, db, provider); err != nil {
			return err
		}
		if schema.Found >= schema.Needed {
			return schema.check()
		}
		done, err := provider.Up(ctx)
		if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code == codeLockNotAvailable {
			err = fmt.Errorf("%w (%w)", ErrBusy, err)
		}
		if err != nil {
			return fmt.Errorf("migrate: %w", err)
		}
		if len(done) > 0 {
			return nil
		}
		// Another one migrated, perhaps of a later release.
		if schema, err = readSchema(ctx, db, provider); err != nil {
			return err
		}
		return schema.check()
	})
	return schema, err
}

func withProvider(url string, do func(*sql.DB, *goose.Provider) error) (err error) {
	config, err := pgxpool.ParseConfig(url) // it takes the pool_… parameters out
	if err != nil {
		return fmt.Errorf("database url: %w", err)
	}
	if params := config.ConnConfig.RuntimeParams; params["lock_timeout"] == "" {
		params["lock_timeout"] = migrationsLockTimeout
	}
	db := sql.OpenDB(stdlib.GetConnector(*config.ConnConfig))
	defer func() { err = errors.Join(err, db.Close()) }()
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockID(migrationsLock), lock.WithLockTimeout(1, 300))
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files,
		goose.WithTableName(migrationsTable), goose.WithSessionLocker(locker), goose.WithDisableGlobalRegistry(true),
		goose.WithGoMigrations(indexMigrations()...))
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	return do(db, provider)
}
