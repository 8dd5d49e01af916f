package consumer_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"publish-reconciler/repo/pgtest"
	"publish-reconciler/repo/pgtest/pgtestdb"
	"publish-reconciler/streams"
)

// outageFor is how long outages last. What has to happen then happens within moments, and the pauses in between
// grow to ten seconds at most: so a minute (-outage 1m) shows the same, later.
var outageFor = flag.Duration("outage", 2*time.Second, "how long Postgres and NATS stay away")

// failing has Postgres end every write to a log with an error of this class, until the returned function is
// called. It stands in for what has no other beginning on a healthy machine: the class alone is what the
// service goes by.
func (w *world) failing(sqlstate string) (mend func()) {
	w.Helper()
	w.exec(`CREATE FUNCTION fault() RETURNS trigger LANGUAGE plpgsql AS
	        $$ BEGIN RAISE EXCEPTION 'a fault of the test''s' USING ERRCODE = '` + sqlstate + `'; END $$`)
	w.exec(`CREATE TRIGGER fault BEFORE UPDATE ON publish_logs FOR EACH STATEMENT EXECUTE FUNCTION fault()`)
	return func() { w.exec(`DROP TRIGGER fault ON publish_logs`) }
}

// passes wants that an error of Postgres's makes messages come again, and nothing else: while it lasts, and
// after mend has ended it.
func (w *world) passes(r *replica, logs int, sqlstate string, mend func()) {
	w.Helper()
	r.notReady(sqlstate)
	w.during(time.Second, func() {
		if r.Ready() == nil {
			w.Error("ready")
		}
		equal(w.T, "logs that are done", w.done(), 0)
		equal(w.T, "dead letters", w.dead(), 0)
	})
	equal(w.T, "lines on it", len(r.logs.with("consumer is stuck")), len(r.logs.with("level=WARN")))
	mend()
	w.endsWell(logs)
	r.ready()
	// Two consumers, once each.
	if lines := r.logs.with("level=WARN"); len(lines) > 2 {
		w.Errorf("%d warnings: %q", len(lines), lines)
	}
	equal(w.T, "lines on its end", len(r.logs.with("works again")), len(r.logs.with("is stuck")))
}

func TestErrorsOfPostgresThatPass(t *testing.T) {
	t.Parallel()
	for name, sqlstate := range map[string]string{
		"a serialization failure": "40001",
		"a deadlock":              "40P01",
		"a full disk":             "53100",
		"no memory":               "53200",
		"too many connections":    "53300",
		"a cancelled query":       "57014",
		"a shutdown":              "57P01",
		"a failing disk":          "58030",
		"read-only":               "25006", // as where a pooler has sent the transaction elsewhere than the look
		"an error of its own":     "XX000",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			mend := w.failing(sqlstate)
			w.load(64)
			w.passes(w.start(), 64, "SQLSTATE "+sqlstate, mend)
		})
	}
}

// admin has the superuser do something, beside the world's own connections.
func admin(t *testing.T, database string, do func(*pgx.Conn) error) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	conn, err := pgx.Connect(ctx, pgtestdb.Shared(t).AdminURL(database))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if err := do(conn); err != nil {
		t.Error(err)
	}
}

// asAdmin runs statements as the superuser in the world's database.
func (w *world) asAdmin(statements ...string) {
	w.Helper()
	admin(w.T, w.database(), func(conn *pgx.Conn) error {
		for _, sql := range statements {
			if _, err := conn.Exec(context.Background(), sql); err != nil {
				return fmt.Errorf("%w in %s", err, sql)
			}
		}
		return nil
	})
}

func (w *world) database() string {
	w.Helper()
	config, err := pgx.ParseConfig(w.url)
	if err != nil {
		w.Fatal(err)
	}
	return config.Database
}

// A disk that is really full: the ledger's, of one megabyte. Only root can have one; TestErrorsOfPostgresThatPass
// has the stand-in.
func TestAFullDisk(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		return
	}
	dir := openDir(t)
	if out, err := exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Logf("no disk of its own: %v: %s", err, out) // as in a container without the right to mount
		return
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	w := setup(t)
	space := filepath.Join(dir, "space")
	if err := os.Mkdir(space, 0o700); err != nil {
		t.Fatal(err)
	}
	var cluster string
	admin(t, w.database(), func(conn *pgx.Conn) error {
		return conn.QueryRow(t.Context(), `SHOW data_directory`).Scan(&cluster)
	})
	info, err := os.Stat(cluster)
	if err != nil {
		t.Fatal(err)
	}
	stat := info.Sys().(*syscall.Stat_t)
	if err := os.Chown(space, int(stat.Uid), int(stat.Gid)); err != nil {
		t.Fatal(err)
	}
	name := "full_" + w.database()
	w.asAdmin(
		`CREATE TABLESPACE `+name+` LOCATION '`+space+`'`,
		`ALTER TABLE ledger_events SET TABLESPACE `+name,
	)
	t.Cleanup(func() {
		w.asAdmin(`ALTER TABLE ledger_events SET TABLESPACE pg_default`, `DROP TABLESPACE `+name)
	})
	filler := filepath.Join(dir, "filler")
	_ = os.WriteFile(filler, make([]byte, 2<<20), 0o600) // as much as there is room for
	w.load(64)
	w.passes(w.start(), 64, "SQLSTATE 53100", func() {
		if err := os.Remove(filler); err != nil {
			t.Error(err)
		}
	})
}

