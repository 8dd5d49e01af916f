package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// connectNATS returns a connection that comes about in its own time, now or later, and comes back for
// ever. Its state is logged when it changes. More options may be given.
func connectNATS(access natsAccess, logger *slog.Logger, more ...nats.Option) (*nats.Conn, *natsState, error) {
	options, err := access.options()
	if err != nil {
		return nil, nil, err
	}
	options = append(options,
		nats.Name("publish-reconciler"),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(), // for ever means also while the server knows us not
		nats.ReconnectWait(500*time.Millisecond),
		// A peer that vanished without a word is noticed after two of these, not after four minutes.
		nats.PingInterval(10*time.Second),
		nats.MaxPingsOutstanding(2),
	)
	state := newNATSState(access, logger)
	options = append(append(options, state.options()...), more...)
	nc, err := nats.Connect(access.NATSURL, options...)
	if err != nil {
		return nil, nil, fmt.Errorf("connect to nats at %s with %s: %w", redactNATS(access.NATSURL), access.means(), err)
	}
	return nc, state, nil
}

// redactNATS leaves passwords and tokens out.
func redactNATS(urls string) string {
	servers := strings.Split(urls, ",")
	for i, server := range servers {
		u, err := url.Parse(strings.TrimSpace(server))
		if err != nil || u.Host == "" || passwordBeyondHost(server) {
			servers[i] = "(not a URL)" // and so it may hold anything
			continue
		}
		if _, hasPassword := u.User.Password(); u.User != nil && !hasPassword {
			u.User = url.User("xxxxx") // a token takes the place of the user
		}
		servers[i] = u.Redacted()
	}
	return strings.Join(servers, ",")
}

// passwordBeyondHost tells whether a URL has an @ after its host: then a password with an unescaped /, ?
// or # was read as host and path, and would be shown as such.
func passwordBeyondHost(u string) bool {
	_, u, _ = strings.Cut(u, "://")
	end := strings.IndexAny(u, "/?#")
	if end < 0 {
		return false
	}
	path, query, _ := strings.Cut(u[end:], "?")
	key, _, _ := strings.Cut(query, "=")
	return strings.Contains(path+key, "@")
}

// await repeats an attempt until it succeeds, says that it is in vain, or ctx ends; then it returns its
// last error. It logs once that it waits.
func await(ctx context.Context, logger *slog.Logger, what string, attempt func(context.Context) error) error {
	waiting := false
	for {
		err := attempt(ctx)
		var vain vainError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &vain):
			return vain.error
		case ctx.Err() != nil:
			return err
		}
		if !waiting {
			waiting = true
			logger.WarnContext(ctx, "waiting", "for", what, "err", err)
		}
		select {
		case <-time.After(500 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// vainError tells await not to try again.
type vainError struct{ error }
