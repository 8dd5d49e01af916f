package main

import (
	"context"
	"errors"
	"net"
	"strconv"
	"syscall"

	"publish-reconciler/repo"
	"publish-reconciler/repo/pgtest"
	"publish-reconciler/streams/streamstest"
)

// The usual ports; where one is taken, dev takes a free one.
const (
	usualNATSPort     = 4222
	usualPostgresPort = 5432
	usualHTTPPort     = 8080
)

// errPostgresEnded ends what runs against the private Postgres: without it there is nothing to do.
var errPostgresEnded = errors.New("the private postgres ended")

// embedded is a NATS server and a Postgres of the program's own, with the schema in it.
type embedded struct {
	broker   *streamstest.Server
	postgres *pgtest.Server
}

const embeddedDatabase = "publish"

// startEmbedded starts both. A port that is taken gives way to a free one; zero is what each of them makes of it.
func startEmbedded(ctx context.Context, natsConfig streamstest.Config, postgresConfig pgtest.Config) (_ *embedded, err error) {
	e := &embedded{}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.stop())
		}
	}()
	// Postgres goes first: its lock keeps a second one off the data directory.
	e.postgres, err = onPort(ctx, postgresConfig.Port, func(port int) (*pgtest.Server, error) {
		postgresConfig.Port = port
		return pgtest.Start(ctx, postgresConfig)
	})
	if err != nil {
		return nil, err
	}
	e.broker, err = onPort(ctx, natsConfig.Port, func(port int) (*streamstest.Server, error) {
		natsConfig.Port = port
		return streamstest.Start(ctx, natsConfig)
	})
	if err != nil {
		return nil, err
	}
	if err := e.postgres.CreateDatabase(ctx, embeddedDatabase); err != nil {
		return nil, err
	}
	_, err = repo.Migrate(ctx, e.databaseURL())
	return e, err
}

func (e *embedded) natsURL() string     { return e.broker.URL() }
func (e *embedded) databaseURL() string { return e.postgres.URL(embeddedDatabase) }

// while is ctx, ended by errPostgresEnded too.
func (e *embedded) while(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-e.postgres.Exited():
			cancel(errPostgresEnded)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// stop stops what was started.
func (e *embedded) stop() (err error) {
	if e.broker != nil {
		e.broker.Stop()
	}
	if e.postgres != nil {
		err = e.postgres.Stop()
	}
	return err
}

// onPort starts something on its usual port, or on a free one. Where another dev, which starts at the same
// time, was quicker, or was just looking, it tries again.
func onPort[T any](ctx context.Context, usual int, start func(port int) (T, error)) (started T, err error) {
	if usual == 0 {
		return start(0)
	}
	for range 3 {
		port := usualOrFree(ctx, usual)
		started, err = start(port)
		if !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	return started, err
}

// usualOrFree is the usual port on 127.0.0.1, or a free one where that is taken.
func usualOrFree(ctx context.Context, usual int) int {
	for _, port := range []int{usual, 0} {
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		port = listener.Addr().(*net.TCPAddr).Port
		_ = listener.Close()
		return port
	}
	return 0 // no port at all is free; whoever listens will tell
}