// A publisher that locks logs in another order than ours meets a batch: Postgres ends one of them, ours.
func TestADeadlockWithAPublisher(t *testing.T) {
	t.Parallel()
	w := setup(t)
	first, second := w.insertLog("p1", "processing", 0), w.insertLog("p2", "processing", 0) // by their ids
	w.asAdmin(`ALTER DATABASE ` + w.database() + ` SET deadlock_timeout = '2s'`)
	publisher, err := pgx.Connect(t.Context(), pgtestdb.Shared(t).AdminURL(w.database()))
	if err != nil {
		t.Fatal(err)
	}
	defer publisher.Close(context.Background())
	do := func(sql string, args ...any) {
		t.Helper()
		if _, err := publisher.Exec(t.Context(), sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	do(`SET deadlock_timeout = '1h'`) // it does not look for one
	do(`BEGIN`)
	do(`SELECT FROM publish_logs WHERE id = $1 FOR UPDATE`, second)
	w.sendMany(2, publishedMany("p"))
	r := w.start(through(w.url + "&lock_timeout=20s"))
	w.until("the batch waits for the second log", func() bool {
		return one[int](w, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) == 1
	})
	do(`SELECT FROM publish_logs WHERE id = $1 FOR UPDATE`, first)
	do(`COMMIT`)
	w.endsWell(2)
	r.ready()
	if lines := r.logs.with("consumer is stuck"); len(lines) != 1 || !strings.Contains(lines[0], "SQLSTATE 40P01") {
		t.Errorf("no deadlock: %q", lines)
	}
}

// An administrator's isolation level is not ours: batches that meet would fail with 40001, again and again.
func TestADatabaseThatSerializes(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.asAdmin(`ALTER DATABASE ` + w.database() + ` SET default_transaction_isolation = 'serializable'`)
	w.load(1000)
	replicas := []*replica{w.start(batchSize(20)), w.start(batchSize(20))}
	w.endsWell(1000)
	for _, r := range replicas {
		equal(t, "warnings", r.logs.with("level=WARN"), []string(nil))
	}
}

func TestPostgresTakesNoConnections(t *testing.T) {
	t.Parallel()
	w := setup(t)
	r := w.start(batchSize(outageBatch))
	r.ready()
	limit := func(n int) {
		admin(t, "postgres", func(conn *pgx.Conn) error {
			_, err := conn.Exec(context.Background(), `ALTER DATABASE `+w.database()+` CONNECTION LIMIT `+strconv.Itoa(n))
			if err == nil {
				_, err = conn.Exec(context.Background(), `SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1`, w.database())
			}
			return err
		})
		w.db.Reset()
	}
	w.outage(r, func() { limit(0) }, func() { limit(-1) })
	if lines := r.logs.with("53300"); len(lines) == 0 {
		t.Error("nobody was refused")
	}
}

// All of a replica takes turns with one connection: nothing waits for a second one while it holds the first.
func TestAPoolOfOne(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.load(500)
	w.insertLogs("silent", 500, time.Hour)
	w.send(streams.SubjectSweep, "")
	r := w.start(batchSize(20), through(w.url+"&pool_max_conns=1"))
	w.until("the silent ones have failed", func() bool {
		return one[int](w, `SELECT count(*) FROM publish_logs WHERE status = 'failed'`) == 500
	})
	w.until("all are done", func() bool { return w.done() == 500 })
	w.allSettled()
	equal(t, "reconciled", w.reconciled(), "1000 logs 1 times")
	equal(t, "warnings", r.logs.with("level=WARN"), []string(nil))
}

// A hard stop of the whole server, in the middle of the work: what was acknowledged is committed, even where
// the server is set to say so before it is.
func TestPostgresIsKilled(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	cfg := pgtest.Config{Dir: dir, Settings: map[string]string{"wal_writer_delay": "10s"}}
	w, server := setupOn(t, cfg)
	w.load(3000)
	r := w.start(batchSize(20))
	for kill := range 2 {
		w.until("some are done", func() bool { return w.consumerInfo(streams.ConsumerWebhooks).AckFloor.Stream > 500*uint64(kill+1) })
		text, err := os.ReadFile(filepath.Join(dir, "pgdata", "postmaster.pid"))
		if err != nil {
			t.Fatal(err)
		}
		pid, err := strconv.Atoi(strings.Fields(string(text))[0])
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGQUIT); err != nil { // pg_ctl stop -m immediate
			t.Fatal(err)
		}
		<-server.Exited()
		_ = server.Stop()
		r.notReady("consumer webhooks: ")
		server = startPostgres(t, cfg)
		w.db.Reset()
	}
	w.endsWell(3000)
	r.ready()
}
