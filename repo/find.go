package repo

import (
	"context"

	"github.com/jackc/pgx/v5"

	"publish-reconciler/reconciler"
)

const (
	// maxFound bounds what one search returns, and maxPlatforms on how many platforms a post is looked for.
	maxFound     = 200
	maxPlatforms = 1000

	// everyPlatformSQL steps from name to name through an index that begins with the platform: it costs as many steps as
	// there are platforms, not rows. A name that is given is the only one.
	everyPlatformSQL = `
WITH RECURSIVE known AS (
    SELECT coalesce($2::text, (SELECT min(platform) FROM %[1]s)) AS platform, 1 AS n
    UNION ALL
    SELECT (SELECT min(t.platform) FROM %[1]s t WHERE t.platform > known.platform), n + 1
      FROM known
     WHERE known.platform IS NOT NULL AND $2 IS NULL AND n < $3
), found AS MATERIALIZED (
    SELECT id FROM %[1]s
     WHERE platform = ANY (ARRAY(SELECT platform FROM known)) AND external_post_id = $1
     LIMIT $4
)`
)

// FindPost returns the logs of a post, newest created first, 200 at most: of one platform, or, where that is empty, of
// every platform, up to 1,000 of them. There may be none.
func (s *Store) FindPost(ctx context.Context, platform, post string) ([]reconciler.Row, error) {
	ctx, cancel := s.limit(ctx, "look for a post")
	defer cancel()
	rows, err := s.pool.Query(ctx, findPostSQL, post, orNull(platform), maxPlatforms, maxFound)
	if err != nil {
		return nil, translate(ctx, err)
	}
	logs, err := pgx.CollectRows(rows, scanRow)
	if err != nil {
		return nil, translate(ctx, err)
	}
	return logs, nil
}

// orNull is nil for an empty text.
func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
