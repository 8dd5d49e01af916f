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
// ever. Its state is logged when it changes.
func connectNATS(c config, logger *slog.Logger) (*nats.Conn, error) {
	refused := false // nats.go calls its handlers one at a time
	options := []nats.Option{
		nats.Name("publish-reconciler"),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(), // for ever means also while the server knows us not
		nats.ReconnectWait(500 * time.Millisecond),
		// A peer that vanished without a word is noticed after two of these, not after four minutes.
		nats.PingInterval(10 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.ConnectHandler(func(nc *nats.Conn) { logger.Info("connected to nats", "url", redactNATS(nc.ConnectedUrl())) }),
		nats.ReconnectHandler(func(nc *nats.Conn) { logger.Info("connected to nats again", "url", redactNATS(nc.ConnectedUrl())) }),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) {
			level := slog.LevelDebug // that it waits is said elsewhere
			if errors.Is(err, nats.ErrAuthorization) && !refused {
				refused, level = true, slog.LevelWarn
			}
			logger.Log(context.Background(), level, "no connection to nats", "err", err)
		}),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				logger.Warn("connection to nats lost", "err", err)
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { logger.Warn("nats", "err", err) }),
	}
	if c.natsCreds != "" {
		options = append(options, nats.UserCredentials(c.natsCreds))
	}
	nc, err := nats.Connect(c.natsURL, options...)
	if err != nil {
		return nil, fmt.Errorf("connect to nats at %s: %w", redactNATS(c.natsURL), err)
	}
	return nc, nil
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
