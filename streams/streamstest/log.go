package streamstest

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
)

// logAdapter hands the server's lines to slog. A fatal one does not end the process: Start returns it.
type logAdapter struct {
	logger *slog.Logger

	mu    sync.Mutex
	fatal string
}

func (l *logAdapter) Noticef(format string, v ...any) { l.log(slog.LevelDebug, format, v) }
func (l *logAdapter) Debugf(format string, v ...any)  { l.log(slog.LevelDebug, format, v) }
func (l *logAdapter) Tracef(format string, v ...any)  { l.log(slog.LevelDebug, format, v) }
func (l *logAdapter) Warnf(format string, v ...any)   { l.log(slog.LevelWarn, format, v) }
func (l *logAdapter) Errorf(format string, v ...any)  { l.log(slog.LevelError, format, v) }

func (l *logAdapter) Fatalf(format string, v ...any) {
	l.mu.Lock()
	l.fatal = fmt.Sprintf(format, v...)
	l.mu.Unlock()
	l.log(slog.LevelError, format, v)
}

func (l *logAdapter) lastFatal() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fatal
}

func (l *logAdapter) log(level slog.Level, format string, v []any) {
	if ctx := context.Background(); l.logger.Enabled(ctx, level) {
		l.logger.Log(ctx, level, "nats server", "line", fmt.Sprintf(format, v...))
	}
}
