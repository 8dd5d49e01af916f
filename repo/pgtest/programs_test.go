package pgtest_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"publish-reconciler/repo/pgtest"
)

// fake writes programs that can only tell their version.
func fake(t *testing.T, dir, version string) {
	t.Helper()
	for _, name := range []string{"initdb", "postgres"} {
		write(t, filepath.Join(dir, name), fmt.Sprintf("#!/bin/sh\necho '%s (PostgreSQL) %s'\n", name, version), 0o755)
	}
}

func TestFindPrograms(t *testing.T) {
	t.Parallel()
	root := newDir(t)
	at := func(parts ...string) string { return filepath.Join(append([]string{root}, parts...)...) }
	fake(t, at("lib", "9.6", "bin"), "9.6.24")
	fake(t, at("lib", "15", "bin"), "15.18")
	fake(t, at("other", "bin"), "17.1")
	write(t, at("half", "initdb"), "", 0o755)
	write(t, at("plain", "initdb"), "", 0o644)
	write(t, at("plain", "postgres"), "", 0o644)
	if err := os.Mkdir(at("links"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(at("other", "bin", "initdb"), at("links", "initdb")); err != nil {
		t.Fatal(err)
	}

	tests := map[string]struct{ places, want []string }{
		"nothing":                    {[]string{at("nowhere"), at("*", "*", "nowhere")}, nil},
		"highest number first":       {[]string{at("lib", "*", "bin")}, []string{at("lib", "15", "bin"), at("lib", "9.6", "bin")}},
		"order of places":            {[]string{at("other", "bin"), at("lib", "15", "bin")}, []string{at("other", "bin"), at("lib", "15", "bin")}},
		"behind a link":              {[]string{at("links")}, []string{at("other", "bin")}},
		"once":                       {[]string{at("links"), at("other", "bin")}, []string{at("other", "bin")}},
		"initdb alone does not do":   {[]string{at("half")}, nil},
		"nor what cannot be run":     {[]string{at("plain")}, nil},
		"a bad pattern is no reason": {[]string{"[", at("other", "bin")}, []string{at("other", "bin")}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, pgtest.FindPrograms(tt.places...)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestProgramsOfTheClustersVersion(t *testing.T) {
	t.Parallel()
	root := newDir(t)
	for _, v := range []string{"18beta1", "15.18", "9.6.24"} {
		fake(t, filepath.Join(root, v, "bin"), v+" (Debian)")
	}
	tests := map[string]struct{ cluster, want string }{
		"no cluster": {"", "18beta1"},
		"newest":     {"18", "18beta1"},
		"older":      {"15", "15.18"},
		"two parts":  {"9.6", "9.6.24"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := newDir(t)
			if tt.cluster != "" {
				write(t, filepath.Join(dir, "pgdata", "PG_VERSION"), tt.cluster+"\n", 0o644)
			}
			got, err := pgtest.Choose(t.Context(), dir, filepath.Join(root, "*", "bin"))
			if err != nil {
				t.Fatal(err)
			}
			if want := filepath.Join(root, tt.want, "bin"); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

func TestPATHComesFirst(t *testing.T) {
	root := filepath.Join(t.TempDir(), "od[d] *")
	fake(t, root, "17.1")
	t.Setenv("PATH", "relative:"+root+":/usr/bin")
	got := pgtest.FindPrograms(pgtest.UsualPlaces()...)
	if len(got) == 0 || got[0] != root {
		t.Errorf("got %v, want %s first", got, root)
	}
}

func TestUnenterable(t *testing.T) {
	t.Parallel()
	root := newDir(t)
	closed := filepath.Join(root, "closed")
	inner := filepath.Join(closed, "inner")
	if err := os.MkdirAll(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	const stranger = 54321
	if got := pgtest.Unenterable(root, stranger, stranger); got != "" {
		t.Errorf("%s is said to be closed", got)
	}
	if got := pgtest.Unenterable(inner, stranger, stranger); got != closed {
		t.Errorf("got %q, want %s", got, closed)
	}
	if got := pgtest.Unenterable(inner, os.Geteuid(), stranger); got != "" {
		t.Errorf("%s is said to be closed to its owner", got)
	}
	if os.Geteuid() != 0 {
		return // then Postgres runs as ourselves, and the rest cannot happen
	}
	_, err := pgtest.Start(t.Context(), pgtest.Config{Dir: inner})
	wantError(t, err, "directory "+closed+" cannot be entered by the user ")
}
