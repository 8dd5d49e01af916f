package main

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"
)

// natsAccess is where NATS is, and how the service and the commands are let in there.
type natsAccess struct {
	NATSURL   string `name:"nats-url" env:"NATS_URL" default:"${nats_url}" help:"NATS servers, separated by commas."`
	NATSCreds string `name:"nats-creds" env:"NATS_CREDS" help:"Credentials file for NATS: a user's JWT and seed."`
	NATSNkey  string `name:"nats-nkey" env:"NATS_NKEY" help:"File with the seed of a user's nkey for NATS."`
	NATSCA    string `name:"nats-ca" env:"NATS_CA" help:"File with the certificates that NATS's must be signed by; unset: those this machine trusts."`
	NATSCert  string `name:"nats-cert" env:"NATS_CERT" help:"File with the certificate to show NATS, for mutual TLS."`
	NATSKey   string `name:"nats-key" env:"NATS_KEY" help:"File with the key of that certificate."`
}

// check tells every fault, those of the files too.
func (s natsAccess) check(f *faults) {
	for server := range strings.SplitSeq(s.NATSURL, ",") {
		if u, err := url.Parse(strings.TrimSpace(server)); err != nil || u.Host == "" || passwordBeyondHost(server) || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme) {
			f.add("nats-url", "NATS_URL", redactNATS(s.NATSURL), "URLs such as nats://host:4222, separated by commas")
			break
		}
	}
	file := func(flag, variable, path, allowed string, err error) {
		if err != nil {
			f.add(flag, variable, path, fmt.Sprintf("%s (%s)", allowed, strings.TrimPrefix(err.Error(), "nats: ")))
		}
	}
	if s.NATSCreds != "" {
		file("nats-creds", "NATS_CREDS", s.NATSCreds, "a file with a user's JWT and seed, as nsc writes it", readCreds(s.NATSCreds))
	}
	if s.NATSNkey != "" {
		_, err := nats.NkeyOptionFromSeed(s.NATSNkey)
		file("nats-nkey", "NATS_NKEY", s.NATSNkey, "a file with the seed of a user's nkey, which begins with SU", err)
	}
	if s.NATSCA != "" {
		file("nats-ca", "NATS_CA", s.NATSCA, "a file with certificates in PEM", nats.RootCAs(s.NATSCA)(&nats.Options{}))
	}
	switch {
	case s.NATSCert != "" && s.NATSKey != "":
		file("nats-cert", "NATS_CERT", s.NATSCert, fmt.Sprintf("a file with a certificate in PEM, and --nats-key (NATS_KEY), which is %q, one with its key", s.NATSKey),
			nats.ClientCert(s.NATSCert, s.NATSKey)(&nats.Options{}))
	case s.NATSCert != "" || s.NATSKey != "":
		f.all = append(f.all, errors.New("--nats-cert (NATS_CERT) and --nats-key (NATS_KEY) go together: set both or neither"))
	}
	if ways := s.logins(); len(ways) > 1 {
		f.all = append(f.all, fmt.Errorf("%s are set: only one of them may be", strings.Join(ways, ", ")))
	}
}

// readCreds tells whether a credentials file has what nats.go looks for at every connect.
func readCreds(path string) error {
	var options nats.Options
	if err := nats.UserCredentials(path)(&options); err != nil {
		return err
	}
	_, noJWT := options.UserJWT()
	_, noSeed := options.SignatureCB([]byte("nonce"))
	if noJWT != nil {
		return noJWT
	}
	return noSeed
}

// logins are the ways to say who we are that were chosen, for people; nothing in them is secret.
func (s natsAccess) logins() (ways []string) {
	if s.NATSCreds != "" {
		ways = append(ways, "--nats-creds (NATS_CREDS)")
	}
	if s.NATSNkey != "" {
		ways = append(ways, "--nats-nkey (NATS_NKEY)")
	}
	for server := range strings.SplitSeq(s.NATSURL, ",") {
		if u, err := url.Parse(strings.TrimSpace(server)); err == nil && u.User != nil {
			return append(ways, "a user in --nats-url (NATS_URL)")
		}
	}
	return ways
}

// options have nats.go read the files again at every connect, so that what was renewed is taken then; but the nkey's
// public half is read once, and another one needs a restart.
func (s natsAccess) options() ([]nats.Option, error) {
	var options []nats.Option
	if s.NATSCreds != "" {
		options = append(options, nats.UserCredentials(s.NATSCreds))
	}
	if s.NATSNkey != "" {
		nkey, err := nats.NkeyOptionFromSeed(s.NATSNkey)
		if err != nil {
			return nil, fmt.Errorf("read --nats-nkey (NATS_NKEY) %s: %w", s.NATSNkey, err)
		}
		options = append(options, nkey)
	}
	if s.NATSCA != "" {
		options = append(options, nats.RootCAs(s.NATSCA))
	}
	if s.NATSCert != "" {
		options = append(options, nats.ClientCert(s.NATSCert, s.NATSKey))
	}
	return options, nil
}

// means are what we try to get in with, for whoever has to find out why a server does not let us in.
func (s natsAccess) means() string {
	var all []string
	for _, file := range []struct{ variable, path string }{
		{"NATS_CREDS", s.NATSCreds}, {"NATS_NKEY", s.NATSNkey}, {"NATS_CA", s.NATSCA}, {"NATS_CERT", s.NATSCert}, {"NATS_KEY", s.NATSKey},
	} {
		if file.path != "" {
			all = append(all, file.variable+" "+file.path)
		}
	}
	if ways := s.logins(); len(ways) > 0 && strings.HasPrefix(ways[len(ways)-1], "a user") {
		all = append(all, "the user in NATS_URL")
	}
	if len(all) == 0 {
		return "no user, no certificates"
	}
	return strings.Join(all, ", ")
}

// notLetIn is why whoever has one try is not let in.
func (s natsAccess) notLetIn(err error) error {
	err = fmt.Errorf("no NATS server lets us in at %s (--nats-url, NATS_URL): %w", redactNATS(s.NATSURL), err)
	if errors.Is(err, nats.ErrNoServers) {
		return err // nobody answered
	}
	return fmt.Errorf("%w (with %s)", err, s.means())
}

// connect has one try: whoever types wants to know at once. More options may be given.
func (s natsAccess) connect(more ...nats.Option) (*nats.Conn, error) {
	var f faults
	s.check(&f)
	if err := f.err(); err != nil {
		return nil, err
	}
	options, err := s.options()
	if err != nil {
		return nil, err
	}
	options = append(options,
		nats.Name("publish-reconciler (command)"),
		nats.NoReconnect(),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}), // nats.go prints them otherwise
	)
	nc, err := nats.Connect(s.NATSURL, append(options, more...)...)
	if err != nil {
		return nil, s.notLetIn(err)
	}
	return nc, nil
}
