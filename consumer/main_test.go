package consumer_test

import (
	"context"
	"flag"
	"testing"

	"publish-reconciler/repo"
	"publish-reconciler/repo/pgtest/pgtestdb"
)

func TestMain(m *testing.M) {
	// The tests wait much more than they work: more of them at once than there are processors.
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
	pgtestdb.Main(m)
}

func migrate(ctx context.Context, url string) error {
	_, err := repo.Migrate(ctx, url)
	return err
}
