package repo

import (
	"context"
	"strings"
)

type statementKey struct{}

// named gives the round trips under a context their name: a constant, so that there are few.
func named(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, statementKey{}, name)
}

// StatementOf names the round trip to Postgres whose context [Config].Tracer is given, such as "lock" (a batch's logs,
// with the wait for others' locks), "write" (what was decided on them, with the commit) or "page_through_due_logs".
// There are some twenty names. It is empty for what the pool does by itself.
func StatementOf(ctx context.Context) string {
	name, _ := ctx.Value(statementKey{}).(string)
	return strings.ReplaceAll(name, " ", "_")
}
