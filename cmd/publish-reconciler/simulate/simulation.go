package simulate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go/jetstream"
)

// Config is what a simulation plays, and against what.
type Config struct {
	Plan Plan
	Run  Run
	// JS and DB are those of the service. JS must give up on messages that are not answered for
	// (jetstream.WithPublishAsyncTimeout).
	JS jetstream.JetStream
	DB *pgxpool.Pool
	// Patience is how long nothing at all may move before the play is broken off.
	Patience time.Duration
	// Events tells that the service publishes outcome events.
	Events bool
	// Show is how many logs that are not as they must be are told with their faults.
	Show int
	// Progress is told now and then how far it is. Nil: nobody is.
	Progress func(Progress)
	Logger   *slog.Logger
}

// Progress is how far a simulation is.
type Progress struct {
	// Phase is what is done at the moment, and Done for how many of the Logs it is.
	Phase      string
	Done, Logs int
}

// Simulation is one playing of a story. Make one with [New].
type Simulation struct {
	cfg   Config
	story *Story
	// from is where the streams ended before anything was played.
	from streamEnds
	// webhooks is the place of the run's last webhook in its stream.
	webhooks atomic.Uint64
	begun    atomic.Int64
	took     time.Duration

	moved   atomic.Int64 // when something last moved, in nanoseconds since 1970
	mu      sync.Mutex
	trouble error // the latest, of what is tried again
}

// streamEnds are sequences.
type streamEnds struct{ dead, events uint64 }

// New returns a simulation that has done nothing yet.
func New(cfg Config) *Simulation {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Progress == nil {
		cfg.Progress = func(Progress) {}
	}
	return &Simulation{cfg: cfg, story: NewStory(cfg.Plan)}
}

// Story is what it plays.
func (s *Simulation) Story() *Story { return s.story }

// StalledError tells that nothing moved any more. What was played until then can be examined.
type StalledError struct {
	Patience time.Duration
	// Waiting is what was waited for.
	Waiting string
	// Trouble is why the last attempt at something failed; nil where nothing did.
	Trouble error
}

func (e *StalledError) Error() string {
	text := fmt.Sprintf("nothing moved for %s while it waited for %s", e.Patience, e.Waiting)
	if e.Trouble != nil {
		text += ": " + e.Trouble.Error()
	}
	return text
}

// move notes that something moved.
func (s *Simulation) move() { s.moved.Store(time.Now().UnixNano()) }

// stalled tells whether nothing moved for too long.
func (s *Simulation) stalled(waiting string) error {
	if time.Since(time.Unix(0, s.moved.Load())) < s.cfg.Patience {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return &StalledError{s.cfg.Patience, waiting, s.trouble}
}

const (
	// attemptTimeout limits one attempt at something.
	attemptTimeout = 15 * time.Second
	// longestPause is between two attempts.
	longestPause = 2 * time.Second
)

// persist tries until it succeeds, is in vain, or ctx ends: NATS and Postgres may be away for a while.
func (s *Simulation) persist(ctx context.Context, what string, attempt func(context.Context) error) error {
	delay := backoff.NewExponentialBackOff()
	delay.InitialInterval, delay.MaxInterval = 50*time.Millisecond, longestPause
	for failures := 0; ; failures++ {
		limited, cancel := context.WithTimeoutCause(ctx, attemptTimeout, fmt.Errorf("no answer within %s", attemptTimeout))
		err := attempt(limited)
		if err != nil && limited.Err() != nil {
			err = cmp.Or(context.Cause(limited), err)
		}
		cancel()
		switch {
		case err == nil && failures == 0:
			return nil
		case err == nil:
			s.note(nil)
			s.cfg.Logger.InfoContext(ctx, "it works again", "what", what)
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case inVain(err):
			return fmt.Errorf("%s: %w", what, err)
		case failures == 0:
			s.cfg.Logger.WarnContext(ctx, "trying again until it works", "what", what, "err", err)
		}
		s.note(fmt.Errorf("%s: %w", what, err))
		if err := pause(ctx, delay.NextBackOff()); err != nil {
			return err
		}
	}
}

func (s *Simulation) note(trouble error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trouble = trouble
}

// inVain tells of what Postgres will always refuse: wrong data, broken constraints, no such table or no right
// to it (PostgreSQL manual, appendix A).
func inVain(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || len(pgErr.Code) < 2 {
		return false
	}
	class := pgErr.Code[:2]
	return class == "22" || class == "23" || class == "42"
}

// pause waits, and returns why ctx has ended when it does.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
