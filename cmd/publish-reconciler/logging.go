package main

import (
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/lmittmann/tint"
	"golang.org/x/term"
)

// logger writes lines for people on a terminal, and JSON elsewhere, unless it is told which.
func (c logConfig) logger(w io.Writer) *slog.Logger {
	terminal := isTerminal(w)
	if c.format == "json" || c.format == "" && !terminal {
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: c.level}))
	}
	return slog.New(tint.NewTextHandler(w, &tint.Options{
		Level:      c.level,
		TimeFormat: time.TimeOnly,
		NoColor:    !terminal || os.Getenv("NO_COLOR") != "", // no-color.org
	}))
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
