package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"publish-reconciler/reconciler"
	"publish-reconciler/repo"
)

type pruneCommand struct {
	databaseSettings `embed:""`
	ledgerSettings   `embed:""`
	JSON             bool `name:"json" help:"Print the result as JSON."`
}

func (*pruneCommand) Help() string {
	return `It deletes ledger events of logs that are older than --ledger-retention, and webhooks that were parked for seven
days. A thousand rows at a time, with pauses, so that the service goes on as if nothing were; it can be stopped and
started again. The service does the same once a day.`
}

func (c *pruneCommand) run(ctx context.Context, out output) error {
	var f faults
	url, retention := c.databaseSettings.read(&f), c.ledgerSettings.read(&f)
	if err := f.err(); err != nil {
		return err
	}
	if _, err := repo.CheckSchema(ctx, url); err != nil {
		return fmt.Errorf("postgres at --database-url (DATABASE_URL): %w", err)
	}
	store, err := repo.Open(repo.Config{URL: url})
	if err != nil {
		return err
	}
	defer store.Close()
	tell := tellNowAndThen(out.stderr)
	pruner := reconciler.New(store, nil, nil, nil, reconciler.Policy{}, slog.New(slog.DiscardHandler))
	result, err := pruner.Prune(context.WithoutCancel(ctx), reconciler.PruneRequest{LedgerRetention: retention, Stop: ctx.Done(), Progress: func(r reconciler.PruneResult) {
		tell("%s", pruned(r))
	}})
	if c.JSON {
		if failed := printJSON(out.stdout, result); failed != nil {
			return failed
		}
	} else {
		fmt.Fprintln(out.stdout, pruned(result))
	}
	if err == nil && result.More {
		err = errors.New("stopped: the same command goes on")
	}
	return err
}

func pruned(r reconciler.PruneResult) string {
	return fmt.Sprintf("%d ledger events and %d parked webhooks deleted", r.LedgerEvents, r.ParkedWebhooks)
}
