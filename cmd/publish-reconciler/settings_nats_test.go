package main

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nkeys"
)

// natsFileSettings are the rows of the files by which NATS lets us in.
func natsFileSettings(t *testing.T) []setting {
	t.Helper()
	dir := t.TempDir()
	account, _ := newKeys(t, nkeys.CreateAccount)
	user, _ := newKeys(t, nkeys.CreateUser)
	seed, err := user.Seed()
	if err != nil {
		t.Fatal(err)
	}
	creds := (&tenant{TB: t, keys: account}).creds(filepath.Join(dir, "nats.creds"), time.Now().Add(time.Hour))
	nkey := put(t, filepath.Join(dir, "user.nk"), string(seed))
	ca := newAuthority(t)
	return []setting{
		{
			"nats-creds", "NATS_CREDS", func(c config) any { return c.nats.NATSCreds }, "",
			map[string]any{creds: creds},
			[]string{"/nowhere/nats.creds"},
			"a file with a user's JWT and seed, as nsc writes it (open /nowhere/nats.creds: no such file or directory)",
		},
		{
			"nats-nkey", "NATS_NKEY", func(c config) any { return c.nats.NATSNkey }, "",
			map[string]any{nkey: nkey},
			[]string{"/nowhere/user.nk"},
			"a file with the seed of a user's nkey, which begins with SU (open /nowhere/user.nk: no such file or directory)",
		},
		{
			"nats-ca", "NATS_CA", func(c config) any { return c.nats.NATSCA }, "",
			map[string]any{ca.file: ca.file},
			[]string{"/nowhere/ca.pem"},
			"a file with certificates in PEM (error loading or parsing rootCA file: open /nowhere/ca.pem: no such file or directory)",
		},
		// One of these alone is a fault: TestFaultsOfNATSFiles.
		{"nats-cert", "NATS_CERT", func(c config) any { return c.nats.NATSCert }, "", nil, nil, ""},
		{"nats-key", "NATS_KEY", func(c config) any { return c.nats.NATSKey }, "", nil, nil, ""},
	}
}
