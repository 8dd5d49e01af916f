// Package pgtest starts a private Postgres from the machine's own programs, for `dev` and for tests.
//
// A server lives in one directory:
//
//	<Dir>/pgdata        the cluster, made by initdb on the first start
//	<Dir>/socket        the unix socket (in a temporary directory when the path of Dir is too long for one)
//	<Dir>/pg_hba.conf   who may connect, written anew at every start
//	<Dir>/postgres.log  what initdb and postgres said, emptied at every start
//
// Dir stays locked while the server runs. Postgres runs as the caller; as root, which Postgres refuses to
// run as, it runs as the owner of an existing cluster, else as the user postgres, else as nobody. It ends
// with the process that started it: by [Server.Stop], and on Linux also when that process is killed. On
// other systems a killed process leaves its Postgres running.
//
// Where the machine has no Postgres programs they are downloaded once, see [Download].
//
// Linux and macOS are supported. Elsewhere the package compiles and Start returns [errors.ErrUnsupported].
//
// Tests take a database each from the sub-package pgtestdb, so that `dev` does not link package testing.
package pgtest
