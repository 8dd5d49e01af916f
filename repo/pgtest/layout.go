package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	// tempPrefix names temporary directories, so that those of killed processes can be found again.
	tempPrefix = "publish-reconciler-pg-"

	memoryDir  = "/dev/shm"
	memoryRoom = 512 << 20 // a cluster has 40 MB, its log up to 128 MB; containers often get 64 MB in all
)

// layout is where the parts of one server lie. See the package comment.
type layout struct {
	dir       string
	temporary bool
	socketDir string
	socketTmp bool     // socketDir lies outside dir
	lock      *os.File // dir itself, locked
}

func (l layout) pgdata() string { return filepath.Join(l.dir, "pgdata") }
func (l layout) hba() string    { return filepath.Join(l.dir, "pg_hba.conf") }
func (l layout) log() string    { return filepath.Join(l.dir, "postgres.log") }

// claim makes the directory when needed and locks it.
func claim(cfg Config) (layout, error) {
	if cfg.Dir == "" {
		return claimTemporary(cfg.Durable)
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return layout{}, fmt.Errorf("find directory of postgres: %w", err)
	}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		if err := makeDir(dir); err != nil {
			return layout{}, err
		}
	}
	lock, err := lockDir(dir)
	if errors.Is(err, errLocked) {
		return layout{}, fmt.Errorf("directory %s is in use by another Postgres of this program: stop that or choose another directory", dir)
	}
	if err != nil {
		return layout{}, fmt.Errorf("lock directory of postgres: %w", err)
	}
	return layout{dir: dir, lock: lock}, nil
}

// makeDir makes dir enterable by the user that Postgres runs as when we are root, and else by nobody else.
func makeDir(dir string) error {
	mode := os.FileMode(0o700)
	if os.Geteuid() == 0 {
		mode = 0o755
	}
	if err := os.MkdirAll(dir, mode); err != nil {
		return fmt.Errorf("make directory of postgres: %w", err)
	}
	if err := os.Chmod(dir, mode); err != nil { // whatever the umask
		return fmt.Errorf("make directory of postgres: %w", err)
	}
	return nil
}

func claimTemporary(durable bool) (layout, error) {
	parent := os.TempDir()
	if !durable && freeBytes(memoryDir) >= memoryRoom {
		parent = memoryDir
	}
	sweep(parent)
	dir, err := os.MkdirTemp(parent, tempPrefix)
	if err != nil {
		return layout{}, fmt.Errorf("make directory of postgres: %w", err)
	}
	lock, err := lockDir(dir)
	if err == nil {
		err = makeDir(dir)
	}
	lay := layout{dir: dir, temporary: true, lock: lock}
	if err != nil {
		return layout{}, errors.Join(err, lay.release())
	}
	return lay, nil
}

// sweep removes what killed processes left: temporary directories that nobody holds a lock on. A directory
// younger than a minute may be one whose maker has not locked it yet.
func sweep(parent string) {
	left, _ := filepath.Glob(filepath.Join(parent, tempPrefix+"*"))
	for _, dir := range left {
		info, err := os.Lstat(dir)
		if err != nil || !info.IsDir() || time.Since(info.ModTime()) < time.Minute {
			continue
		}
		if uid, _ := owner(info); uid != os.Geteuid() {
			continue
		}
		if lock, err := lockDir(dir); err == nil {
			_ = os.RemoveAll(dir) // else the next start tries again
			_ = lock.Close()
		}
	}
}

// release undoes claim and removes what is temporary.
func (l layout) release() error {
	var faults []error
	if l.socketTmp {
		faults = append(faults, os.RemoveAll(l.socketDir))
	}
	if l.temporary {
		faults = append(faults, os.RemoveAll(l.dir))
	}
	if l.lock != nil {
		faults = append(faults, l.lock.Close())
	}
	return errors.Join(faults...)
}

// version is the major version of the cluster. Empty: there is none yet.
func (l layout) version() (string, error) {
	text, err := os.ReadFile(filepath.Join(l.pgdata(), "PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read version of cluster: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// hbaText never admits the superuser over TCP: every user of the machine can reach a loopback port, but
// only we and root can enter the directory of the socket. For the same reason publish is no superuser.
const hbaText = `local all all trust
host all publish 127.0.0.1/32 trust
`

// prepare makes everything in the directory that postgres needs.
func (l *layout) prepare(ctx context.Context, progs programs, as *account, durable bool) error {
	version, err := l.version()
	if err != nil {
		return err
	}
	if version == "" {
		if err := l.initdb(ctx, progs, as, durable); err != nil {
			return err
		}
	}
	if err := l.writeHBA(); err != nil {
		return fmt.Errorf("write pg_hba.conf: %w", err)
	}
	if err := l.makeSocketDir(as); err != nil {
		return fmt.Errorf("make directory of socket: %w", err)
	}
	return nil
}

// initdb makes the cluster beside its place and moves it there when it is whole, so that a start that is
// killed halfway leaves no half cluster for the next.
func (l layout) initdb(ctx context.Context, progs programs, as *account, durable bool) error {
	unfinished := l.pgdata() + ".new"
	if err := os.RemoveAll(unfinished); err != nil {
		return fmt.Errorf("make cluster: %w", err)
	}
	if err := os.Mkdir(unfinished, 0o700); err != nil {
		return fmt.Errorf("make cluster: %w", err)
	}
	if err := as.own(unfinished); err != nil {
		return fmt.Errorf("make cluster: %w", err)
	}
	args := []string{"-D", unfinished, "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"}
	if !durable {
		args = append(args, "--no-sync") // 0.36 s instead of 0.5 s
	}
	c, err := startChild(l, as, progs.path("initdb"), args...)
	if err != nil {
		return fmt.Errorf("make cluster: %w", err)
	}
	select {
	case <-c.ended:
	case <-ctx.Done():
		killGroup(c.process.Pid)
		<-c.ended
		return fmt.Errorf("make cluster: %w", context.Cause(ctx))
	}
	if !c.ok {
		return fmt.Errorf("make cluster in %s: initdb ended (%w); its last words:\n%s", l.dir, c.err, tail(l.log()))
	}
	if err := os.Rename(unfinished, l.pgdata()); err != nil {
		return fmt.Errorf("make cluster: %w", err)
	}
	return nil
}

func (l layout) writeHBA() error {
	f, err := create(l.hba(), 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(hbaText)
	return errors.Join(err, f.Chmod(0o644), f.Close())
}

// makeSocketDir makes the directory of the socket anew: a killed server leaves its socket there.
func (l *layout) makeSocketDir(as *account) error {
	dir := filepath.Join(l.dir, "socket")
	if !fitForSocket(dir) {
		parent := os.TempDir()
		if !fitForSocket(filepath.Join(parent, tempPrefix+"socket-0000000000")) {
			parent = "/tmp"
		}
		short, err := os.MkdirTemp(parent, tempPrefix+"socket-")
		if err != nil {
			return err
		}
		l.socketDir, l.socketTmp = short, true
		return as.own(short)
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	l.socketDir = dir
	return as.own(dir)
}

// fitForSocket: the operating system limits a socket's path, and both Postgres's setting and a URL's host
// are lists with commas.
func fitForSocket(dir string) bool {
	return len(filepath.Join(dir, ".s.PGSQL.65535")) <= maxSocketPath && !strings.ContainsAny(dir, `,"`)
}
