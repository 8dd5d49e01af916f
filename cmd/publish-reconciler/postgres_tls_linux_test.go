package main

import (
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"publish-reconciler/repo/pgtest"
)

// Postgres over TLS is pgx's matter: here that it is, as the README has it.
func TestPostgresOverTLS(t *testing.T) {
	t.Parallel()
	ours, theirs := newAuthority(t), newAuthority(t)
	own := ours.issue("postgres", "127.0.0.1", time.Now().Add(time.Hour))
	dir := openDir(t)
	cfg := pgtest.Config{Dir: filepath.Join(dir, "cluster")}
	postgres, err := pgtest.Start(t.Context(), cfg) // which makes the cluster, and its user known
	if err != nil {
		t.Fatal(err)
	}
	if err := postgres.Stop(); err != nil {
		t.Fatal(err)
	}
	cfg.Settings = map[string]string{
		"ssl": "on", "ssl_cert_file": owned(t, cfg.Dir, own.cert, filepath.Join(dir, "server.pem")), "ssl_key_file": owned(t, cfg.Dir, own.key, filepath.Join(dir, "server.key")),
	}
	free := listen(t)
	cfg.Port = free.Addr().(*net.TCPAddr).Port
	_ = free.Close()
	if postgres, err = pgtest.Start(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = postgres.Stop() })
	if err := postgres.CreateDatabase(t.Context(), "publish"); err != nil {
		t.Fatal(err)
	}
	with := func(ca string) string {
		u, err := url.Parse(postgres.URL("publish"))
		if err != nil {
			t.Fatal(err)
		}
		query := u.Query()
		query.Set("sslmode", "verify-full")
		query.Set("sslrootcert", ca)
		u.RawQuery = query.Encode()
		return u.String()
	}
	p := begin(t, "migrate", "--database-url="+with(ours.file))
	p.exits(exitOK, soon)
	p = begin(t, "migrate", "--database-url="+with(theirs.file))
	p.exits(exitFailure, soon)
	if text := p.stderr.String(); !strings.Contains(text, "unknown authority") {
		t.Errorf("it says %s", text)
	}
}

// owned copies a file to where whoever has a directory can read it, and nobody else, as Postgres wants it of a key.
func owned(t *testing.T, dir, from, to string) string {
	t.Helper()
	info, err := os.Stat(filepath.Join(dir, "pgdata"))
	if err != nil {
		t.Fatal(err)
	}
	put(t, to, contents(t, from))
	owner := info.Sys().(*syscall.Stat_t)
	if err := os.Chown(to, int(owner.Uid), int(owner.Gid)); err != nil {
		t.Fatal(err)
	}
	return to
}
