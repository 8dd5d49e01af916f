package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"publish-reconciler/streams"
)

const (
	// lettersAtOnce hides the way to the server and back. The server takes 50 batches of a stream at once, from all
	// operators together.
	lettersAtOnce = 16
	// mostRefusals bounds what is told of single letters.
	mostRefusals = 20
	// progressEvery is how often somebody who looks hears how far it has come.
	progressEvery = 2 * time.Second
)

// deed is what is done to letters, in words, and how.
type deed struct {
	ask, done string // Replay, replayed
	prepare   func(context.Context, *streams.Letters) (step, error)
}

// step does it to one letter. Before is true where it had been done before.
type step func(ctx context.Context, sequence uint64) (before bool, err error)

// act counts the letters, asks, and does it. What dies after the count is left alone: a letter that is replayed and
// dies again must not be replayed for ever.
func (c letterChoice) act(ctx context.Context, out output, d deed) error {
	sequences, filter, err := c.read()
	if err != nil {
		return err
	}
	letters, nc, err := c.letters(ctx)
	if err != nil {
		return err
	}
	defer nc.Close()
	do, err := d.prepare(ctx, letters)
	if err != nil {
		return err
	}
	var count tally
	chosen := func(ctx context.Context, visit func(streams.Letter) error) error {
		return letters.Each(ctx, filter, visit)
	}
	if len(sequences) > 0 {
		chosen = func(ctx context.Context, visit func(streams.Letter) error) error {
			return eachOf(ctx, letters, sequences, visit)
		}
	} else if filter.Through, err = letters.Last(ctx); err != nil {
		return err
	}
	if err := chosen(ctx, count.add); err != nil {
		return fmt.Errorf("%w; nothing was %s", err, d.done)
	}
	if count.total == 0 {
		fmt.Fprintln(out.stdout, "no dead letters match")
		return nil
	}
	count.print(out.stdout)
	if !c.Yes {
		if err := confirm(ctx, os.Stdin, out.stderr, d, count.total); err != nil {
			return err
		}
	}
	if len(sequences) > 0 {
		chosen = func(_ context.Context, visit func(streams.Letter) error) error { return eachSequence(sequences, visit) }
	}
	work := &work{deed: d, do: do, total: count.total, out: out, told: time.Now()}
	return work.run(ctx, chosen)
}

// eachOf visits letters by their sequences; all of them have to be there.
func eachOf(ctx context.Context, letters *streams.Letters, sequences []uint64, visit func(streams.Letter) error) error {
	for _, sequence := range sequences {
		letter, err := letters.Get(ctx, sequence)
		if err == nil {
			err = visit(letter)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func eachSequence(sequences []uint64, visit func(streams.Letter) error) error {
	for _, sequence := range sequences {
		if err := visit(streams.Letter{Sequence: sequence}); err != nil {
			return err
		}
	}
	return nil
}

// confirm returns nil once somebody at a terminal has typed y.
func confirm(ctx context.Context, from *os.File, to io.Writer, d deed, n int) error {
	if !isTerminal(from) {
		return fmt.Errorf("nothing was %s: there is no terminal to ask on, and --yes was not given", d.done)
	}
	fmt.Fprintf(to, "%s %s? [y/N] ", d.ask, plural(n))
	typed := make(chan string, 1)
	go func() { // it ends with the process where nobody types
		line, _ := bufio.NewReader(from).ReadString('\n')
		typed <- line
	}()
	select {
	case line := <-typed:
		if answer := strings.ToLower(strings.TrimSpace(line)); answer == "y" || answer == "yes" {
			return nil
		}
		return fmt.Errorf("nothing was %s", d.done)
	case <-ctx.Done():
		return fmt.Errorf("stopped: nothing was %s", d.done)
	}
}

// work is a deed under way, several letters at once.
type work struct {
	deed
	do    step
	total int
	out   output

	mu                          sync.Mutex
	done, before, gone, refused int
	told                        time.Time
}

// run finishes what is in hand when it is stopped, or when a letter meets an error that others would meet too.
func (w *work) run(ctx context.Context, chosen func(context.Context, func(streams.Letter) error) error) error {
	group, working := errgroup.WithContext(ctx)
	group.SetLimit(lettersAtOnce)
	err := chosen(working, func(letter streams.Letter) error {
		if working.Err() != nil {
			return working.Err()
		}
		group.Go(func() error { return w.one(context.WithoutCancel(ctx), letter.Sequence) })
		return nil
	})
	if failed := group.Wait(); failed != nil {
		err = failed
	}
	w.sum()
	switch {
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return errors.New("stopped: the same command goes on with the other letters")
	case err != nil:
		return fmt.Errorf("the other letters are left: %w", err)
	case w.refused > 0:
		return fmt.Errorf("%s can't be %s", plural(w.refused), w.deed.done)
	}
	return nil
}

// one returns the errors that others would meet too.
func (w *work) one(ctx context.Context, sequence uint64) error {
	before, err := w.do(ctx, sequence)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch _, refused := errors.AsType[*streams.ReplayError](err); {
	case errors.Is(err, streams.ErrLetterNotFound):
		w.gone++
	case refused:
		if w.refused++; w.refused <= mostRefusals {
			fmt.Fprintln(w.out.stderr, visible(err.Error()))
		}
	case err != nil:
		return err
	case before:
		w.before++
	default:
		w.done++
	}
	if time.Since(w.told) > progressEvery && isTerminal(w.out.stderr) {
		w.told = time.Now()
		fmt.Fprintf(w.out.stderr, "%d of %s\n", w.done+w.before+w.gone+w.refused, plural(w.total))
	}
	return nil
}

func (w *work) sum() {
	if more := w.refused - mostRefusals; more > 0 {
		fmt.Fprintf(w.out.stderr, "and %d more\n", more)
	}
	text := plural(w.done) + " " + w.deed.done
	if w.before > 0 {
		text += fmt.Sprintf(", %d had been %s before", w.before, w.deed.done)
	}
	if w.gone > 0 {
		text += fmt.Sprintf(", %d had gone meanwhile", w.gone)
	}
	fmt.Fprintln(w.out.stdout, text)
}
