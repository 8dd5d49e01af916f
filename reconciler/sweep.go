package reconciler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
)

const (
	// sweepPage is how many logs one transaction of a sweep takes.
	sweepPage = 500
	// pagesInFlight is how many pages of due logs are worked on at the same time: while the store has one in hand,
	// the next is decided here. Of parked webhooks it is one: they may be large, and several of one post have
	// several pages want the same logs.
	pagesInFlight = 2
	// maxListedIDs is where the lists of a sweep's result are cut.
	maxListedIDs = 10_000
)

// SweepRequest asks for a sweep.
type SweepRequest struct {
	// Since takes the place of every platform's timeout. Zero: each platform's own.
	Since   time.Duration
	Trigger Trigger
	// Progress is called after each page, if it is not nil; never twice at once.
	Progress func()
	// Stop ends the sweep before the next page when it is closed. Nil: never.
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
// deadline, oldest first. Pages of 500, of due logs two at a time, have a transaction each and skip what others hold, so that
// sweeps may run at the same time. When it is stopped, when ctx ends, or when the store fails, it returns what the
// pages before did with the error.
func (r *Reconciler) Sweep(ctx context.Context, request SweepRequest) (SweepResult, error) {
	s := sweeping{
		reconciler: r, request: request,
		result: SweepResult{SuccessLogIDs: []uuid.UUID{}, FailedLogIDs: []uuid.UUID{}},
	}
	if err := s.pages(ctx, 1, s.parked()); err != nil {
		return s.result, fmt.Errorf("sweep parked webhooks: %w", err)
	}
	due, err := s.due(ctx)
	if err == nil {
		err = s.pages(ctx, pagesInFlight, due)
	}
	if err != nil {
		return s.result, fmt.Errorf("sweep due logs: %w", err)
	}
	return s.result, nil
}

// sweeping is a sweep that is under way.
type sweeping struct {
	reconciler *Reconciler
	request    SweepRequest

	mu     sync.Mutex // held for the result, and while the progress is told
	result SweepResult
}

// nextPage reads the next logs to be looked at. More says that there may be others behind them.
type nextPage func(ctx context.Context) (logs []uuid.UUID, more bool, err error)

// pages reconciles all of them, some at a time.
func (s *sweeping) pages(ctx context.Context, inFlight int, next nextPage) error {
	// What is in flight goes on when another page fails.
	flight, going := errgroup.WithContext(ctx)
	flight.SetLimit(inFlight)
	for s.request.stopped(going) == nil {
		logs, more, err := next(ctx)
		if err != nil {
			return cmp.Or(flight.Wait(), err)
		}
		if !more {
			return flight.Wait()
		}
		flight.Go(func() error {
			if err := s.request.stopped(going); err != nil { // it had to wait for its turn
				return err
			}
			return s.page(ctx, logs)
		})
	}
	if err := flight.Wait(); err != nil {
		return err
	}
	return s.request.stopped(ctx)
}

func (s *sweeping) parked() nextPage {
	var after uuid.UUID
	return func(ctx context.Context) (logs []uuid.UUID, more bool, err error) {
		logs, after, err = s.reconciler.store.ParkedLogs(ctx, after, sweepPage)
		return logs, after != uuid.Nil, err
	}
}

func (s *sweeping) due(ctx context.Context) (nextPage, error) {
	now, err := s.reconciler.store.Now(ctx)
	if err != nil {
		return nil, err
	}
	policy := s.reconciler.policy
	due := Due{Now: now, Timeout: policy.DefaultTimeout, Timeouts: policy.Timeouts, Limit: sweepPage}
	if s.request.Since > 0 {
		due.Timeout, due.Timeouts = s.request.Since, nil
	}
	return func(ctx context.Context) (logs []uuid.UUID, more bool, err error) {
		page, err := s.reconciler.store.DueLogs(ctx, due)
		for _, log := range page {
			logs = append(logs, log.ID)
			due.After = log
		}
		return logs, len(page) > 0, err
	}, nil
}

// page reconciles one page.
func (s *sweeping) page(ctx context.Context, logs []uuid.UUID) error {
	if s.request.Progress != nil {
		defer func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.request.Progress()
		}()
	}
	checks := make([]Check, len(logs))
	for i, id := range logs {
		checks[i].LogID = id
		if s.request.Since > 0 {
			checks[i].Timeout = &s.request.Since
		}
	}
	refused := func(i int, err error) {
		s.reconciler.logger.WarnContext(ctx, "log can't be reconciled", "log_id", logs[i], "trigger", string(s.request.Trigger), "err", err)
	}
	return splitRefused(0, len(checks), func(from, to int) error {
		findings, err := s.reconciler.look(ctx, checks[from:to], s.request.Trigger)
		s.mu.Lock()
		defer s.mu.Unlock()
		for i, finding := range findings {
			s.result.count(logs[from+i], finding.decision)
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
