package main

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"publish-reconciler/repo/pgtest"
	"publish-reconciler/repo/pgtest/pgtestdb"
	"publish-reconciler/streams/streamstest"
)

// What waiting does not mend ends run at once, with one sentence.
func TestRunRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	newer := newWorld(t)
	newer.migratedBy(999, 999)
	taken := listen(t)
	withUser := func(user, database string) string {
		u, err := url.Parse(pgtestdb.Shared(t).URL(database))
		if err != nil {
			t.Fatal(err)
		}
		query := u.Query()
		query.Set("user", user)
		u.RawQuery = query.Encode()
		return u.String()
	}
	for name, tt := range map[string]struct {
		args []string
		want []string
	}{
		"never migrated":   {[]string{"--database-url=" + pgtestdb.New(t, nil)}, []string{`the database schema is version 0, older than`, `run "publish-reconciler migrate"`}},
		"newer schema":     {[]string{"--database-url=" + newer.database}, []string{"the database schema is version 999, newer than"}},
		"unknown database": {[]string{"--database-url=" + withUser("publish", "nowhere")}, []string{`database "nowhere" does not exist`}},
		"unknown role":     {[]string{"--database-url=" + withUser("nobody_here", "postgres")}, []string{`role "nobody_here" does not exist`}},
		"port taken":       {[]string{"--http-addr=" + taken.Addr().String()}, []string{"serve http: listen tcp " + taken.Addr().String(), "address already in use"}},
		"old NATS":         {[]string{"--nats-url=" + oldNATS(t)}, []string{"publish-reconciler: NATS server 2.9.10 is too old: publish-reconciler needs 2.14 or later, for message schedules\n"}},
		"no JetStream":     {[]string{"--nats-url=" + plainNATS(t, &server.Options{})}, []string{"JetStream is off on the NATS server"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := begin(t, w.args(tt.args...)...)
			p.exits(exitFailure, soon)
			for _, want := range tt.want {
				p.says(want)
			}
			if len(p.lines("waiting")) > 0 || len(p.lines("ready")) > 0 {
				t.Errorf("it waited or was ready:\n%s", p.stderr.String())
			}
		})
	}
}

func TestIsRefusedLogin(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]bool{"28P01": true, "28000": true, "3D000": true, "57P03": false, "53300": false, "": false, "2": false} {
		if got := isRefusedLogin(fmt.Errorf("connect: %w", &pgconn.PgError{Code: code})); got != want {
			t.Errorf("%q: %v", code, got)
		}
	}
}

func TestRunWaitsForPostgres(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	cfg := pgtest.Config{Dir: dir} // no port that another could take meanwhile
	start := func() *pgtest.Server {
		postgres, err := pgtest.Start(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = postgres.Stop() })
		return postgres
	}
	postgres := start()
	w := &world{TB: t, database: postgres.URL("publish"), nats: streamstest.New(t)}
	if err := postgres.CreateDatabase(t.Context(), "publish"); err != nil {
		t.Fatal(err)
	}
	if err := migrate(t.Context(), w.database); err != nil {
		t.Fatal(err)
	}
	if err := postgres.Stop(); err != nil {
		t.Fatal(err)
	}
	p := begin(t, w.args()...)
	waits(p, "postgres")
	start()
	p.logged("ready")
	if n := len(p.lines("waiting")); n != 1 {
		t.Errorf("it said %d times that it waits", n)
	}
	p.stop()
	p.exits(exitOK, soon)
}

func TestRunWaitsForNATS(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.nats.Halt()
	p := begin(t, w.args()...)
	waits(p, "nats")
	if err := w.nats.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.logged("ready")
	if n := len(p.lines("waiting")); n != 1 {
		t.Errorf("it said %d times that it waits", n)
	}
}

// While it waits it is alive and not ready, says for what, and stops at once.
func TestRunIsStoppedWhileItWaits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.nats.Halt()
	for what, args := range map[string][]string{"nats": nil, "postgres": {"--database-url=postgres://u:hush@127.0.0.1:1/x"}} {
		free := listen(t)
		addr := free.Addr().String()
		_ = free.Close()
		p := begin(t, w.args(append(args, "--http-addr="+addr)...)...)
		waits(p, what)
		s := served{p, "http://" + addr}
		if got := s.ask("GET", "/healthz", ""); got.status != http.StatusOK {
			t.Errorf("%s is away: it is not alive: %+v", what, got)
		}
		got := s.ask("GET", "/readyz", "")
		part, _ := got.body[what].(string)
		if got.status != http.StatusServiceUnavailable || part == partOK || part == "" || got.body["consumers"] == partOK || (got.body["postgres"] == partOK) != (what == "nats") {
			t.Errorf("%s is away: %+v", what, got)
		}
		if n := len(p.lines("waiting")); n != 1 {
			t.Errorf("%s is away: it said %d times that it waits", what, n)
		}
		began := time.Now()
		p.stop()
		p.exits(exitOK, soon)
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s is away: it stopped after %s", what, took)
		}
		if strings.Contains(p.stderr.String(), "hush") {
			t.Errorf("the password is in the log:\n%s", p.stderr.String())
		}
	}
}

// waits returns when the program tried twice and more.
func waits(p *program, what string) {
	p.Helper()
	line := p.logged("waiting")
	why := map[string]string{"nats": "not connected to nats://", "postgres": "postgres: failed to connect to "}[what]
	if text, _ := line["err"].(string); line["for"] != what || !strings.HasPrefix(text, why) {
		p.Errorf("it waits thus: %v", line)
	}
	select {
	case <-p.ended:
		p.Fatalf("it gave up:\n%s", p.stderr.String())
	case <-time.After(1200 * time.Millisecond):
	}
}

