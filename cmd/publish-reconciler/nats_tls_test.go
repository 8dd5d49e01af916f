package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// authority issues certificates.
type authority struct {
	testing.TB
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // its own certificate
}

func newAuthority(tb testing.TB) *authority {
	tb.Helper()
	a := &authority{TB: tb, dir: tb.TempDir()}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "a test's authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	var text []byte
	a.key, text = a.sign(template, template, nil)
	var err error
	if a.cert, err = x509.ParseCertificate(text); err != nil {
		tb.Fatal(err)
	}
	a.file = a.write("ca.pem", "CERTIFICATE", text)
	return a
}

// sign makes a key and has a certificate of it signed: by the key itself where signer is nil.
func (a *authority) sign(template, parent *x509.Certificate, signer *ecdsa.PrivateKey) (key *ecdsa.PrivateKey, cert []byte) {
	a.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.Fatal(err)
	}
	if signer == nil {
		signer = key
	}
	if cert, err = x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer); err != nil {
		a.Fatal(err)
	}
	return key, cert
}

func (a *authority) write(name, kind string, text []byte) string {
	a.Helper()
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: text}), 0o600); err != nil {
		a.Fatal(err)
	}
	return path
}

// pair is a certificate and its key, in files.
type pair struct{ cert, key string }

// issue makes a certificate of a host, until some moment.
func (a *authority) issue(name, host string, until time.Time) pair {
	a.Helper()
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: until, SerialNumber: big.NewInt(time.Now().UnixNano()),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	key, cert := a.sign(template, a.cert, a.key)
	text, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.Fatal(err)
	}
	return pair{a.write(name+".pem", "CERTIFICATE", cert), a.write(name+".key", "EC PRIVATE KEY", text)}
}

// natsTLS runs a server with a certificate; one that wants the clients' too where they have an authority.
func natsTLS(t *testing.T, own pair, clients *authority, opts *server.Options) *server.Server {
	t.Helper()
	said := server.TLSConfigOpts{CertFile: own.cert, KeyFile: own.key, Timeout: 10}
	if clients != nil {
		said.CaFile, said.Verify = clients.file, true
	}
	config, err := server.GenTLSConfig(&said)
	if err != nil {
		t.Fatal(err)
	}
	opts.TLS, opts.TLSConfig, opts.TLSTimeout, opts.TLSVerify = true, config, said.Timeout, said.Verify
	opts.JetStream = true
	if opts.StoreDir == "" {
		opts.StoreDir = t.TempDir()
	}
	return startNATS(t, opts)
}

func tlsURL(s *server.Server) string { return "tls://" + s.Addr().String() }

func TestTLS(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ours, theirs := newAuthority(t), newAuthority(t)
	later, before := time.Now().Add(time.Hour), time.Now().Add(-time.Minute)
	good := ours.issue("server", "127.0.0.1", later)
	client, stranger, expired := ours.issue("client", "client", later), theirs.issue("client", "client", later), ours.issue("expired", "client", before)
	open := tlsURL(natsTLS(t, good, nil, &server.Options{}))
	mutual := tlsURL(natsTLS(t, good, ours, &server.Options{}))
	show := func(p pair) []string {
		return []string{"--nats-ca=" + ours.file, "--nats-cert=" + p.cert, "--nats-key=" + p.key}
	}
	for name, tt := range map[string]struct {
		url  string
		args []string
		want string // why there is no connection; empty: there is one
		with string // the files that are named
	}{
		"right authority":        {open, []string{"--nats-ca=" + ours.file}, "", ""},
		"without tls in the URL": {strings.Replace(open, "tls://", "nats://", 1), []string{"--nats-ca=" + ours.file}, "", ""},
		"wrong authority":        {open, []string{"--nats-ca=" + theirs.file}, "certificate signed by unknown authority", "NATS_CA " + theirs.file},
		"this machine's":         {open, nil, "certificate signed by unknown authority", "no user, no certificates"},
		"wrong host":             {tlsURL(natsTLS(t, ours.issue("other", "other.example", later), nil, &server.Options{})), []string{"--nats-ca=" + ours.file}, "127.0.0.1", "NATS_CA " + ours.file},
		"server's has expired":   {tlsURL(natsTLS(t, ours.issue("old", "127.0.0.1", before), nil, &server.Options{})), []string{"--nats-ca=" + ours.file}, "certificate has expired", "NATS_CA " + ours.file},
		"server without TLS":     {w.nats.URL(), []string{"--nats-ca=" + ours.file}, "secure connection not available", "NATS_CA " + ours.file},
		"mutual":                 {mutual, show(client), "", ""},
		"mutual, none shown":     {mutual, []string{"--nats-ca=" + ours.file}, "certificate required", "NATS_CA " + ours.file},
		"mutual, a stranger's":   {mutual, show(stranger), "unknown certificate authority", "NATS_CERT " + stranger.cert},
		"mutual, ours expired":   {mutual, show(expired), "expired certificate", "NATS_CERT " + expired.cert},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			service := begin(t, append([]string{"run", "--database-url=" + w.database, "--http-addr=127.0.0.1:0", "--nats-url=" + tt.url}, tt.args...)...)
			if tt.want == "" {
				service.logged("ready")
			}
			command := begin(t, append([]string{"dead", "list", "--nats-url=" + tt.url}, tt.args...)...)
			if tt.want == "" {
				command.exits(exitOK, soon)
				return
			}
			line := service.logged("no connection to nats")
			why, _ := line["err"].(string)
			with, _ := line["with"].(string)
			if !strings.Contains(why, tt.want) || !strings.Contains(with, tt.with) || line["level"] != "WARN" {
				t.Errorf("it says %v", line)
			}
			command.exits(exitFailure, soon)
			command.says("no NATS server lets us in at ")
			command.says(tt.want)
			command.says(tt.with)
			service.stop()
			service.exits(exitOK, soon)
		})
	}
}

// What is renewed on disk is taken at the next connection: here the authority, and so both certificates.
func TestRenewedCertificates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, second := newAuthority(t), newAuthority(t)
	later := time.Now().Add(time.Hour)
	old, renewed := first.issue("client", "client", later), second.issue("client", "client", later)
	opts := &server.Options{StoreDir: t.TempDir()}
	broker := natsTLS(t, first.issue("server", "127.0.0.1", later), first, opts)
	s := w.serve("--nats-url="+tlsURL(broker), "--nats-ca="+first.file, "--nats-cert="+old.cert, "--nats-key="+old.key)
	opts.Port = broker.Addr().(*net.TCPAddr).Port
	broker.Shutdown()
	broker.WaitForShutdown()
	eventually(t, "it is lost", func() bool { return len(s.lines("connection to nats lost")) == 1 })
	natsTLS(t, second.issue("server", "127.0.0.1", later), second, opts)
	if why, _ := s.logged("no connection to nats")["err"].(string); !strings.Contains(why, "unknown authority") {
		t.Errorf("it says %q", why)
	}
	ready := s.ask("GET", "/readyz", "")
	if text, _ := ready.body["nats"].(string); ready.status != http.StatusServiceUnavailable || !strings.Contains(text, "unknown authority") {
		t.Errorf("it says %v", ready)
	}
	for from, to := range map[string]string{second.file: first.file, renewed.cert: old.cert, renewed.key: old.key} {
		text, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(to, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	s.logged("connected to nats again")
}
