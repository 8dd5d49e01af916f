package pgtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"time"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
)

// downloadVersion is the library's default, and the newest it knows.
const downloadVersion = embeddedpostgres.V18

const unfinishedPrefix = "unfinished-"

// download returns the programs in the cache, which it fills when they are not there or do not run. ctx ends
// it at once while it waits for the network or for another process, and after the 2 seconds or so that
// unpacking takes.
func download(ctx context.Context, lay layout, as *account, cfg Config) (programs, error) {
	dir, err := cfg.Download.cacheDir()
	if err != nil {
		return "", err
	}
	// Better now than after the download.
	for _, needed := range []string{lay.dir, dir} {
		if closed := as.unenterable(needed); closed != "" {
			return "", noEntry(closed, as)
		}
	}
	lock, err := awaitLock(ctx, dir)
	if err != nil {
		return "", err
	}
	defer lock.Close() //nolint:errcheck // a directory, of which nothing was written

	p := programs(filepath.Join(dir, string(downloadVersion), "bin"))
	if len(findPrograms([]string{string(p)})) > 0 {
		if _, err := p.version(ctx, lay, as); err == nil {
			return p, nil
		}
	}
	left, _ := filepath.Glob(filepath.Join(dir, unfinishedPrefix+"*")) // by a process that was killed
	for _, path := range left {
		if err := os.RemoveAll(path); err != nil {
			return "", fmt.Errorf("clear cache: %w", err)
		}
	}
	return p, fetch(ctx, dir, cfg.Download.URL, cfg.Logger)
}

// cacheDir makes the directory for everything downloaded. It is one below CacheDir, since it is locked for a
// download and CacheDir may be a server's Dir, which is locked too.
func (d Download) cacheDir() (string, error) {
	parent := d.CacheDir
	if parent == "" {
		cache, err := "/var/cache", error(nil)
		if os.Geteuid() != 0 {
			cache, err = os.UserCacheDir()
		}
		if err != nil {
			return "", fmt.Errorf("find cache directory: %w", err)
		}
		parent = filepath.Join(cache, "publish-reconciler")
	}
	dir, err := filepath.Abs(filepath.Join(parent, "postgres"))
	if err != nil {
		return "", fmt.Errorf("find cache directory: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make cache directory: %w", err)
	}
	return dir, nil
}

// awaitLock waits while another process downloads.
func awaitLock(ctx context.Context, dir string) (*os.File, error) {
	for {
		lock, err := lockDir(dir)
		if !errors.Is(err, errLocked) {
			return lock, err
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return nil, fmt.Errorf("wait for another process that downloads Postgres: %w", err)
		}
	}
}

// fetch downloads the archive and unpacks it into a directory below dir that is named after the version. The
// programs appear there whole or not at all; the archive is not kept.
//
// The library has no call for that: its Start downloads to CachePath, unpacks to BinariesPath, makes
// RuntimePath, clears DataPath, and then runs programs, which does not work as root. So it gets a DataPath
// that os.RemoveAll is documented to refuse, one that ends in a dot. It stops there, with an error, and the
// RuntimePath it made says that everything before went well. It leaves an empty log file in os.TempDir.
func fetch(ctx context.Context, dir, repository string, logger *slog.Logger) error {
	unfinished, err := os.MkdirTemp(dir, unfinishedPrefix)
	if err != nil {
		return fmt.Errorf("make directory to unpack in: %w", err)
	}
	defer os.RemoveAll(unfinished) //nolint:errcheck // the next download tries again

	if repository == "" {
		repository = defaultRepository()
	}
	r, err := startRelay(ctx, repository, logger)
	if err != nil {
		return err
	}
	unpacked, reached := filepath.Join(unfinished, "unpacked"), filepath.Join(unfinished, "reached")
	err = embeddedpostgres.NewDatabase(embeddedpostgres.DefaultConfig().
		Version(downloadVersion).
		Port(0). // it tries whether it could listen
		BinaryRepositoryURL(r.url()).
		CachePath(unfinished).
		BinariesPath(unpacked).
		RuntimePath(reached).
		DataPath(reached + "/.").
		Logger(io.Discard)).
		Start()
	cause := r.stop()
	if _, statErr := os.Stat(reached); statErr != nil {
		// The relay's reason comes first: the library only tells that it could not connect.
		return cmp.Or(context.Cause(ctx), cause, err)
	}

	if len(findPrograms([]string{filepath.Join(unpacked, "bin")})) == 0 {
		return errors.New("the archive holds no initdb and postgres")
	}
	if err := letEveryoneRun(unpacked); err != nil {
		return fmt.Errorf("unpack programs: %w", err)
	}
	final := filepath.Join(dir, string(downloadVersion))
	if err := os.RemoveAll(final); err != nil {
		return fmt.Errorf("unpack programs: %w", err)
	}
	if err := os.Rename(unpacked, final); err != nil {
		return fmt.Errorf("unpack programs: %w", err)
	}
	return nil
}

// defaultRepository is the library's own, which it shows in no other way.
func defaultRepository() string {
	return reflect.ValueOf(embeddedpostgres.DefaultConfig()).FieldByName("binaryRepositoryURL").String()
}

// letEveryoneRun gives others what the owner has, except writing: the umask may have taken it away, and as
// root the programs run as another user.
func letEveryoneRun(root string) error {
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Type()&fs.ModeSymlink != 0 {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		readOrRun := info.Mode().Perm() & 0o500
		return os.Chmod(path, info.Mode().Perm()|readOrRun>>3|readOrRun>>6)
	})
}
