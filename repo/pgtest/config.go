package pgtest

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
)

// Config says where a server lives and how it runs. The zero value is a usable throw-away server.
type Config struct {
	// Dir holds the cluster, its socket and its log; see the package comment. It is created when missing,
	// reused when it holds a cluster already, and kept by Stop. Empty: a temporary directory that Stop
	// removes, in memory (/dev/shm) when the server is not Durable and 512 MiB are free there, else in
	// os.TempDir. Temporary directories that killed processes left behind are removed by a later Start.
	Dir string

	// Port is the TCP port on 127.0.0.1. 0: no TCP, the unix socket only.
	Port int

	// Durable leaves Postgres's own defaults alone, for `dev` and for benchmarks. False: fsync,
	// synchronous_commit and full_page_writes are off, so that a crash of the machine loses the cluster.
	Durable bool

	// Settings are further settings as in postgresql.conf. They win over the ones that Durable stands for,
	// but not over those that say where the server lives and listens. Nil: none.
	Settings map[string]string

	// Logger gets one line at info when Postgres is to be downloaded, and one at warn when Stop has to use
	// force. Nil: discarded. Postgres's own log is the file postgres.log in Dir.
	Logger *slog.Logger

	// Download is used when the machine has no Postgres programs.
	Download Download
}

// Download says where Postgres programs come from when the machine has none. The zero value works.
type Download struct {
	// URL is a Maven repository holding io.zonky.test.postgres archives. Empty: the default of the library
	// fergusstrange/embedded-postgres.
	URL string

	// CacheDir keeps the programs, so that only the first start downloads; several processes may share it.
	// Programs there that are missing or do not run are downloaded again. Created when missing. Empty: publish-reconciler in os.UserCacheDir. As root:
	// /var/cache/publish-reconciler, since the user that Postgres then runs as cannot enter root's home.
	CacheDir string
}

func (c Config) validate() error {
	var faults []error
	if c.Port < 0 || c.Port > 65535 {
		faults = append(faults, fmt.Errorf("port is %d: it must be between 0 and 65535", c.Port))
	}
	for name, value := range c.Settings {
		if name == "" || strings.ContainsAny(name, "= ") || strings.ContainsRune(name+value, 0) {
			faults = append(faults, fmt.Errorf("setting %q is not the name of a Postgres setting", name))
		}
	}
	return errors.Join(faults...)
}
