package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"

	"golang.org/x/term"
	"golang.org/x/text/width"
)

const (
	// watchEvery is how often a watched answer is asked for, unless something else is said.
	watchEvery    = 2 * time.Second
	minWatchEvery = 100 * time.Millisecond
	maxWatchEvery = 24 * time.Hour
)

type statusCommand struct {
	access `embed:""`
	Watch  bool    `name:"watch" help:"Ask again and again, until Ctrl-C."`
	Every  *string `name:"every" help:"How often to ask, with --watch; 2s unless given."`
}

func (c *statusCommand) run(ctx context.Context, out output) error {
	every := watchEvery
	if c.Every != nil {
		var ok bool
		if every, ok = parseDuration(*c.Every, minWatchEvery, maxWatchEvery); !ok {
			return usageError{fmt.Errorf("--every is %q: it must be a duration such as 2s, from %s to %s", *c.Every, short(minWatchEvery), short(maxWatchEvery))}
		}
		if !c.Watch {
			return usageError{errors.New("--every is of use with --watch alone")}
		}
	}
	look := func(ctx context.Context, w io.Writer) error {
		return ask(ctx, output{w, out.stderr}, c.access, "status", params{}, patience, printStatus)
	}
	if !c.Watch {
		return look(ctx, out.stdout)
	}
	show := newView(out.stdout, fmt.Sprintf("status every %s, Ctrl-C ends it", short(every))).show
	if c.JSON {
		show = func(text string) error {
			_, err := io.WriteString(out.stdout, text)
			return err
		}
	}
	return watch(ctx, every, show, look, c.JSON)
}

// watch shows what look prints, again and again, until ctx ends; an error is shown in its place. One that lies in what
// was typed ends it.
func watch(ctx context.Context, every time.Duration, show func(text string) error, look func(context.Context, io.Writer) error, asJSON bool) error {
	for {
		var text bytes.Buffer
		err := look(ctx, &text)
		select {
		case <-ctx.Done():
			return nil
		default:
		}
		var usage usageError
		switch {
		case errors.As(err, &usage):
			return err
		case err != nil && asJSON:
			if err := printJSON(&text, errorAnswer{err.Error()}); err != nil {
				return err
			}
		case err != nil:
			fmt.Fprintf(&text, "no answer: %s\n", err)
		}
		if err := show(text.String()); err != nil {
			return err
		}
		select {
		case <-time.After(every):
		case <-ctx.Done():
			return nil
		}
	}
}

// view shows a text in the place of the one before, on a terminal. Elsewhere they stand one after the other, each
// with its time above it and an empty line below.
type view struct {
	w     io.Writer
	title string
	drawn bool
}

func newView(w io.Writer, title string) *view { return &view{w: w, title: title} }

func (v *view) show(text string) error {
	now := time.Now().UTC()
	if !isTerminal(v.w) {
		_, err := fmt.Fprintf(v.w, "%s\n%s\n", moment(&now), text)
		return err
	}
	// ECMA-48: ED 2 erases all, CUP goes to the upper left, EL erases the rest of a line, ED what is below.
	var frame strings.Builder
	if !v.drawn {
		v.drawn = true
		frame.WriteString("\x1b[2J")
	}
	frame.WriteString("\x1b[H")
	for _, line := range v.fit(moment(&now) + "  " + v.title + "\n\n" + text) {
		// What was there goes first: after a line that fills the width, the cursor still stands on its last column.
		frame.WriteString("\x1b[K" + line + "\n")
	}
	frame.WriteString("\x1b[J")
	_, err := io.WriteString(v.w, frame.String())
	return err
}

// fit is as much of a text as the terminal has room for, but for the line where the cursor is left.
func (v *view) fit(text string) []string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	columns, rows, err := term.GetSize(int(v.w.(*os.File).Fd()))
	if err != nil || columns < 1 || rows < 2 {
		return lines // it does not tell
	}
	lines = lines[:min(len(lines), rows-1)]
	for i, line := range lines {
		lines[i] = cut(line, columns)
	}
	return lines
}

// cut is as much of a line as has room in so many columns.
func cut(line string, columns int) string {
	for i, r := range line {
		if columns -= runeColumns(r); columns < 0 {
			return line[:i]
		}
	}
	return line
}

// runeColumns is two for what Unicode has as wide (UAX 11): Chinese, Japanese and Korean, and emoji. It is none for marks,
// which stand above or below the letter before them.
func runeColumns(r rune) int {
	if unicode.In(r, unicode.Mn, unicode.Me) {
		return 0
	}
	if kind := width.LookupRune(r).Kind(); kind == width.EastAsianWide || kind == width.EastAsianFullwidth {
		return 2
	}
	return 1
}
