package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"publish-reconciler/cmd/publish-reconciler/console"
	"publish-reconciler/reconciler"
	"publish-reconciler/repo"
	"publish-reconciler/streams"
)

// console is the operator's page, which asks the operator's endpoints as every other door does.
func (o *operator) console() *console.Console {
	asked := consoleDoor{o}
	return console.New(console.Config{
		Facts:   consoleFacts(asked),
		Logs:    consoleLogs(asked),
		Deeds:   consoleDeeds(asked),
		Letters: consoleLetters(asked),
		Translate: func(err error) (int, string) {
			if errors.Is(err, streams.ErrLetterNotFound) {
				return http.StatusNotFound, err.Error()
			}
			known := translate(err)
			return known.status, known.Error()
		},
		Token:    o.cfg.apiToken,
		ReadOnly: o.cfg.console == consoleReadOnly,
		Version:  version(),
		Logger:   o.logger,
		Stop:     o.stop,
	})
}

// The page's door, by what is asked at it.
type (
	consoleDoor    struct{ *operator }
	consoleFacts   consoleDoor
	consoleLogs    consoleDoor
	consoleDeeds   consoleDoor
	consoleLetters consoleDoor
)

// Now is the status that every door tells, without its rates.
func (f consoleFacts) Now(ctx context.Context) console.Now {
	status := f.standing(ctx) // it tells what is wrong in itself
	now := console.Now{
		Parts: status.Ready, Holds: status.Holds, Parked: status.Parked, Outbox: status.Outbox, Dead: status.Dead, Timeout: f.cfg.policy.Timeout,
	}
	if status.Platforms != nil {
		now.Platforms = make([]repo.Backlog, 0, len(status.Platforms))
	}
	for _, platform := range status.Platforms {
		now.Platforms = append(now.Platforms, platform.Backlog)
	}
	if next := status.NextSweep; next != nil {
		now.NextSweep = &console.NextSweep{At: next.At, Why: string(next.Reason)}
		if next.At.IsZero() {
			now.NextSweep.Why = inWords(next)
		}
	}
	return now
}

// Time asks Postgres.
func (f consoleFacts) Time(ctx context.Context) (time.Time, error) { return f.store.Now(ctx) }

// Activity reads the ledger.
func (f consoleFacts) Activity(ctx context.Context, since time.Time, step time.Duration) ([]repo.Activity, error) {
	return f.store.Activity(ctx, since, step)
}

// ConfirmTimes reads the ledger.
func (f consoleFacts) ConfirmTimes(ctx context.Context, since time.Time) ([]repo.ConfirmTimes, error) {
	return f.store.ConfirmTimes(ctx, since)
}

// List is the endpoint logs.
func (l consoleLogs) List(ctx context.Context, given map[string]string) (rows []reconciler.Row, more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	filter, err := params(given).filter()
	if given[paramLimit] == "" {
		filter.Limit = reconciler.DefaultListed
	}
	if err != nil {
		return nil, false, badRequest(err)
	}
	return l.logs.List(ctx, filter)
}

// Find looks for a post everywhere.
func (l consoleLogs) Find(ctx context.Context, platform, post string) (rows []reconciler.Row, parked []repo.Parked, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	if rows, err = l.store.FindPost(ctx, platform, post); err != nil {
		return nil, nil, err
	}
	parked, err = l.store.FindParked(ctx, platform, post)
	return rows, parked, err
}

// View is the endpoint log.
func (l consoleLogs) View(ctx context.Context, id uuid.UUID) (reconciler.View, reconciler.Explanation, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	answer, err := l.log(ctx, params{paramLogID: id.String()})
	if err != nil {
		return reconciler.View{}, reconciler.Explanation{}, err
	}
	known := answer.(logAnswer)
	return known.View, known.Explanation, nil
}

// Parked lists the parked webhooks.
func (l consoleLogs) Parked(ctx context.Context, page repo.ParkedPage) (parked []repo.Parked, more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	return l.store.ParkedWebhooks(ctx, page)
}

// Override is the endpoint override.
func (d consoleDeeds) Override(ctx context.Context, override reconciler.Override) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	_, err := d.rules.Override(ctx, override)
	return err
}

