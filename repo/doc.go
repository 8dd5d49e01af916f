// Package repo keeps the logs in Postgres: the schema, and the few set-based statements that lock, change
// and page through whole batches. Errors of Postgres are translated here, so that nobody else has to know
// its codes: [reconciler.ErrRefused] for what it would refuse again, anything else is worth another try.
package repo
