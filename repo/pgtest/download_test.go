package pgtest_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"

	"publish-reconciler/repo/pgtest"
)

// repository serves a jar and its checksum under whatever name.
type repository struct {
	*httptest.Server
	jar       []byte
	checksum  string // empty: none kept
	downloads atomic.Int64
}

func newRepository(t *testing.T) *repository {
	t.Helper()
	r := &repository{jar: jar(t)}
	r.checksum = fmt.Sprintf("%x", sha256.Sum256(r.jar))
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		switch {
		case strings.HasSuffix(req.URL.Path, ".jar"):
			r.downloads.Add(1)
			_, _ = w.Write(r.jar)
		case r.checksum == "":
			http.NotFound(w, req)
		default:
			_, _ = w.Write([]byte(r.checksum))
		}
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *repository) wantDownloads(t *testing.T, want int64) {
	t.Helper()
	if got := r.downloads.Load(); got != want {
		t.Errorf("%d downloads, want %d", got, want)
	}
}

// startDownloaded starts a server where no programs are installed.
func startDownloaded(t *testing.T, cfg pgtest.Config) {
	t.Helper()
	s, err := pgtest.StartIn(t.Context(), cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	stopAfter(t, s)
	query[int](t, s.URL("postgres"), `SELECT 1`)
}

func TestDownloadOnce(t *testing.T) {
	t.Parallel()
	r := newRepository(t)
	var log bytes.Buffer
	cfg := pgtest.Config{
		Logger:   slog.New(slog.NewTextHandler(&log, nil)),
		Download: pgtest.Download{URL: r.URL, CacheDir: filepath.Join(newDir(t), "cache")},
	}
	startDownloaded(t, cfg)
	r.wantDownloads(t, 1)
	if !strings.Contains(log.String(), `msg="downloading postgres"`) {
		t.Errorf("nothing told of the download: %q", log.String())
	}

	r.Close() // the second start needs no repository
	log.Reset()
	startDownloaded(t, cfg)
	if log.Len() > 0 {
		t.Errorf("the second start logs %q", log.String())
	}
	if left, _ := filepath.Glob(filepath.Join(cfg.Download.CacheDir, "postgres", "unfinished-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestDownloadWithoutChecksum(t *testing.T) {
	t.Parallel()
	r := newRepository(t)
	r.checksum = ""
	startDownloaded(t, pgtest.Config{Download: pgtest.Download{URL: r.URL, CacheDir: newDir(t)}})
}

func TestDownloadByTwoAtOnce(t *testing.T) {
	t.Parallel()
	r := newRepository(t)
	cache := newDir(t)
	var group errgroup.Group
	for range 2 {
		dir := newDir(t)
		group.Go(func() error {
			s, err := pgtest.StartIn(t.Context(), pgtest.Config{Dir: dir, Download: pgtest.Download{URL: r.URL, CacheDir: cache}}, nil)
			if err != nil {
				return err
			}
			return s.Stop()
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	r.wantDownloads(t, 1)
}

func TestDamagedCache(t *testing.T) {
	t.Parallel()
	tests := map[string]func(t *testing.T, bin string){
		"a program is missing": func(t *testing.T, bin string) {
			t.Helper()
			if err := os.Remove(filepath.Join(bin, "initdb")); err != nil {
				t.Fatal(err)
			}
		},
		"a program does not run": func(t *testing.T, bin string) {
			t.Helper()
			write(t, filepath.Join(bin, "postgres"), "\x7fELF", 0o755)
		},
		"an unpacking was killed": func(t *testing.T, bin string) {
			t.Helper()
			if err := os.Rename(filepath.Dir(bin), filepath.Join(filepath.Dir(filepath.Dir(bin)), "unfinished-1")); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, damage := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRepository(t)
			cfg := pgtest.Config{Download: pgtest.Download{URL: r.URL, CacheDir: newDir(t)}}
			startDownloaded(t, cfg)
			bin, _ := filepath.Glob(filepath.Join(cfg.Download.CacheDir, "postgres", "*", "bin"))
			if len(bin) != 1 {
				t.Fatalf("the cache holds %v", bin)
			}
			damage(t, bin[0])

			startDownloaded(t, cfg)
			r.wantDownloads(t, 2)
			if left, _ := filepath.Glob(filepath.Join(cfg.Download.CacheDir, "postgres", "unfinished-*")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestDownloadFails(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(*repository)
		cause  string
	}{
		"unreachable":    {func(r *repository) { r.Close() }, "connection refused"},
		"not there":      {func(r *repository) { r.Config.Handler = http.NotFoundHandler() }, "404 Not Found"},
		"wrong checksum": {func(r *repository) { r.checksum = strings.Repeat("0", 64) }, "checksums do not match"},
		"no jar":         {func(r *repository) { r.jar, r.checksum = []byte("hello"), "" }, "not a valid zip file"},
		"cut short": {func(r *repository) {
			r.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", "1000")
				_, _ = w.Write([]byte("half"))
			})
		}, "unexpected EOF"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRepository(t)
			tt.change(r)
			_, err := pgtest.StartIn(t.Context(), pgtest.Config{
				Download: pgtest.Download{URL: r.URL, CacheDir: newDir(t)},
			}, nil)
			wantError(t, err, "no Postgres programs found (looked in PATH, /usr/lib/postgresql/*/bin, ",
				"downloading them failed (", tt.cause, "install PostgreSQL 14 or later")
		})
	}
}

func TestDownloadThatHangsIsCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	hanging := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		cancel()
		<-req.Context().Done() // no answer; this wait ends when the client has gone
	}))
	defer hanging.Close()
	_, err := pgtest.StartIn(ctx, pgtest.Config{Download: pgtest.Download{URL: hanging.URL, CacheDir: newDir(t)}}, nil)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestCacheThatTheOtherUserCannotEnter(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		return // there is no other user; TestUnenterable has the rule
	}
	r := newRepository(t)
	closed := newDir(t)
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := pgtest.StartIn(t.Context(), pgtest.Config{Download: pgtest.Download{URL: r.URL, CacheDir: closed}}, nil)
	wantError(t, err, "directory "+closed+" cannot be entered by the user ")
	r.wantDownloads(t, 0)
}

func TestDefaultRepositoryIsKnown(t *testing.T) {
	t.Parallel()
	if got := pgtest.DefaultRepository(); !strings.HasPrefix(got, "https://") {
		t.Errorf("the library's default is %q: does it keep it elsewhere now?", got)
	}
}
