package main

import (
	"encoding/json"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"publish-reconciler/streams"
)

const accountsFile = "deploy/nats/accounts.conf"

// role is a user of the accounts that are shipped.
type role string

var roles = []role{"system", "ingestor", "publisher", "prober", "reconciler", "operator"}

func (r role) variable() string { return "NATS_" + strings.ToUpper(string(r)) + "_PASSWORD" }
func (r role) password() string { return "hush" + string(r) }

// inbox is the prefix that the role hears answers on, by the file.
func (r role) inbox() string {
	if r == "operator" {
		return "_INBOX"
	}
	return "_INBOX_" + string(r)
}

// guarded is a NATS server with exactly the accounts that are shipped.
type guarded struct {
	testing.TB
	server *server.Server
	opts   *server.Options
}

// guardedNATS starts a server by its own reading of the file. Change may be nil.
func guardedNATS(tb testing.TB, change func(*server.Options)) *guarded {
	tb.Helper()
	accounts, err := os.ReadFile(accountsFile)
	if err != nil {
		tb.Fatal(err)
	}
	dir := tb.TempDir()
	main := "jetstream: { store_dir: " + quote(filepath.Join(dir, "store")) + " }\ninclude \"accounts.conf\"\n"
	for name, text := range map[string]string{"accounts.conf": string(accounts), "nats.conf": main} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	opts, err := server.ProcessConfigFile(filepath.Join(dir, "nats.conf"))
	if err != nil {
		tb.Fatal(err)
	}
	opts.Port = 0 // a free one
	if change != nil {
		change(opts)
	}
	return &guarded{tb, startNATS(tb, opts), opts}
}

// url is where a role connects.
func (g *guarded) url(r role) string {
	return (&url.URL{Scheme: "nats", User: url.UserPassword(string(r), r.password()), Host: g.server.Addr().(*net.TCPAddr).String()}).String()
}

// user is a role in the server's configuration.
func user(opts *server.Options, r role) *server.User {
	for _, u := range opts.Users {
		if u.Username == string(r) {
			return u
		}
	}
	return nil
}

// as connects as a role, the way the file says.
func (g *guarded) as(r role) (*nats.Conn, jetstream.JetStream) {
	g.Helper()
	nc, err := nats.Connect(g.url(r), nats.CustomInboxPrefix(r.inbox()), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		g.Fatal(err)
	}
	g.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		g.Fatal(err)
	}
	return nc, js
}

// The accounts have what doctor asks of the service's user, for all that the service may be set to do.
func TestAccountsAreWhatTheServiceNeeds(t *testing.T) {
	t.Parallel()
	g := guardedNATS(t, nil)
	nc, _ := g.as("reconciler")
	may, err := streams.AskPermissions(t.Context(), nc)
	if err != nil {
		t.Fatal(err)
	}
	all := streams.Use{Manage: true, Events: true, Page: true}
	if missing := may.Missing(all); len(missing) > 0 {
		t.Errorf("it may not %s", strings.Join(missing, ", "))
	}
	// And nothing beyond that but what doctor asks for itself: without a line something is missing.
	beyond := map[string]bool{"$JS.API.INFO": true, "$SRV.PING.publish-reconciler": true, "$SYS.REQ.USER.INFO": true}
	for i, subject := range may.Publish.Allow {
		less := may
		less.Publish.Allow = append(append([]string{}, may.Publish.Allow[:i]...), may.Publish.Allow[i+1:]...)
		if len(less.Missing(all)) == 0 != beyond[subject] {
			t.Errorf("publish to %s: is it needed?", subject)
		}
	}
	for i, subject := range may.Subscribe.Allow {
		less := may
		less.Subscribe.Allow = append(append([]string{}, may.Subscribe.Allow[:i]...), may.Subscribe.Allow[i+1:]...)
		if len(less.Missing(all)) == 0 {
			t.Errorf("subscribe to %s: is it needed?", subject)
		}
	}
}

// A server without a password of one of them does not start.
func TestAccountsWithoutAPassword(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(accountsFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range roles {
		if !strings.Contains(string(text), "user: "+string(r)+", password: $"+r.variable()+"\n") &&
			!strings.Contains(string(text), "user: "+string(r)+", password: $"+r.variable()+" }") {
			t.Errorf("%s has no password of its own", r)
		}
	}
	file := filepath.Join(t.TempDir(), "accounts.conf")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(string(text), "$NATS_INGESTOR_PASSWORD", "$NATS_NOBODY_PASSWORD")), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := server.ProcessConfigFile(file); err == nil || !strings.Contains(err.Error(), "NATS_NOBODY_PASSWORD") {
		t.Errorf("it starts: %v", err)
	}
}

