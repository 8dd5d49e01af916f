package repo_test

import (
	"context"
	"testing"

	"publish-reconciler/repo"
	"publish-reconciler/repo/pgtest/pgtestdb"
)

func TestMain(m *testing.M) { pgtestdb.Main(m) }

// open gives tb a migrated database of its own and a store in it, which waits for locks as long as a test does.
func open(tb testing.TB) (*repo.Store, string) {
	tb.Helper()
	url := pgtestdb.New(tb, migrate)
	return openStore(tb, repo.Config{URL: withParam(url, "lock_timeout="+soon.String())}), url
}

func openStore(tb testing.TB, cfg repo.Config) *repo.Store {
	tb.Helper()
	store, err := repo.Open(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(store.Close)
	return store
}

func migrate(ctx context.Context, url string) error {
	_, err := repo.Migrate(ctx, url)
	return err
}
