package pgtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// programs is a directory that holds both initdb and postgres.
type programs string

func (p programs) path(name string) string { return filepath.Join(string(p), name) }

// usualPlaces are patterns for directories with Postgres programs, the best first.
func usualPlaces() []string {
	var places []string
	literal := strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`)
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		if filepath.IsAbs(dir) { // a relative entry would run what lies in the current directory
			places = append(places, literal.Replace(dir))
		}
	}
	return append(places, placesOutsidePath...)
}

var placesOutsidePath = []string{
	"/usr/lib/postgresql/*/bin", // Debian, Ubuntu
	"/usr/pgsql-*/bin",          // RHEL, Fedora
	"/opt/homebrew/opt/postgresql@*/bin",
	"/usr/local/opt/postgresql@*/bin",
	"/Applications/Postgres.app/Contents/Versions/*/bin",
}

// findPrograms returns every directory that holds Postgres programs, in the order of places and within one
// pattern the highest version first. None: nil.
func findPrograms(places []string) []programs {
	var found []programs
	for _, place := range places {
		dirs, _ := filepath.Glob(place) // the only error is a bad pattern, which finds nothing
		slices.SortFunc(dirs, func(a, b string) int { return compareVersions(b, a) })
		for _, dir := range dirs {
			// Debian and others link single programs into PATH; their neighbours lie behind the link.
			initdb, err := filepath.EvalSymlinks(filepath.Join(dir, "initdb"))
			if err != nil {
				continue
			}
			p := programs(filepath.Dir(initdb))
			if executable(p.path("initdb")) && executable(p.path("postgres")) && !slices.Contains(found, p) {
				found = append(found, p)
			}
		}
	}
	return found
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

var digits = regexp.MustCompile(`\d+`)

// compareVersions orders two paths by the numbers in them, so that 15 comes after 9.6.
func compareVersions(a, b string) int {
	return slices.CompareFunc(digits.FindAllString(a, -1), digits.FindAllString(b, -1), func(x, y string) int {
		m, _ := strconv.Atoi(x)
		n, _ := strconv.Atoi(y)
		return cmp.Compare(m, n)
	})
}

// choosePrograms returns the first programs found, or for an existing cluster the first of its version.
// It downloads them when there are none.
func choosePrograms(ctx context.Context, lay layout, as *account, places []string, cfg Config) (programs, error) {
	found := findPrograms(places)
	if len(found) == 0 {
		p, err := download(ctx, lay, as, cfg)
		if err != nil {
			return "", notFound(err)
		}
		found = []programs{p}
	}

	want, err := lay.version()
	if err != nil {
		return "", err
	}
	var have []string
	for _, p := range found {
		// This also tries, before anything is written, that the user may enter both directories.
		version, err := p.version(ctx, lay, as)
		if err != nil {
			return "", err
		}
		if want == "" || want == version {
			return p, nil
		}
		have = append(have, version)
	}
	return "", fmt.Errorf("%s was made by Postgres %s and the programs here are version %s: install Postgres %[2]s, or choose another directory",
		lay.pgdata(), want, strings.Join(have, " and "))
}

func notFound(cause error) error {
	return fmt.Errorf("no Postgres programs found (looked in PATH, %s) and downloading them failed (%w): install PostgreSQL 14 or later, e.g. %q or %q",
		strings.Join(placesOutsidePath, ", "), cause, "apt-get install postgresql", "brew install postgresql@17")
}

// `postgres (PostgreSQL) 15.18 (Debian …)`, `… 9.6.24`, `… 18beta1`.
var versionLine = regexp.MustCompile(`\(PostgreSQL\) (9\.\d+|\d+)`)

// version is the major version as the file PG_VERSION of a cluster spells it: "15", "9.6".
func (p programs) version(ctx context.Context, lay layout, as *account) (string, error) {
	out, err := command(ctx, lay, as, p.path("postgres"), "--version").Output()
	if errors.Is(err, fs.ErrPermission) {
		for _, path := range []string{lay.dir, string(p)} {
			if dir := as.unenterable(path); dir != "" {
				return "", noEntry(dir, as)
			}
		}
	}
	if err != nil {
		return "", fmt.Errorf("run %s --version%s: %w", p.path("postgres"), as, err)
	}
	m := versionLine.FindSubmatch(out)
	if m == nil {
		return "", fmt.Errorf("run %s --version: unknown answer %q", p.path("postgres"), out)
	}
	return string(m[1]), nil
}