// Check writes into the ledger who asks, and publishes the check.
func (d consoleDeeds) Check(ctx context.Context, check reconciler.CheckRequest) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	// While it reconnects, nats.go would keep the message and send it after the visitor was told of a failure.
	if err := d.connected(); err != nil {
		return err
	}
	if err := d.reconciler.NoteCheck(ctx, check); err != nil {
		return err
	}
	subject := streams.CheckSubject(check.LogID)
	if _, err := d.js.Publish(ctx, subject, nil); err != nil {
		return fmt.Errorf("publish on %s: %w", subject, err)
	}
	return nil
}

// Reconcile is the endpoint reconcile.
func (d consoleDeeds) Reconcile(ctx context.Context, minutes string) (reconciler.SweepResult, error) {
	answer, err := d.reconcile(ctx, params{paramSince: minutes})
	if err != nil {
		return reconciler.SweepResult{}, err
	}
	return answer.(reconciler.SweepResult), nil
}

func (l consoleLetters) open(ctx context.Context) (*streams.Letters, error) {
	if err := l.connected(); err != nil {
		return nil, err
	}
	return openLetters(ctx, l.nc)
}

// List is what dead list prints.
func (l consoleLetters) List(ctx context.Context, filter streams.LetterFilter, before uint64, limit int) ([]streams.Letter, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	letters, err := l.open(ctx)
	if err != nil {
		return nil, 0, err
	}
	return letters.List(ctx, filter, before, limit)
}

// Get is what dead show prints.
func (l consoleLetters) Get(ctx context.Context, sequence uint64) (streams.Letter, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	letters, err := l.open(ctx)
	if err != nil {
		return streams.Letter{}, err
	}
	return letters.Get(ctx, sequence)
}

// lettersTimeout is how long letters may be counted: some hundred thousand a second are.
const lettersTimeout = 25 * time.Second

// Count counts as dead replay does before it asks.
func (l consoleLetters) Count(ctx context.Context, choice console.LetterChoice) (count console.LetterCount, err error) {
	ctx, cancel := context.WithTimeout(ctx, lettersTimeout)
	defer cancel()
	letters, err := l.open(ctx)
	if err != nil {
		return count, err
	}
	chosen, through, err := choose(ctx, letters, choice)
	var all tally
	if err == nil {
		err = chosen(ctx, all.add)
	}
	if err != nil {
		return count, err
	}
	count.Total, count.Through = all.total, through
	for _, key := range all.sorted() {
		count.Groups = append(count.Groups, console.LetterGroup{Kind: key.kind, Reason: key.reason, Letters: all.counts[key]})
	}
	return count, nil
}

// choose returns what visits the letters that are meant, up to the last there is.
func choose(ctx context.Context, letters *streams.Letters, choice console.LetterChoice) (visitAll func(context.Context, func(streams.Letter) error) error, through uint64, err error) {
	if choice.Sequence != 0 {
		named, gone, err := lookUp(ctx, letters, []uint64{choice.Sequence})
		return func(_ context.Context, visit func(streams.Letter) error) error { return eachOf(named, visit) }, 0, cmp.Or(err, gone)
	}
	filter := choice.Filter
	if filter.Through == 0 {
		if filter.Through, err = letters.Last(ctx); err != nil {
			return nil, 0, err
		}
	}
	return func(ctx context.Context, visit func(streams.Letter) error) error {
		return letters.Each(ctx, filter, visit)
	}, filter.Through, nil
}

// Act is dead replay and dead drop.
func (l consoleLetters) Act(ctx context.Context, act console.Act, choice console.LetterChoice) (outcome console.LetterOutcome, err error) {
	letters, err := l.open(ctx)
	if err != nil {
		return outcome, err
	}
	d := dropping
	if act == console.Replay {
		d = replaying(choice.Again)
	}
	step, err := d.prepare(ctx, letters)
	if err != nil {
		return outcome, err
	}
	chosen, _, err := choose(ctx, letters, choice)
	var all tally
	if err == nil {
		err = chosen(ctx, all.add)
	}
	if err != nil {
		return outcome, err
	}
	var done, refused bytes.Buffer
	work := &work{deed: d, step: step, total: all.total, out: output{&done, &refused}, tell: func(string, ...any) {}}
	if err := work.run(ctx, chosen); err != nil {
		outcome.Trouble = strings.NewReplacer("the same command goes on", "the same goes on", "with --again they are", "with the mark below the count they are").Replace(err.Error())
	}
	outcome.Done = strings.TrimSpace(done.String())
	outcome.Refused = slices.Collect(strings.Lines(refused.String()))
	l.logger.InfoContext(ctx, "dead letters acted on from the page", "act", string(act), "done", work.done, "refused", work.refused)
	return outcome, nil
}
