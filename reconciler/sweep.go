package reconciler

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
)

const (
	// sweepPage is how many logs one transaction of a sweep takes.
	sweepPage = 500
	// maxListedIDs is where the lists of a sweep's result are cut.
	maxListedIDs = 10_000
)

// SweepRequest asks for a sweep.
type SweepRequest struct {
	// Since takes the place of every platform's timeout. Zero: each platform's own.
	Since   time.Duration
	Trigger Trigger
	// Progress is called after each page, if it is not nil.
	Progress func()
	// Stop ends the sweep between two pages when it is closed. Nil: never.
	Stop <-chan struct{}
}

// ErrStopped is a sweep's error when [SweepRequest].Stop ended it.
var ErrStopped = errors.New("the sweep was stopped")

// stopped is why no other page is begun; nil when nothing speaks against it.
func (q SweepRequest) stopped(ctx context.Context) error {
	select {
	case <-q.Stop:
		return ErrStopped
	default:
		return ctx.Err()
	}
}

// SweepResult counts what a sweep did. Its JSON is the answer of every door that asks for a sweep.
type SweepResult struct {
	// TotalChecked counts the logs that were moved or skipped.
	TotalChecked  int `json:"total_checked"`
	MarkedSuccess int `json:"marked_success"`
	MarkedFailed  int `json:"marked_failed"`
	MarkedRetry   int `json:"marked_retry"`
	Skipped       int `json:"skipped"`
	// The lists hold at most 10,000 ids each; IDsTruncated tells that one was cut.
	SuccessLogIDs []uuid.UUID `json:"success_log_ids"`
	FailedLogIDs  []uuid.UUID `json:"failed_log_ids"`
	IDsTruncated  bool        `json:"ids_truncated,omitempty"`
}

// Sweep matches the parked webhooks to logs that appeared since, and reconciles every open log past its
// deadline, oldest first. Pages of 500 have a transaction each and skip what others hold, so that sweeps
// may run at the same time. When it is stopped, when ctx ends, or when the store fails, it returns what the
// pages before did with the error.
func (r *Reconciler) Sweep(ctx context.Context, request SweepRequest) (SweepResult, error) {
	result := SweepResult{SuccessLogIDs: []uuid.UUID{}, FailedLogIDs: []uuid.UUID{}}
	if err := r.sweepParked(ctx, request, &result); err != nil {
		return result, fmt.Errorf("sweep parked webhooks: %w", err)
	}
	if err := r.sweepDue(ctx, request, &result); err != nil {
		return result, fmt.Errorf("sweep due logs: %w", err)
	}
	return result, nil
}

func (r *Reconciler) sweepParked(ctx context.Context, request SweepRequest, result *SweepResult) error {
	var after uuid.UUID
	for request.stopped(ctx) == nil {
		logs, last, err := r.store.ParkedLogs(ctx, after, sweepPage)
		if err != nil || last == uuid.Nil {
			return err
		}
		after = last
		if err := r.sweepLogs(ctx, logs, request, result); err != nil {
			return err
		}
	}
	return request.stopped(ctx)
}

func (r *Reconciler) sweepDue(ctx context.Context, request SweepRequest, result *SweepResult) error {
	now, err := r.store.Now(ctx)
	if err != nil {
		return err
	}
	due := Due{Now: now, Timeout: r.policy.DefaultTimeout, Timeouts: r.policy.Timeouts, Limit: sweepPage}
	if request.Since > 0 {
		due.Timeout, due.Timeouts = request.Since, nil
	}
	for request.stopped(ctx) == nil {
		page, err := r.store.DueLogs(ctx, due)
		if err != nil || len(page) == 0 {
			return err
		}
		due.After = page[len(page)-1]
		logs := make([]uuid.UUID, len(page))
		for i, log := range page {
			logs[i] = log.ID
		}
		if err := r.sweepLogs(ctx, logs, request, result); err != nil {
			return err
		}
	}
	return request.stopped(ctx)
}

// sweepLogs reconciles one page.
func (r *Reconciler) sweepLogs(ctx context.Context, logs []uuid.UUID, request SweepRequest, result *SweepResult) error {
	if request.Progress != nil {
		defer request.Progress()
	}
	checks := make([]Check, len(logs))
	for i, id := range logs {
		checks[i].LogID = id
		if request.Since > 0 {
			checks[i].Timeout = &request.Since
		}
	}
	refused := func(i int, err error) {
		r.logger.WarnContext(ctx, "log can't be reconciled", "log_id", logs[i], "err", err)
	}
	return splitRefused(0, len(checks), func(from, to int) error {
		findings, err := r.look(ctx, checks[from:to], request.Trigger)
		for i, finding := range findings {
			result.count(logs[from+i], finding.decision)
			if finding.kind == Rejected {
				refused(from+i, finding.err)
			}
		}
		return err
	}, refused)
}

func (s *SweepResult) count(id uuid.UUID, d Decision) {
	switch {
	case d.Action == MarkedSuccess:
		s.MarkedSuccess++
		s.SuccessLogIDs = s.list(s.SuccessLogIDs, id)
	case d.Action == MarkedFailed:
		s.MarkedFailed++
		s.FailedLogIDs = s.list(s.FailedLogIDs, id)
	case d.Action == MarkedRetry:
		s.MarkedRetry++
	case d.Skipped:
		s.Skipped++
	default:
		return
	}
	s.TotalChecked++
}

func (s *SweepResult) list(ids []uuid.UUID, id uuid.UUID) []uuid.UUID {
	if len(ids) == maxListedIDs {
		s.IDsTruncated = true
		return ids
	}
	return append(ids, id)
}
