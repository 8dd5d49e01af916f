package repo_test

import (
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"testing"

	"publish-reconciler/repo"
)

// migratedBy pretends that a later release has migrated the schema, which works with programs of oldest and later.
func (w *world) migratedBy(version, oldest int64) {
	w.Helper()
	w.exec(`INSERT INTO publish_reconciler_migrations (version_id, is_applied) VALUES ($1, true)`, version)
	w.exec(`UPDATE publish_reconciler_schema SET oldest_program = $1`, oldest)
}

func TestCheckSchema(t *testing.T) {
	t.Parallel()
	const older = `the database schema is version %d, older than this program's %d: run "publish-reconciler migrate" to bring it up to date`
	tests := map[string]struct {
		prepare func(*world)
		newer   bool
		want    string
	}{
		"never migrated": {func(*world) {}, false, fmt.Sprintf(older, 0, latest)},
		"older": {func(w *world) {
			w.migrate()
			w.exec(`DELETE FROM publish_reconciler_migrations WHERE version_id > 1`)
		}, false, fmt.Sprintf(older, 1, latest)},
		"equal":                            {(*world).migrate, false, ""},
		"newer, and works with this one":   {func(w *world) { w.migrate(); w.migratedBy(latest+1, latest) }, true, ""},
		"newer, and works with older ones": {func(w *world) { w.migrate(); w.migratedBy(latest+90, latest-1) }, true, ""},
		"newer, and works with later ones alone": {func(w *world) { w.migrate(); w.migratedBy(latest+2, latest+1) }, false, fmt.Sprintf(
			`the database schema is version %d, newer than this program's %d, and works with programs of %d and later alone: start the release of publish-reconciler that migrated it, or a later one`,
			latest+2, latest, latest+1)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := emptyWorld(t)
			tt.prepare(w)
			before := w.tables()
			schema, err := repo.CheckSchema(t.Context(), w.url)
			var schemaError *repo.SchemaError
			if tt.want == "" && err != nil || tt.want != "" && (!errors.As(err, &schemaError) || err.Error() != tt.want) {
				t.Errorf("error %v, want %s", err, tt.want)
			}
			equal(t, "newer", schema.Newer(), tt.newer)
			equal(t, "tables after a look", w.tables(), before)
		})
	}
}

func TestMigrateLeavesANewerSchemaAlone(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		oldest int64
		works  bool
	}{"that works": {latest, true}, "that does not": {latest + 1, false}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.migratedBy(latest+1, tt.oldest)
			w.exec(`DROP INDEX publish_logs_post_idx`)
			w.exec(`DELETE FROM publish_reconciler_migrations WHERE version_id = 2`)
			schema, err := repo.Migrate(t.Context(), w.url)
			var schemaError *repo.SchemaError
			if errors.As(err, &schemaError) == tt.works || tt.works && err != nil {
				t.Errorf("error %v", err)
			}
			equal(t, "what it found", schema, repo.Schema{Found: latest + 1, Needed: latest, Oldest: tt.oldest})
			equal(t, "the index that is missing", slices.Contains(w.indexes("publish_logs"), "publish_logs_post_idx"), false)
		})
	}
}

// Who runs the service may be another role than who migrates, and has no right yet to what is new.
func TestEveryRoleReadsTheOldestProgram(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	equal(t, "everybody may", one[bool](w, `SELECT has_table_privilege('public', 'publish_reconciler_schema', 'SELECT')`), true)
}

// The release before works with this schema: replicas of both are at work in a rolling upgrade.
func TestTheReleaseBeforeWorksWithTheSchema(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if oldest := one[int64](w, `SELECT oldest_program FROM publish_reconciler_schema`); oldest > released {
		t.Errorf("the schema works with programs of %d and later, and the release before is one of %d: what takes something away belongs into a later release (00008_oldest_program.sql)", oldest, released)
	}
}

// takesAway finds what an older program may not survive.
var takesAway = regexp.MustCompile(`(?i)\b(DROP\s+(TABLE|COLUMN|DEFAULT)|ADD\s+CONSTRAINT)\b|\bRENAME\b|\bSET\s+NOT\s+NULL\b|\bALTER\s+COLUMN\s+\w+\s+(SET\s+DATA\s+)?TYPE\b`)

func TestMigrationsThatTakeAwaySaySo(t *testing.T) {
	t.Parallel()
	saysSo := regexp.MustCompile(`\bUPDATE publish_reconciler_schema SET oldest_program = \d+;`)
	files, err := fs.Glob(repo.Migrations, "migrations/*.sql")
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range files {
		text, err := fs.ReadFile(repo.Migrations, file)
		if err != nil {
			t.Fatal(err)
		}
		// The seventh came before there was something to say it in.
		if silent := takesAway.Match(text) && !saysSo.Match(text); silent != (file == "migrations/00007_outbox_rows.sql") {
			t.Errorf("%s takes away %q, and does not set oldest_program (00008_oldest_program.sql)", file, takesAway.Find(text))
		}
	}
}
