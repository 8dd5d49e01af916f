package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"publish-reconciler/streams/streamstest"
)

// tenant is an account of a server in operator mode.
type tenant struct {
	testing.TB
	url  string
	keys nkeys.KeyPair
}

func newKeys(tb testing.TB, create func() (nkeys.KeyPair, error)) (keys nkeys.KeyPair, public string) {
	tb.Helper()
	keys, err := create()
	if err == nil {
		public, err = keys.PublicKey()
	}
	if err != nil {
		tb.Fatal(err)
	}
	return keys, public
}

// newTenant starts a server that knows users by JWTs, as an operator of accounts signs them.
func newTenant(t *testing.T) *tenant {
	t.Helper()
	operator, operatorName := newKeys(t, nkeys.CreateOperator)
	keys, name := newKeys(t, nkeys.CreateAccount)
	_, systemName := newKeys(t, nkeys.CreateAccount)
	trusted := jwt.NewOperatorClaims(operatorName)
	trusted.SystemAccount = systemName
	account := jwt.NewAccountClaims(name)
	account.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: -1, DiskStorage: -1, Streams: -1, Consumer: -1, MaxAckPending: -1}
	resolver := &server.MemAccResolver{}
	for name, claims := range map[string]*jwt.AccountClaims{name: account, systemName: jwt.NewAccountClaims(systemName)} {
		text, err := claims.Encode(operator)
		if err == nil {
			err = resolver.Store(name, text)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	s := startNATS(t, &server.Options{
		TrustedOperators: []*jwt.OperatorClaims{trusted}, AccountResolver: resolver, SystemAccount: systemName,
		JetStream: true, StoreDir: t.TempDir(),
	})
	return &tenant{t, "nats://" + s.Addr().String(), keys}
}

// creds writes a user's credentials file, good until some moment.
func (a *tenant) creds(path string, until time.Time) string {
	a.Helper()
	user, name := newKeys(a, nkeys.CreateUser)
	claims := jwt.NewUserClaims(name)
	claims.Expires = until.Unix()
	text, err := claims.Encode(a.keys)
	if err != nil {
		a.Fatal(err)
	}
	seed, err := user.Seed()
	if err != nil {
		a.Fatal(err)
	}
	file, err := jwt.FormatUserConfig(text, seed)
	if err != nil {
		a.Fatal(err)
	}
	return put(a, path, string(file))
}

// put writes a file in one go, as whatever renews it should.
func put(tb testing.TB, path, text string) string {
	tb.Helper()
	err := os.WriteFile(path+".new", []byte(text), 0o600)
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return path
}

func TestCreds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := newTenant(t)
	dir := t.TempDir()
	good := a.creds(filepath.Join(dir, "good.creds"), time.Now().Add(time.Hour))
	w.serve("--nats-url="+a.url, "--nats-creds="+good)
	p := begin(t, "status", "--nats-url="+a.url, "--nats-creds="+good)
	p.exits(exitOK, soon)

	for name, path := range map[string]string{
		"expired":            a.creds(filepath.Join(dir, "expired.creds"), time.Now().Add(-time.Minute)),
		"of another account": newTenant(t).creds(filepath.Join(dir, "other.creds"), time.Now().Add(time.Hour)),
	} {
		p := begin(t, w.args("--nats-url="+a.url, "--nats-creds="+path)...)
		line := p.logged("no connection to nats")
		if why, _ := line["err"].(string); !strings.Contains(strings.ToLower(why), "authorization violation") || line["with"] != "NATS_CREDS "+path || line["level"] != "WARN" {
			t.Errorf("%s: it says %v", name, line)
		}
		command := begin(t, "status", "--nats-url="+a.url, "--nats-creds="+path)
		command.exits(exitFailure, soon)
		command.says("(with NATS_CREDS " + path + ")")
		command.says("uthorization")
		// Whoever finds that out at three in the morning has it mended by a new file.
		put(t, path, contents(t, good))
		p.logged("ready")
	}
}

func contents(tb testing.TB, path string) string {
	tb.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return string(text)
}

