package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"publish-reconciler/streams"
)

const (
	// lotLetters and lotBytes bound what is done at once, and so the memory.
	lotLetters = 100
	lotBytes   = 8 << 20
	// mostRefusals bounds what is told of single letters.
	mostRefusals = 20
)

// deed is what is done to letters, in words, and how.
type deed struct {
	ask, done string // Replay, replayed
	prepare   func(context.Context, *streams.Letters) (step, error)
}

// step does it to some letters.
type step func(ctx context.Context, sequences []uint64) []streams.LetterResult

// act counts the letters, asks, and does it. What dies after the count is left alone: a letter that is replayed and
// dies again must not be replayed for ever.
func (c letterChoice) act(ctx context.Context, out output, d deed) error {
	sequences, filter, err := c.read()
	if err != nil {
		return err
	}
	return c.letters(ctx, func(ctx context.Context, letters *streams.Letters) error {
		return c.actOn(ctx, out, d, letters, sequences, filter)
	})
}

func (c letterChoice) actOn(ctx context.Context, out output, d deed, letters *streams.Letters, sequences []uint64, filter streams.LetterFilter) error {
	do, err := d.prepare(ctx, letters)
	if err != nil {
		return err
	}
	var count tally
	chosen := func(ctx context.Context, visit func(streams.Letter) error) error {
		return letters.Each(ctx, filter, visit)
	}
	if len(sequences) > 0 {
		named, gone, err := lookUp(ctx, letters, sequences)
		if err == nil && len(named) == 0 {
			err = gone
		}
		if err != nil {
			return fmt.Errorf("%w; nothing was %s", err, d.done)
		}
		if gone != nil { // as they are when the same command goes on
			fmt.Fprintf(out.stderr, "%d of %s are there, the others are gone\n", len(named), plural(len(sequences)))
		}
		chosen = func(_ context.Context, visit func(streams.Letter) error) error { return eachOf(named, visit) }
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
	work := &work{deed: d, step: do, total: count.total, out: out, tell: tellNowAndThen(out.stderr)}
	return work.run(ctx, chosen)
}

// lookUp returns letters without their bodies. Gone tells of the first that is not there.
func lookUp(ctx context.Context, letters *streams.Letters, sequences []uint64) (named []streams.Letter, gone, err error) {
	for _, sequence := range sequences {
		letter, err := letters.Get(ctx, sequence)
		switch {
		case errors.Is(err, streams.ErrLetterNotFound):
			gone = cmp.Or(gone, err)
			continue
		case err != nil:
			return nil, nil, err
		}
		letter.Body = nil
		named = append(named, letter)
	}
	return named, gone, nil
}

func eachOf(letters []streams.Letter, visit func(streams.Letter) error) error {
	for _, letter := range letters {
		if err := visit(letter); err != nil {
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
	step  step
	total int
	out   output
	tell  func(format string, args ...any)

	done, before, gone, refused, doubtful int
}

// run finishes what is in hand when it is stopped, or when a letter meets an error that others would meet too.
func (w *work) run(ctx context.Context, chosen func(context.Context, func(streams.Letter) error) error) error {
	var lot []uint64
	size := 0
	err := chosen(ctx, func(letter streams.Letter) (err error) {
		if len(lot) == lotLetters || len(lot) > 0 && size+letter.Whole > lotBytes {
			err = w.do(ctx, lot)
			lot, size = nil, 0
		}
		lot, size = append(lot, letter.Sequence), size+letter.Whole
		return err
	})
	if err == nil && len(lot) > 0 {
		err = w.do(ctx, lot)
	}
	if err == nil { // what was counted and has not been met since was somebody else's
		w.gone = w.total - w.done - w.before - w.refused
	}
	w.sum()
	switch {
	case errors.Is(err, context.Canceled):
		return errors.New("stopped: the same command goes on with the other letters")
	case err != nil:
		return fmt.Errorf("the other letters are left: %w", err)
	case w.doubtful > 0:
		return fmt.Errorf("%s can't be %s, %d of them because a replay was cut off: with --again they are, which may be the second time", plural(w.refused), w.deed.done, w.doubtful)
	case w.refused > 0:
		return fmt.Errorf("%s can't be %s", plural(w.refused), w.deed.done)
	}
	return nil
}

// do returns the first error that other letters would meet too.
func (w *work) do(ctx context.Context, sequences []uint64) (failed error) {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	for _, result := range w.step(context.WithoutCancel(ctx), sequences) {
		switch refusal, refused := errors.AsType[*streams.ReplayError](result.Err); {
		case errors.Is(result.Err, streams.ErrLetterNotFound):
			w.gone++
		case refused:
			if !refusal.Begun.IsZero() {
				w.doubtful++
			}
			if w.refused++; w.refused <= mostRefusals {
				fmt.Fprintln(w.out.stderr, visible(result.Err.Error()))
			}
		case result.Err != nil:
			failed = cmp.Or(failed, result.Err)
		case result.Before:
			w.before++
		default:
			w.done++
		}
	}
	w.tell("%d of %s", w.done+w.before+w.gone+w.refused, plural(w.total))
	return failed
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
