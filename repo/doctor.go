package repo

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"publish-reconciler/reconciler"
)

// IndexState is how an index that the service needs was found.
type IndexState struct {
	Name, Table string
	// Found tells that it is there, Valid that it is finished and can be used.
	Found, Valid bool
	// Definition is what follows the table's name in CREATE INDEX.
	Definition string
}

// indexesSQL has no row for an index that is missing.
const indexesSQL = `
SELECT c.relname, i.indisvalid AND i.indisready
  FROM unnest($1::text[], $2::text[]) AS needed(name, tab)
  JOIN pg_index i ON i.indrelid = to_regclass(needed.tab)
  JOIN pg_class c ON c.oid = i.indexrelid AND c.relname = needed.name`

// neededIndexes are those that migrations make, and the two that they make together with their tables.
func neededIndexes() []IndexState {
	needed := []IndexState{
		{Name: "parked_webhooks_post_idx", Table: "parked_webhooks", Definition: "(platform, external_post_id)"},
		{Name: "publish_platform_silence_idx", Table: "publish_platform_silence", Definition: "(platform, at)"},
	}
	for _, steps := range indexVersions {
		for _, step := range steps {
			if i, ok := step.(index); ok {
				needed = append(needed, IndexState{Name: i.name, Table: i.table, Definition: i.definition})
			}
		}
	}
	slices.SortFunc(needed, func(a, b IndexState) int { return cmp.Compare(a.Name, b.Name) })
	return needed
}

// Indexes tells of all indexes that the service needs, in the order of their names.
func (s *Store) Indexes(ctx context.Context) ([]IndexState, error) {
	ctx, cancel := s.limit(ctx, "look at the indexes")
	defer cancel()
	needed := neededIndexes()
	names, tables := make([]string, len(needed)), make([]string, len(needed))
	for i, index := range needed {
		names[i], tables[i] = index.Name, index.Table
	}
	rows, err := s.pool.Query(ctx, indexesSQL, names, tables)
	if err != nil {
		return nil, translate(ctx, err)
	}
	valid := make(map[string]bool, len(needed))
	var name string
	var isValid bool
	if _, err := pgx.ForEachRow(rows, []any{&name, &isValid}, func() error {
		valid[name] = isValid
		return nil
	}); err != nil {
		return nil, translate(ctx, err)
	}
	for i := range needed {
		needed[i].Valid, needed[i].Found = valid[needed[i].Name]
	}
	return needed, nil
}

// DuePlan is how Postgres would look for due logs.
type DuePlan struct {
	// Bytes is the size of the table, without its indexes.
	Bytes int64
	// Indexed tells that it would go by the index of open logs.
	Indexed bool
}

const tableBytesSQL = `
SELECT coalesce(sum(pg_relation_size(oid)), 0)::bigint, coalesce(bool_or(relkind = 'p'), false)
  FROM pg_class
 WHERE oid = to_regclass('publish_logs') OR oid IN (SELECT relid FROM pg_partition_tree(to_regclass('publish_logs')) WHERE isleaf)`

// PlanDue asks Postgres how it would look for due logs; it does not look.
func (s *Store) PlanDue(ctx context.Context, due reconciler.Due) (DuePlan, error) {
	ctx, cancel := s.limit(ctx, "explain the search for due logs")
	defer cancel()
	var plan DuePlan
	var partitioned bool
	if err := s.pool.QueryRow(ctx, tableBytesSQL).Scan(&plan.Bytes, &partitioned); err != nil {
		return DuePlan{}, translate(ctx, err)
	}
	rows, err := s.pool.Query(ctx, `EXPLAIN `+dueSQL, dueArgs(due)...)
	if err != nil {
		return DuePlan{}, translate(ctx, err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return DuePlan{}, translate(ctx, err)
	}
	text := strings.Join(lines, "\n")
	// The indexes of partitions have names of their own.
	plan.Indexed = !strings.Contains(text, "Seq Scan on ") && (partitioned || strings.Contains(text, "publish_logs_open_idx"))
	return plan, nil
}

// neededPrivileges are what the service does with its tables, as GRANT takes it. FOR UPDATE takes the right to update some
// column.
var neededPrivileges = map[string][]string{
	"publish_logs": {
		"SELECT", "UPDATE (status)", "UPDATE (error_message)", "UPDATE (external_url)", "UPDATE (published_at)",
		"UPDATE (retry_count)", "UPDATE (last_retry_at)", "UPDATE (extra_metadata)", "UPDATE (updated_at)",
	},
	"ledger_events":            {"SELECT", "INSERT"},
	"parked_webhooks":          {"SELECT", "INSERT", "UPDATE", "DELETE"},
	"publish_outbox":           {"SELECT", "INSERT", "UPDATE", "DELETE"},
	"publish_outbox_told":      {"SELECT", "UPDATE"},
	"publish_platforms":        {"SELECT", "INSERT", "UPDATE"},
	"publish_platform_silence": {"SELECT", "INSERT", "DELETE"},
	migrationsTable:            {"SELECT"},
	schemaTable:                {"SELECT"},
}

// privilegesSQL is content with a right on some column where none is named: publishers may grant no more than that.
const privilegesSQL = `
SELECT needed.tab || ' ' || needed.privilege
  FROM unnest($1::text[], $2::text[]) AS needed(tab, privilege)
 CROSS JOIN to_regclass(needed.tab) AS found(tab)
  LEFT JOIN pg_attribute col ON col.attrelid = found.tab AND needed.privilege = format('UPDATE (%s)', col.attname)
 WHERE NOT coalesce(CASE WHEN needed.privilege = 'DELETE' THEN has_table_privilege(found.tab, 'DELETE')
                         WHEN needed.privilege LIKE 'UPDATE (%' THEN has_column_privilege(found.tab, col.attnum, 'UPDATE')
                         ELSE has_any_column_privilege(found.tab, needed.privilege) END, false)
 ORDER BY 1`

const roleSQL = `SELECT quote_ident(current_user)`

// MissingPrivileges are what the role, whose name comes as SQL takes it, may not do with the service's tables, by table, as
// GRANT takes it. A table that is missing allows nothing. Prunes tells that old ledger events are to be deleted.
func (s *Store) MissingPrivileges(ctx context.Context, prunes bool) (role string, missing map[string][]string, err error) {
	ctx, cancel := s.limit(ctx, "look at the privileges")
	defer cancel()
	if err := s.pool.QueryRow(ctx, roleSQL).Scan(&role); err != nil {
		return "", nil, translate(ctx, err)
	}
	needed := maps.Clone(neededPrivileges)
	if prunes {
		needed["ledger_events"] = append(slices.Clone(needed["ledger_events"]), "UPDATE", "DELETE")
	}
	var tables, privileges []string
	for table, all := range needed {
		for _, privilege := range all {
			tables, privileges = append(tables, table), append(privileges, privilege)
		}
	}
	rows, err := s.pool.Query(ctx, privilegesSQL, tables, privileges)
	if err != nil {
		return "", nil, translate(ctx, err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return "", nil, translate(ctx, err)
	}
	missing = make(map[string][]string)
	for _, line := range lines {
		table, privilege, _ := strings.Cut(line, " ")
		missing[table] = append(missing[table], privilege)
	}
	return role, missing, nil
}
