package pgtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// socketPort names the socket file when there is no TCP port; nothing listens on it.
	socketPort = 5432

	readyWithin = 30 * time.Second // Postgres needs 30 ms; crash recovery on a slow disk needs seconds
	stopGrace   = 5 * time.Second  // before each more forceful signal
	oldEndsIn   = 5 * time.Second  // how long a killed server's last processes may hold on to the cluster
)

// Server is a running Postgres. It is made by Start only; its methods may be called concurrently.
type Server struct {
	layout   layout
	port     int // 0: no TCP
	postgres *child
	stop     func() error
}

// Start starts a server and returns when it accepts connections and has the role publish. ctx bounds the
// start only; a running server ends by Stop. Every error is final, nothing is left running: among them are
// a Dir in use by another server, a cluster of another major version, a taken port, a directory that the
// user Postgres runs as cannot enter, and no programs. When Postgres itself refuses, the error has the last
// lines of its log.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	return start(ctx, cfg, usualPlaces())
}

func start(ctx context.Context, cfg Config, places []string) (_ *Server, err error) {
	if !supported {
		return nil, fmt.Errorf("start postgres: %w on this operating system", errors.ErrUnsupported)
	}
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if err := portFree(ctx, cfg.Port); err != nil {
		return nil, err
	}

	lay, err := claim(cfg)
	if err != nil {
		return nil, err
	}
	s := &Server{layout: lay, port: cfg.Port}
	s.stop = sync.OnceValue(func() error {
		var err error
		if s.postgres != nil {
			err = s.postgres.stop(stopGrace, cfg.Logger)
		}
		return errors.Join(err, s.layout.release())
	})
	defer func() {
		if err != nil {
			err = errors.Join(err, s.stop())
		}
	}()

	as, err := runAs(lay.pgdata())
	if err != nil {
		return nil, err
	}
	progs, err := choosePrograms(ctx, lay, as, places, cfg)
	if err != nil {
		return nil, err
	}
	if err := s.layout.prepare(ctx, progs, as, cfg.Durable); err != nil {
		return nil, err
	}
	if err := s.startPostgres(ctx, progs, as, cfg); err != nil {
		return nil, err
	}
	return s, nil
}

// startPostgres starts postgres and waits until it serves. A postmaster.pid from before means that a server
// was killed on this cluster. Its last processes may take a moment to end, and until then Postgres refuses,
// so only then an early end is tried again.
func (s *Server) startPostgres(ctx context.Context, progs programs, as *account, cfg Config) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyWithin, fmt.Errorf("not ready within %v", readyWithin))
	defer cancel()

	_, err := os.Stat(filepath.Join(s.layout.pgdata(), "postmaster.pid"))
	killed := err == nil
	for giveUp := time.Now().Add(oldEndsIn); ; {
		s.postgres, err = startChild(s.layout, as, progs.path("postgres"), s.args(cfg)...)
		if err != nil {
			return fmt.Errorf("start postgres: %w", err)
		}
		err = s.ready(ctx)
		if !errors.Is(err, errEnded) || !killed || time.Now().After(giveUp) {
			return err
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return fmt.Errorf("start postgres: %w", err)
		}
	}
}

func (s *Server) args(cfg Config) []string {
	settings := map[string]string{
		"timezone":        "UTC",
		"log_timezone":    "UTC",
		"shared_buffers":  "128MB",
		"max_connections": "200", // parallel tests and `dev` with several replicas have a pool each
	}
	if !cfg.Durable {
		settings["fsync"] = "off"
		settings["synchronous_commit"] = "off"
		settings["full_page_writes"] = "off"
		settings["max_wal_size"] = "128MB"              // the cluster is in memory
		settings["dynamic_shared_memory_type"] = "mmap" // in pgdata: a killed server leaves nothing outside
		settings["autovacuum"] = "off"                  // its workers hold up CREATE DATABASE from a template
	}
	maps.Copy(settings, cfg.Settings)
	settings["listen_addresses"] = ""
	if cfg.Port != 0 {
		settings["listen_addresses"] = "127.0.0.1"
	}
	settings["port"] = strconv.Itoa(s.socketPort())
	settings["unix_socket_directories"] = s.layout.socketDir
	settings["unix_socket_permissions"] = "0700"
	settings["hba_file"] = s.layout.hba()
	settings["logging_collector"] = "off" // our file is its standard error

	args := []string{"-D", s.layout.pgdata()}
	for name, value := range settings {
		args = append(args, "-c", name+"="+value)
	}
	return args
}