// Credentials that expire under a running service stop it until there are new ones, and no longer.
func TestCredsExpire(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := newTenant(t)
	path := a.creds(filepath.Join(t.TempDir(), "nats.creds"), time.Now().Add(4*time.Second))
	s := w.serve("--nats-url="+a.url, "--nats-creds="+path)
	s.logged("connection to nats lost")
	refusals := func() (told, warnings int) {
		for _, line := range s.lines("no connection to nats") {
			if line["with"] != "NATS_CREDS "+path {
				t.Errorf("it does not name the file: %v", line)
			}
			if why, _ := line["err"].(string); !strings.Contains(strings.ToLower(why), "authorization violation") {
				continue
			}
			if told++; line["level"] == "WARN" {
				warnings++
			}
		}
		return told, warnings
	}
	// nats.go gives up by itself once it was refused twice. Of each second one line may be of the same refusal.
	eventually(t, "it is refused again and again", func() bool {
		select {
		case <-s.ended:
			t.Fatalf("it gave up:\n%s", s.stderr.String())
		default:
		}
		told, _ := refusals()
		return told >= 8
	})
	if _, warnings := refusals(); warnings != 1 {
		t.Errorf("%d warnings:\n%s", warnings, s.stderr.String())
	}
	ready := s.ask("GET", "/readyz", "")
	if text, _ := ready.body["nats"].(string); ready.status != http.StatusServiceUnavailable || !strings.Contains(strings.ToLower(text), "auth") {
		t.Errorf("it says %v", ready)
	}
	a.creds(path, time.Now().Add(time.Hour))
	s.logged("connected to nats again")
	eventually(t, "it is ready", func() bool { return s.ask("GET", "/readyz", "").status == http.StatusOK })
}

func TestNkey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	keys, public := newKeys(t, nkeys.CreateUser)
	wrong, _ := newKeys(t, nkeys.CreateUser)
	dir := t.TempDir()
	file := func(name string, keys nkeys.KeyPair) string {
		seed, err := keys.Seed()
		if err != nil {
			t.Fatal(err)
		}
		return put(t, filepath.Join(dir, name), string(seed)+"\n")
	}
	url := "nats://" + startNATS(t, &server.Options{JetStream: true, StoreDir: t.TempDir(), Nkeys: []*server.NkeyUser{{Nkey: public}}}).Addr().String()
	right, other := file("right.nk", keys), file("wrong.nk", wrong)
	w.serve("--nats-url="+url, "--nats-nkey="+right)
	status := begin(t, "status", "--nats-url="+url, "--nats-nkey="+right)
	status.exits(exitOK, soon)
	p := begin(t, w.args("--nats-url="+url, "--nats-nkey="+other)...)
	line := p.logged("no connection to nats")
	if why, _ := line["err"].(string); !strings.Contains(strings.ToLower(why), "authorization violation") || line["with"] != "NATS_NKEY "+other {
		t.Errorf("it says %v", line)
	}
	status = begin(t, "status", "--nats-url="+url, "--nats-nkey="+other)
	status.exits(exitFailure, soon)
	status.says("with NATS_NKEY " + other)
	seed, err := wrong.Seed()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(p.stderr.String()+status.stderr.String(), string(seed)) {
		t.Error("a seed is in the log")
	}
}