// A password that the server does not know (yet) is no reason to give up for good.
func TestRunWaitsForItsNATSUser(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	opts := &server.Options{JetStream: true, StoreDir: t.TempDir(), Username: "ana", Password: "right-hush"}
	broker := startNATS(t, opts)
	url := "nats://" + broker.Addr().String()
	withUser := func(user string) string { return strings.Replace(url, "nats://", "nats://"+user+"@", 1) }
	p := begin(t, w.args("--nats-url="+withUser("ana:wrong-hush"))...)
	waits(p, "nats")
	contains(t, p.logged("no connection to nats")["err"].(string), "uthorization")
	if line := p.logged("no connection to nats"); line["level"] != "WARN" {
		t.Errorf("it says only %v", line)
	}
	p2 := begin(t, w.args("--nats-url="+withUser("ana:right-hush"))...)
	p2.logged("ready")
	changed := opts.Clone()
	changed.Password = "wrong-hush"
	if err := broker.ReloadOptions(changed); err != nil {
		t.Fatal(err)
	}
	p.logged("ready")
	if strings.Contains(p.stderr.String()+p2.stderr.String(), "hush") {
		t.Errorf("the password is in the log:\n%s%s", p.stderr.String(), p2.stderr.String())
	}
}

func TestSecretsAreNotLogged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.database += "&password=hush-too"
	url := plainNATS(t, &server.Options{JetStream: true, StoreDir: t.TempDir(), Authorization: "hush"})
	p := begin(t, w.args("--nats-url="+strings.Replace(url, "nats://", "nats://hush@", 1))...)
	p.logged("ready")
	p.logged("connected to nats")
	if strings.Contains(p.stderr.String(), "hush") {
		t.Errorf("a secret is in the log:\n%s", p.stderr.String())
	}
}

func TestVerifyStreamsOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	js := w.nats.JetStream(t)
	refused := func(wants ...string) {
		t.Helper()
		p := begin(t, w.args("--manage-streams=false")...)
		p.exits(exitFailure, soon)
		p.says("streams are not as they must be, and --manage-streams (MANAGE_STREAMS) is false:\n")
		for _, want := range wants {
			p.says(want)
		}
	}
	refused("stream PUBLISH_WEBHOOKS is missing", "stream PUBLISH_CHECKS is missing", "stream PUBLISH_DEAD is missing", "stream PUBLISH_EVENTS is missing",
		"consumer webhooks of stream PUBLISH_WEBHOOKS is missing", "consumer checks of stream PUBLISH_CHECKS is missing", "consumer sweeper of stream PUBLISH_CHECKS is missing")
	names := js.StreamNames(t.Context())
	for name := range names.Name() {
		t.Errorf("it made %s", name)
	}

	managing := w.serve()
	managing.stop()
	managing.exits(exitOK, soon)
	w.serve("--manage-streams=false").stop()

	stream, err := js.Stream(t.Context(), "PUBLISH_DEAD")
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	cfg.MaxAge = time.Hour
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteConsumer(t.Context(), "PUBLISH_CHECKS", "sweeper"); err != nil {
		t.Fatal(err)
	}
	refused("stream PUBLISH_DEAD: max_age is 1h0m0s, must be at least 720h0m0s", "consumer sweeper of stream PUBLISH_CHECKS is missing")
	if stream, err = js.Stream(t.Context(), "PUBLISH_DEAD"); err != nil || stream.CachedInfo().Config.MaxAge != time.Hour {
		t.Errorf("it changed the stream, %v", err)
	}
}

func TestIsPassing(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		err  error
		want bool
	}{
		"a cluster without a leader": {&jetstream.APIError{Code: 503, ErrorCode: 10008}, true},
		"no JetStream":               {jetstream.ErrJetStreamNotEnabled, false},
		"replicas on one server":     {&jetstream.APIError{Code: 500, ErrorCode: 10074}, false},
	} {
		if got := isPassing(fmt.Errorf("look up stream: %w", tt.err)); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// plainNATS runs a server that streamstest would not: without JetStream, or with a password.
func plainNATS(t *testing.T, opts *server.Options) string {
	t.Helper()
	return "nats://" + startNATS(t, opts).Addr().String()
}

func startNATS(t testing.TB, opts *server.Options) *server.Server {
	t.Helper()
	opts.Host, opts.NoSigs, opts.NoLog = "127.0.0.1", true, true
	opts.Port = cmp.Or(opts.Port, server.RANDOM_PORT)
	s, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(soon) {
		t.Fatal("NATS server is not ready")
	}
	return s
}

// oldNATS speaks just enough of the protocol to be taken for an old server.
func oldNATS(t *testing.T) string {
	t.Helper()
	listener := listen(t)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			speakOldNATS(conn)
		}
	}()
	t.Cleanup(func() { _ = listener.Close(); <-ended })
	return "nats://" + listener.Addr().String()
}

func speakOldNATS(conn net.Conn) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(soon))
	_, _ = io.WriteString(conn, `INFO {"server_id":"OLD","version":"2.9.10","proto":1,"headers":true,"max_payload":1048576,"jetstream":true}`+"\r\n")
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		if lines.Text() == "PING" {
			_, _ = io.WriteString(conn, "PONG\r\n")
		}
	}
}