// Who is nobody is not let in.
func TestAccountsWithoutAUser(t *testing.T) {
	t.Parallel()
	g := guardedNATS(t, nil)
	for _, u := range []*url.Userinfo{nil, url.UserPassword("operator", "wrong"), url.UserPassword("nobody", "hush")} {
		nc, err := nats.Connect((&url.URL{Scheme: "nats", User: u, Host: g.server.Addr().String()}).String())
		if err == nil {
			nc.Close()
			t.Errorf("%v is let in", u)
		}
	}
}

// The whole stack, each as its role: the service, publishers, ingestors, a prober, and an operator's commands.
func TestAccountsAtWork(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := guardedNATS(t, nil)
	s := w.serve("--nats-url="+g.url("reconciler"), "--default-timeout=10m")
	s.swept()
	g.roles(w, s)
	g.commands(w, s)
	for _, line := range s.lines("nats") {
		t.Errorf("the service was refused: %v", line)
	}
	doctor := begin(t, "doctor", "--json", "--database-url="+w.database, "--nats-url="+g.url("reconciler"))
	doctor.exits(exitOK, 2*soon)
	var report doctorAnswer
	if err := json.Unmarshal([]byte(doctor.stdout.String()), &report); err != nil {
		t.Fatal(err)
	}
	for _, f := range report.Findings {
		if f.Level != levelOK && strings.HasPrefix(f.Check, "nats") {
			t.Errorf("doctor: %v", f)
		}
	}
}

// Simulate plays as an operator, whose rights have those of ingestor and publisher in them.
func TestAccountsOfASimulation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := guardedNATS(t, nil)
	s := w.serve("--nats-url="+g.url("reconciler"), "--default-timeout=10m")
	p := begin(t, "simulate", "--nats-url="+g.url("operator"), "--database-url="+w.database, "--logs=200", "--rate=2000/s", "--timeout=3s", "--cleanup")
	p.exits(exitOK, 4*soon)
	if text := p.stderr.String(); strings.Contains(text, "ermissions") {
		t.Errorf("it was refused: %s", text)
	}
	for _, line := range s.lines("nats") {
		t.Errorf("the service was refused: %v", line)
	}
}

// A service that may not create streams works on those that are there, and says so where they are not.
func TestAccountsOfAServiceThatManagesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	text, err := os.ReadFile(accountsFile)
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "# Not with MANAGE_STREAMS=false.\n")
	section, _, found := strings.Cut(section, "\n\n")
	if !found {
		t.Fatal("the file does not say which lines these are")
	}
	g := guardedNATS(t, func(opts *server.Options) {
		service := user(opts, "reconciler").Permissions.Publish
		var left []string
		for _, subject := range service.Allow {
			if !strings.Contains(section, quote(subject)) {
				left = append(left, subject)
			}
		}
		if len(left) != len(service.Allow)-11 {
			t.Fatalf("%d rights are to manage streams", len(service.Allow)-len(left))
		}
		service.Allow = left
		opts.Users = append(opts.Users, &server.User{Username: "administrator", Password: "hush", Account: user(opts, "reconciler").Account})
	})
	_, js := g.as("operator") // for the address alone
	managing := begin(t, w.args("--nats-url="+g.url("reconciler"))...)
	managing.logged("waiting")
	eventually(t, "it says for what", func() bool {
		return strings.Contains(managing.stderr.String(), `ermissions Violation for Publish to \"$JS.API.STREAM.CREATE.PUBLISH_WEBHOOKS\"`)
	})
	managing.stop()
	managing.exits(exitOK, soon)
	verifying := begin(t, w.args("--nats-url="+g.url("reconciler"), "--manage-streams=false")...)
	verifying.exits(exitFailure, soon)
	verifying.says("stream PUBLISH_WEBHOOKS is missing")

	administrator, err := nats.Connect("nats://administrator:hush@" + js.Conn().ConnectedAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer administrator.Close()
	all, err := jetstream.New(administrator)
	if err != nil {
		t.Fatal(err)
	}
	if err := streams.Ensure(t.Context(), all, streams.Config{}); err != nil {
		t.Fatal(err)
	}
	s := w.serve("--nats-url="+g.url("reconciler"), "--manage-streams=false", "--default-timeout=10m")
	s.swept()
	g.roles(w, s)
	for _, line := range s.lines("nats") {
		t.Errorf("the service was refused: %v", line)
	}
}
