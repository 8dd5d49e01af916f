package repo

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/pressly/goose/v3"
)

// Schema is what a program and a database say of their versions.
type Schema struct {
	// Found is the database's version (0: never migrated), Needed the program's.
	Found, Needed int64
	// Oldest is the oldest program that works with a schema that is newer than the program's; else 0.
	Oldest int64
}

// Newer tells that a later release migrated the schema, and kept it so that the program works with it.
func (s Schema) Newer() bool { return s.Found > s.Needed && s.Oldest <= s.Needed }

func (s Schema) check() error {
	if s.Found == s.Needed || s.Newer() {
		return nil
	}
	return &SchemaError{s}
}

// SchemaError tells that the program does not work with the database's schema.
type SchemaError struct{ Schema }

func (e *SchemaError) Error() string {
	if e.Found > e.Needed {
		return fmt.Sprintf("the database schema is version %d, newer than this program's %d, and works with programs of %d and later alone: start the release of publish-reconciler that migrated it, or a later one", e.Found, e.Needed, e.Oldest)
	}
	return fmt.Sprintf("the database schema is version %d, older than this program's %d: run \"publish-reconciler migrate\" to bring it up to date", e.Found, e.Needed)
}

// CheckSchema returns a [*SchemaError] when the program does not work with the schema: where that is older, or where it
// is newer and its migrations took away what the program needs. It only reads.
func CheckSchema(ctx context.Context, url string) (Schema, error) {
	var schema Schema
	err := withProvider(url, func(db *sql.DB, provider *goose.Provider) (err error) {
		if schema, err = readSchema(ctx, db, provider); err != nil {
			return err
		}
		return schema.check()
	})
	return schema, err
}

const (
	migratedSQL = `SELECT to_regclass('` + migrationsTable + `') IS NOT NULL`
	versionSQL  = `SELECT coalesce(max(version_id), 0) FROM ` + migrationsTable
	oldestSQL   = `SELECT oldest_program FROM ` + schemaTable
)

// readSchema reads what goose's GetVersions returns, which creates its table when that is missing.
func readSchema(ctx context.Context, db *sql.DB, provider *goose.Provider) (Schema, error) {
	sources := provider.ListSources()
	schema := Schema{Needed: sources[len(sources)-1].Version}
	var migrated bool
	err := db.QueryRowContext(ctx, migratedSQL).Scan(&migrated)
	if err == nil && migrated {
		err = db.QueryRowContext(ctx, versionSQL).Scan(&schema.Found)
	}
	if err == nil && schema.Found > schema.Needed {
		err = db.QueryRowContext(ctx, oldestSQL).Scan(&schema.Oldest)
	}
	if err != nil {
		return Schema{}, fmt.Errorf("read schema version: %w", err)
	}
	return schema, nil
}
