package repo_test

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"publish-reconciler/reconciler"
	"publish-reconciler/repo"
)

// relay passes on to a server and counts the round trips: the messages to which Postgres answers with
// ReadyForQuery, which are Sync and Query (PostgreSQL manual, 55.7).
type relay struct {
	trips atomic.Int64
	url   string
}

func startRelay(t *testing.T, serverURL string) *relay {
	t.Helper()
	server, err := pgx.ParseConfig(serverURL)
	if err != nil {
		t.Fatal(err)
	}
	var lc net.ListenConfig
	listener, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{url: (&url.URL{
		Scheme: "postgres", User: url.UserPassword(server.User, server.Password), Host: listener.Addr().String(),
		Path: "/" + server.Database, RawQuery: "sslmode=disable",
	}).String()}
	var group sync.WaitGroup
	t.Cleanup(group.Wait)
	t.Cleanup(func() { _ = listener.Close() })
	group.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // closed
			}
			group.Go(func() { r.pass(t, client, server) })
		}
	})
	return r
}

func (r *relay) pass(t *testing.T, client net.Conn, server *pgx.ConnConfig) {
	t.Helper()
	network, address := "tcp", net.JoinHostPort(server.Host, strconv.Itoa(int(server.Port)))
	if server.Host[0] == '/' {
		network, address = "unix", server.Host+"/.s.PGSQL."+strconv.Itoa(int(server.Port))
	}
	var dialer net.Dialer
	upstream, err := dialer.DialContext(t.Context(), network, address)
	if err != nil {
		t.Error(err)
		_ = client.Close()
		return
	}
	var group sync.WaitGroup
	group.Go(func() {
		_, _ = io.Copy(client, upstream)
		_ = client.Close()
	})
	r.count(upstream, bufio.NewReader(client))
	_ = upstream.Close()
	group.Wait()
}

// count passes messages on until one side has closed.
func (r *relay) count(upstream io.Writer, client io.Reader) {
	const typed = 1 // the first message, of start-up, has no type byte
	for header := make([]byte, 4); ; header = make([]byte, typed+4) {
		if _, err := io.ReadFull(client, header); err != nil {
			return
		}
		size := binary.BigEndian.Uint32(header[len(header)-4:])
		if len(header) > 4 && (header[0] == 'S' || header[0] == 'Q') {
			r.trips.Add(1)
		}
		if _, err := upstream.Write(header); err != nil {
			return
		}
		if _, err := io.CopyN(upstream, client, int64(size)-4); err != nil {
			return
		}
	}
}

func TestABatchIsTwoRoundTrips(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	relay := startRelay(t, w.url)
	w.store = openStore(t, repo.Config{URL: relay.url})
	for name, keys := range keysOf(w.publishMany(20, 0)) {
		everything := func(locked reconciler.Locked) reconciler.Changes {
			webhook := parked(uuid.NewString(), "x", locked.Now)
			changes := reconciler.Changes{Park: []reconciler.ParkedWebhook{webhook}, Unpark: []uuid.UUID{webhook.ID}}
			for _, log := range locked.Logs {
				changes.Rows = append(changes.Rows, reconciler.RowChange{LogID: log.ID, Status: "processing"})
				changes.Ledger = append(changes.Ledger, reconciler.Event{ID: uuid.New(), LogID: log.ID, Type: "t", Severity: "info"})
			}
			return changes
		}
		w.transact(keys, everything) // connects and prepares the statements
		const batches = 10
		before := relay.trips.Load()
		for range batches {
			w.transact(keys, everything)
		}
		equal(t, name+": round trips of a batch", float64(relay.trips.Load()-before)/batches, 2.0)
	}
	equal(t, "written", one[int](w, `SELECT count(*) FROM ledger_events`), 2*11*20)
}