// What is wrong with files is told at once, all of it, and nothing starts.
func TestFaultsOfNATSFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	empty := put(t, filepath.Join(dir, "empty"), "")
	ours := newAuthority(t)
	one, two := ours.issue("one", "one", time.Now().Add(time.Hour)), ours.issue("two", "two", time.Now().Add(time.Hour))
	account, _ := newKeys(t, nkeys.CreateAccount)
	seed, err := account.Seed()
	if err != nil {
		t.Fatal(err)
	}
	notUsers := put(t, filepath.Join(dir, "account.nk"), string(seed))
	const creds, nkey, ca = `: it must be a file with a user's JWT and seed, as nsc writes it (`, `: it must be a file with the seed of a user's nkey, which begins with SU (`, `: it must be a file with certificates in PEM (`
	for name, tt := range map[string]struct {
		args  []string
		wants []string
	}{
		"not there": {
			[]string{"--nats-creds=/nowhere/c", "--nats-nkey=/nowhere/n", "--nats-ca=/nowhere/ca", "--nats-cert=/nowhere/cert", "--nats-key=/nowhere/key", "--nats-url=nats://u:hush@h"},
			[]string{
				`--nats-creds (NATS_CREDS) is "/nowhere/c"` + creds, `--nats-nkey (NATS_NKEY) is "/nowhere/n"` + nkey, `--nats-ca (NATS_CA) is "/nowhere/ca"` + ca,
				`--nats-cert (NATS_CERT) is "/nowhere/cert": it must be a file with a certificate in PEM, and --nats-key (NATS_KEY), which is "/nowhere/key", one with its key (`,
				`--nats-creds (NATS_CREDS), --nats-nkey (NATS_NKEY), a user in --nats-url (NATS_URL) are set: only one of them may be`,
			},
		},
		"empty":            {[]string{"--nats-creds=" + empty, "--nats-ca=" + empty}, []string{creds, ca}},
		"an empty seed":    {[]string{"--nats-nkey=" + empty}, []string{nkey}},
		"an account's":     {[]string{"--nats-nkey=" + notUsers}, []string{nkey}},
		"another's key":    {[]string{"--nats-cert=" + one.cert, "--nats-key=" + two.key}, []string{"private key does not match public key"}},
		"cert without key": {[]string{"--nats-cert=" + one.cert}, []string{"--nats-cert (NATS_CERT) and --nats-key (NATS_KEY) go together: set both or neither"}},
		"key without cert": {[]string{"--nats-key=" + one.key}, []string{"--nats-cert (NATS_CERT) and --nats-key (NATS_KEY) go together: set both or neither"}},
	} {
		for _, command := range [][]string{{"run", "--database-url=" + aDatabase}, {"status"}, {"dead", "list"}, {"simulate", "--database-url=" + aDatabase}, {"doctor", "--database-url=" + aDatabase}} {
			p := begin(t, append(command, tt.args...)...)
			p.exits(exitUsage, soon)
			for _, want := range tt.wants {
				if !strings.Contains(p.stderr.String(), want) {
					t.Errorf("%s, %s: no %q in\n%s", name, command[0], want, p.stderr.String())
				}
			}
			if text := p.stderr.String(); strings.Contains(text, string(seed)) || strings.Contains(text, "hush") {
				t.Errorf("%s: it tells a secret: %s", name, text)
			}
		}
	}
}

// Of several servers one is enough, whichever that is.
func TestSeveralServers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cluster := streamstest.NewCluster(t)
	nobody := listen(t)
	_ = nobody.Close()
	servers := strings.Split(cluster.URL(), ",")
	// A user is no matter to these servers, and his password is none of the log's.
	withUser := func(server string) string { return strings.Replace(server, "nats://", "nats://ana:hush@", 1) }
	urls := []string{"nats://ana:hush@" + nobody.Addr().String(), withUser(servers[0]), withUser(servers[1])}
	s := w.serve("--nats-url="+strings.Join(urls, ", "), "--stream-replicas=3", "--default-timeout=10m")
	s.swept()
	connected, _ := s.logged("connected to nats")["url"].(string)
	at := 0
	if strings.Contains(connected, strings.TrimPrefix(servers[1], "nats://")) {
		at = 1
	}
	cluster.Halt(at)
	again, _ := s.logged("connected to nats again")["url"].(string)
	if again == "" || again == connected {
		t.Errorf("it was connected to %s, and is to %q", connected, again)
	}
	id := w.publish("ig_1", "processing", `{}`, 0)
	nc, err := cluster.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	eventually(t, "a webhook is stored", func() bool {
		_, err := nc.Request("publish.webhook.instagram", []byte(`{"external_post_id":"ig_1","status":"published"}`), time.Second)
		return err == nil
	})
	s.becomes(id, "success")
	status := begin(t, "status", "--nats-url="+strings.Join(urls, ","))
	status.exits(exitOK, soon)
	if strings.Contains(s.stderr.String()+status.stderr.String()+status.stdout.String(), "hush") {
		t.Error("a password is in the log")
	}
}

// A connection that nats.go closes for good ends the service, which is then started anew, and does not stay deaf.
func TestAConnectionThatIsClosedForGood(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var log buffer
	cfg := ownConfig(natsAccess{NATSURL: w.nats.URL()}, w.database, true)
	service, err := newService(t.Context(), cfg, cfg.log.logger(&log))
	if err != nil {
		t.Fatal(err)
	}
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- service.serve(t.Context(), func() { close(ready) }) }()
	<-ready
	service.nc.Close()
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), "the connection to nats is closed, and does not come back: "+nats.ErrConnectionClosed.Error()) {
			t.Errorf("it ends with %v", err)
		}
	case <-time.After(soon):
		t.Fatalf("it goes on:\n%s", log.String())
	}
}
