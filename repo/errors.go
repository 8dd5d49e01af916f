package repo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"publish-reconciler/reconciler"
)

type timeoutError struct {
	operation string
	after     time.Duration
}

func (e *timeoutError) Error() string {
	return fmt.Sprintf("%s: no answer from postgres within %s", e.operation, e.after)
}

func (e *timeoutError) Unwrap() error { return context.DeadlineExceeded }

const codeLockNotAvailable = "55P03" // what lock_timeout ends with

// translate makes an error of pgx the caller's: what lies in one value or row wraps
// [reconciler.ErrRefused], a lock that was not to be had [reconciler.ErrLocked], a time-out names its operation.
func translate(ctx context.Context, err error) error {
	var pgErr *pgconn.PgError
	switch {
	case !errors.As(err, &pgErr):
	case refused(pgErr.Code):
		return fmt.Errorf("%w: %w", reconciler.ErrRefused, err)
	case pgErr.Code == codeLockNotAvailable:
		return fmt.Errorf("%w: %w", reconciler.ErrLocked, err)
	}
	if timeout, ok := errors.AsType[*timeoutError](context.Cause(ctx)); ok {
		return timeout
	}
	return fmt.Errorf("postgres: %w", err)
}

// refused tells whether Postgres would say the same of the same row again (PostgreSQL manual, appendix A).
func refused(code string) bool {
	switch code[:min(2, len(code))] {
	case "22", // data exception: text or a number it can't hold
		"23", // integrity constraint violation
		"44", // with check option violation
		"54", // program limit exceeded: an index entry, a nesting too large
		"P0": // a trigger of the publishers' raised an exception
		return true
	}
	return false
}
