//go:build upgrade

package main

import (
	"flag"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"publish-reconciler/repo/pgtest/pgtestdb"
	"publish-reconciler/streams/streamstest"
)

// .ci/upgrade builds both, and gives them.
var (
	previousBinary  = flag.String("previous", "", "the binary of the release before")
	previousVersion = flag.String("previous-version", "", "its version, such as 0.1.0")
	nextBinary      = flag.String("next", "", "the binary of this release")
)

// upgrade is a service of several replicas that is upgraded under load.
type upgrade struct {
	*world
	load *program
}

// replica is one of them.
type replica struct{ served }

func (u *upgrade) start(binary string) replica {
	u.Helper()
	p := spawnFile(u, binary, nil, u.args("--log-level=info")...)
	return replica{served{p, "http://" + p.logged("ready")["http"].(string)}}
}

func (r replica) checked() (sum float64) {
	r.Helper()
	for series, value := range r.samples() {
		if strings.HasPrefix(series, "checked_total{") {
			sum += value
		}
	}
	return sum
}

// work wants each of the replicas to be ready and to look at more logs, while the load goes on.
func (u *upgrade) work(replicas ...replica) {
	u.Helper()
	before := make([]float64, len(replicas))
	for i, r := range replicas {
		before[i] = r.checked()
	}
	for i, r := range replicas {
		eventually(u, fmt.Sprintf("replica %d takes work", i), func() bool { return r.checked() >= before[i]+20 })
		if got := r.ask(http.MethodGet, "/readyz", ""); got.status != http.StatusOK {
			u.Errorf("replica %d is not ready: %v", i, got.body)
		}
	}
	select {
	case <-u.load.ended:
		u.Fatalf("the load was over before all had taken work:\n%s%s", u.load.stdout.String(), u.load.stderr.String())
	default:
	}
}

func (u *upgrade) end(r replica) {
	u.Helper()
	r.signal(syscall.SIGTERM)
	r.exits(exitOK, soon)
}

func (u *upgrade) migrate(binary string, status int, want string) {
	u.Helper()
	p := spawnFile(u, binary, nil, "migrate", "--database-url="+u.database)
	p.exits(status, soon)
	contains(u, p.stdout.String()+p.stderr.String(), want)
}

// Two replicas of the release before are replaced one by one by this one's, on the schema of this one, while publishers and
// platforms go on; then one is taken back. Every log ends as the release before says that it must.
func TestRollingUpgrade(t *testing.T) {
	t.Parallel()
	previous, next := *previousBinary, *nextBinary
	u := &upgrade{world: &world{TB: t, database: pgtestdb.New(t, nil), nats: streamstest.New(t)}}
	u.db = connect(t, u.database)

	u.migrate(previous, exitOK, "schema migrated from version 0 to ")
	a, b := u.start(previous), u.start(previous)
	u.load = spawnFile(t, previous, nil, "simulate", "--database-url="+u.database, "--nats-url="+u.nats.URL(), "--logs=6000", "--rate=300/s")
	u.work(a, b)

	u.migrate(next, exitOK, fmt.Sprintf(" %d\n", latestSchema))
	u.work(a, b) // on the new schema
	c := u.start(next)
	u.work(a, b, c)
	u.end(a)
	d := u.start(next)
	u.work(b, c, d)
	u.end(b)
	u.work(c, d)

	if strings.HasPrefix(*previousVersion, "0.1.") { // it knows nothing of schemas that are newer and work
		const refusal = "newer than this program's 7"
		u.migrate(previous, exitFailure, refusal)
		refused := spawnFile(t, previous, nil, u.args()...)
		refused.exits(exitFailure, soon)
		refused.says(refusal)
		u.exec(`DELETE FROM publish_reconciler_migrations WHERE version_id = 8`) // as the README says
	}
	u.migrate(previous, exitOK, "schema is ") // up to date, or newer and works
	back := u.start(previous)
	u.end(c)
	u.work(back, d)
	u.migrate(next, exitOK, fmt.Sprintf(" %d\n", latestSchema)) // forward once more

	u.load.exits(exitOK, simulated)
	t.Log(u.load.stdout.String())
	contains(t, u.load.stdout.String(), ", 0 wrong")
}
