package repo

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"

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
	// migrationsLock is the advisory lock that lets one migration run at a time: a random number, fixed
	// for ever.
	migrationsLock = 7306250931178844631
)

// SchemaError tells that the database's schema is not the program's.
type SchemaError struct {
	// Found is the database's version (0: never migrated), Needed the program's.
	Found, Needed int64
}

func (e *SchemaError) Error() string {
	if e.Found > e.Needed {
		return fmt.Sprintf("the database schema is version %d, newer than this program's %d: start the release of publish-reconciler that migrated it, or a later one", e.Found, e.Needed)
	}
	return fmt.Sprintf("the database schema is version %d, older than this program's %d: run \"publish-reconciler migrate\" to bring it up to date", e.Found, e.Needed)
}

// Migrate brings the schema up to date and returns the versions before and after. It is safe when several
// run at the same time: one migrates, the others wait for up to five minutes. A schema newer than the
// program's is a [*SchemaError].
func Migrate(ctx context.Context, url string) (from, to int64, err error) {
	err = withProvider(url, func(db *sql.DB, provider *goose.Provider) error {
		from, to, err = versions(ctx, db, provider)
		if err != nil {
			return fmt.Errorf("read schema version: %w", err)
		}
		if from > to {
			return &SchemaError{Found: from, Needed: to}
		}
		if _, err := provider.Up(ctx); err != nil {
			return fmt.Errorf("migrate: %w", err)
		}
		return nil
	})
	return from, to, err
}

// CheckSchema returns a [*SchemaError] when the schema is not exactly the program's. It only reads.
func CheckSchema(ctx context.Context, url string) error {
	return withProvider(url, func(db *sql.DB, provider *goose.Provider) error {
		found, needed, err := versions(ctx, db, provider)
		if err != nil {
			return fmt.Errorf("read schema version: %w", err)
		}
		if found != needed {
			return &SchemaError{Found: found, Needed: needed}
		}
		return nil
	})
}

const (
	migratedSQL = `SELECT to_regclass('` + migrationsTable + `') IS NOT NULL`
	versionSQL  = `SELECT coalesce(max(version_id), 0) FROM ` + migrationsTable
)

// versions reads what goose's GetVersions returns, which creates its table when that is missing.
func versions(ctx context.Context, db *sql.DB, provider *goose.Provider) (found, needed int64, err error) {
	sources := provider.ListSources()
	needed = sources[len(sources)-1].Version
	var migrated bool
	if err := db.QueryRowContext(ctx, migratedSQL).Scan(&migrated); err != nil || !migrated {
		return 0, needed, err
	}
	err = db.QueryRowContext(ctx, versionSQL).Scan(&found)
	return found, needed, err
}

func withProvider(url string, do func(*sql.DB, *goose.Provider) error) (err error) {
	config, err := pgxpool.ParseConfig(url) // it takes the pool_… parameters out
	if err != nil {
		return fmt.Errorf("database url: %w", err)
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
