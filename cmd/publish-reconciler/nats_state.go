package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// mostTold bounds the refusals that are remembered: their subjects may be anything.
const mostTold = 100

// natsState is what a connection has told of itself aside, as nats.go does: why it does not come about, and what the
// server does not let it do. Each is logged once, until the connection is made anew.
type natsState struct {
	logger *slog.Logger
	means  string
	// closed is closed with the connection, which never comes back then.
	closed chan struct{}

	mu   sync.Mutex
	told map[string]bool
	away error // why there is no connection though a server answered; nil where that is not known
	// asking are those who want to hear of what is refused.
	asking map[*context.CancelCauseFunc]struct{}
}

func newNATSState(access natsAccess, logger *slog.Logger) *natsState {
	return &natsState{
		logger: logger, means: access.means(), closed: make(chan struct{}),
		told: make(map[string]bool), asking: make(map[*context.CancelCauseFunc]struct{}),
	}
}

func (s *natsState) options() []nats.Option {
	return []nats.Option{
		nats.ConnectHandler(func(nc *nats.Conn) {
			s.connected()
			s.logger.Info("connected to nats", "url", redactNATS(nc.ConnectedUrl()))
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			s.connected()
			s.logger.Info("connected to nats again", "url", redactNATS(nc.ConnectedUrl()))
		}),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { s.noConnection(err) }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				s.logger.Warn("connection to nats lost", "err", err)
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { s.failed(err) }),
		nats.ClosedHandler(func(*nats.Conn) { close(s.closed) }),
	}
}

func (s *natsState) connected() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.told)
	s.away = nil
}

// watch returns an error once the connection is closed for good, and nil when ctx ends. Until then it looks why there
// is none: nats.go tells nobody what went wrong after a server had answered, such as within TLS.
func (s *natsState) watch(ctx context.Context, nc *nats.Conn) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := nc.LastError(); err != nil && !nc.IsConnected() {
				s.noConnection(err)
			}
		case <-s.closed:
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("the connection to nats is closed, and does not come back: %w", cmp.Or(nc.LastError(), nats.ErrConnectionClosed))
		case <-ctx.Done():
			return nil
		}
	}
}

// noConnection is told of a try that failed. That nobody is there is no news: that it waits is said elsewhere.
func (s *natsState) noConnection(err error) {
	level := slog.LevelDebug
	if !isAbsence(err) {
		s.mu.Lock()
		s.away = err
		s.mu.Unlock()
		if s.first(strings.ToLower(err.Error())) {
			level = slog.LevelWarn
		}
	}
	s.logger.Log(context.Background(), level, "no connection to nats", "err", err, "with", s.means)
}

// isAbsence tells whether nobody answered at all. What is said within TLS, such as that a certificate is wanted, is an
// error of the network for Go too.
func isAbsence(err error) bool {
	failure, network := errors.AsType[*net.OpError](err)
	return errors.Is(err, nats.ErrNoServers) || network && failure.Op != "remote error" && failure.Op != "local error"
}

// failed is told of all else that goes wrong.
func (s *natsState) failed(err error) {
	switch {
	case errors.Is(err, nats.ErrPermissionViolation):
		s.mu.Lock()
		for refuse := range s.asking {
			(*refuse)(err)
		}
		s.mu.Unlock()
		if s.first(refusedSubject(err)) {
			s.logger.Warn("nats", "err", err)
		}
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked), errors.Is(err, nats.ErrAccountAuthExpired):
		s.noConnection(err)
	default:
		s.logger.Warn("nats", "err", err)
	}
}

// first tells whether something has not been told yet.
func (s *natsState) first(what string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.told[what] || len(s.told) >= mostTold {
		return false
	}
	s.told[what] = true
	return true
}

// refusedSubject is a refusal without what differs from message to message, which subjects of acknowledgements have
// behind their fourth token.
func refusedSubject(err error) string {
	const tokens = 5
	parts := strings.Split(err.Error(), ".")
	return strings.Join(parts[:min(len(parts), tokens)], ".")
}

// untilRefused is ctx, ended as soon as the server refuses the connection something: the answer to that never comes.
// Its cause is then the refusal. The function gives it back.
func (s *natsState) untilRefused(ctx context.Context) (context.Context, func()) {
	ctx, refuse := context.WithCancelCause(ctx)
	s.mu.Lock()
	s.asking[&refuse] = struct{}{}
	s.mu.Unlock()
	return ctx, func() {
		s.mu.Lock()
		delete(s.asking, &refuse)
		s.mu.Unlock()
		refuse(nil)
	}
}

// orRefusal is the refusal that ended ctx, in place of the error that followed from it.
func orRefusal(ctx context.Context, err error) error {
	refusal := context.Cause(ctx)
	if err == nil || !errors.Is(refusal, nats.ErrPermissionViolation) || errors.Is(err, nats.ErrPermissionViolation) {
		return err
	}
	return fmt.Errorf("the NATS server refuses it: %w", refusal)
}

// notConnected is an error that says to whom, and why where a server answered.
func (s *natsState) notConnected(url string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away == nil {
		return fmt.Errorf("not connected to %s", redactNATS(url))
	}
	return fmt.Errorf("not connected to %s: %w (with %s)", redactNATS(url), s.away, s.means)
}