// errEnded marks a Postgres that ended before it served.
var errEnded = errors.New("postgres ended")

// ready polls a real connection, since a socket exists before Postgres serves it.
func (s *Server) ready(ctx context.Context) error {
	for {
		select {
		case <-s.postgres.ended:
			words, why := tail(s.layout.log()), s.postgres.err
			if strings.Contains(words, "Address already in use") { // somebody was quicker, or was just looking
				why = syscall.EADDRINUSE
			}
			return fmt.Errorf("start postgres in %s: %w (%w); its last words:\n%s", s.layout.dir, errEnded, why, words)
		default:
		}
		err := s.createRole(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("start postgres in %s: %w (%w); its last words:\n%s",
				s.layout.dir, context.Cause(ctx), err, tail(s.layout.log()))
		}
		_ = pause(ctx, 5*time.Millisecond) // the next round sees a ctx that has ended
	}
}

// pause waits for d, or returns why ctx has ended.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// Concurrent starts do not happen on one cluster, so looking first is enough.
const createRoleSQL = `DO $$ BEGIN
	IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'publish') THEN
		CREATE ROLE publish LOGIN NOSUPERUSER;
	END IF;
END $$`

func (s *Server) createRole(ctx context.Context) error {
	return s.asAdmin(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, createRoleSQL)
		return err
	})
}

// Stop ends the server in order: open transactions are rolled back (a fast shutdown). After 5 seconds it
// aborts Postgres (SIGQUIT), after 5 more it kills it. A temporary Dir is removed. Further calls wait for
// the first and return its error. A server that has ended by itself is no error.
func (s *Server) Stop() error { return s.stop() }

// Exited is closed when Postgres has ended, by Stop or by itself.
func (s *Server) Exited() <-chan struct{} { return s.postgres.ended }

// AdminURL is for the superuser postgres, over the unix socket; TCP never admits it. The database need not
// exist yet.
func (s *Server) AdminURL(database string) string { return s.socketURL("postgres", database) }

// URL is for the role publish, which is no superuser and owns what CreateDatabase makes: over TCP when the
// server has a port, else over the unix socket. The database need not exist yet.
func (s *Server) URL(database string) string {
	if s.port == 0 {
		return s.socketURL("publish", database)
	}
	u := url.URL{
		Scheme: "postgres", User: url.User("publish"),
		Host:     net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)),
		Path:     "/" + database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

func (s *Server) socketURL(role, database string) string {
	query := url.Values{
		"host":    {s.layout.socketDir},
		"port":    {strconv.Itoa(s.socketPort())},
		"user":    {role},
		"sslmode": {"disable"},
	}
	// A space in a path must be %20: pgx, like libpq, takes a plus sign for itself.
	encoded := strings.ReplaceAll(query.Encode(), "+", "%20")
	u := url.URL{Scheme: "postgres", Path: "/" + database, RawQuery: encoded}
	return u.String()
}

func (s *Server) socketPort() int {
	if s.port != 0 {
		return s.port
	}
	return socketPort
}

// CreateDatabase makes a database owned by the role publish. One that exists already is left as it is, and
// is no error.
func (s *Server) CreateDatabase(ctx context.Context, name string) error {
	err := s.asAdmin(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `CREATE DATABASE `+pgx.Identifier{name}.Sanitize()+` OWNER publish`)
		return err
	})
	// Two concurrent calls for one name: the loser sees the unique index of pg_database.
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && (pgErr.Code == "42P04" || pgErr.Code == "23505") {
		return nil
	}
	if err != nil {
		return fmt.Errorf("create database %s: %w", name, err)
	}
	return nil
}

// asAdmin gives do a connection of its own to the database postgres, as the superuser.
func (s *Server) asAdmin(ctx context.Context, do func(*pgx.Conn) error) error {
	cfg, err := pgx.ParseConfig(s.AdminURL("postgres"))
	if err != nil {
		return fmt.Errorf("parse own url: %w", err)
	}
	// What is left of the caller's PG* variables is for another server.
	cfg.RuntimeParams = nil
	cfg.ValidateConnect = nil
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // what it was for is done, or has its own error
	return do(conn)
}

// portFree gives a taken port a plain sentence; Postgres's own is in its log only.
func portFree(ctx context.Context, port int) error {
	if port == 0 {
		return nil
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("port %d on 127.0.0.1 is taken by another program: stop that or choose another port (%w)", port, syscall.EADDRINUSE)
	}
	if err != nil {
		return fmt.Errorf("try port %d: %w", port, err)
	}
	return l.Close()
}
