package streams_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"publish-reconciler/streams"
	"publish-reconciler/streams/streamstest"
)

func TestCheckVersion(t *testing.T) {
	t.Parallel()
	const need = "publish-reconciler needs 2.14 or later, for message schedules"
	for found, want := range map[string]string{
		"2.14.0":      "",
		"2.14.0-RC.1": "",
		"2.14":        "",
		"2.15.2":      "",
		"v2.14.1":     "",
		"3.0.0":       "",
		"2.13.99":     "NATS server 2.13.99 is too old: " + need,
		"2.9.10":      "NATS server 2.9.10 is too old: " + need,
		"1.99.0":      "NATS server 1.99.0 is too old: " + need,
		"garbage":     `NATS server has the version "garbage", which is not understood: ` + need,
		"2":           `NATS server has the version "2", which is not understood: ` + need,
		"2.x.1":       `NATS server has the version "2.x.1", which is not understood: ` + need,
		"-2.14.0":     `NATS server has the version "-2.14.0", which is not understood: ` + need,
	} {
		t.Run(found, func(t *testing.T) {
			t.Parallel()
			err := streams.CheckVersion(found)
			if want == "" {
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				return
			}
			var tooOld *streams.VersionError
			if !errors.As(err, &tooOld) || tooOld.Found != found || tooOld.Need != "2.14" {
				t.Fatalf("error is %#v", err)
			}
			if err.Error() != want {
				t.Errorf("error is\n%s, want\n%s", err, want)
			}
		})
	}
}

func TestCheckServerTooOld(t *testing.T) {
	t.Parallel()
	js := connect(t, fakeServer(t, "2.9.10"))
	for name, err := range map[string]error{
		"CheckServer": streams.CheckServer(t.Context(), js),
		"Ensure":      streams.Ensure(t.Context(), js, streams.Config{}),
		"Verify":      streams.Verify(t.Context(), js, streams.Config{}),
	} {
		const want = "NATS server 2.9.10 is too old: publish-reconciler needs 2.14 or later, for message schedules"
		var tooOld *streams.VersionError
		if !errors.As(err, &tooOld) || err.Error() != want {
			t.Errorf("%s: error is %v, want %s", name, err, want)
		}
	}
}

func TestCheckServer(t *testing.T) {
	t.Parallel()
	t.Run("new enough", func(t *testing.T) {
		t.Parallel()
		if err := streams.CheckServer(t.Context(), streamstest.New(t).JetStream(t)); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("JetStream off on the server", func(t *testing.T) {
		t.Parallel()
		js := connect(t, plainServer(t, &natsserver.Options{}))
		err := streams.CheckServer(t.Context(), js)
		if !errors.Is(err, jetstream.ErrJetStreamNotEnabled) || !strings.HasPrefix(err.Error(), "JetStream is off on the NATS server 127.0.0.1:") {
			t.Errorf("error is %v", err)
		}
	})
	t.Run("JetStream off for the account", func(t *testing.T) {
		t.Parallel()
		poor := natsserver.NewAccount("POOR")
		js := connect(t, plainServer(t, &natsserver.Options{
			JetStream: true, StoreDir: t.TempDir(),
			Accounts: []*natsserver.Account{poor},
			Users:    []*natsserver.User{{Username: "poor", Password: "secret", Account: poor}},
		}), nats.UserInfo("poor", "secret"))
		err := streams.CheckServer(t.Context(), js)
		if !errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount) || !strings.HasPrefix(err.Error(), "JetStream is not enabled for this account of the NATS server 127.0.0.1:") {
			t.Errorf("error is %v", err)
		}
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("error tells the password: %v", err)
		}
	})
	t.Run("not connected", func(t *testing.T) {
		t.Parallel()
		js := streamstest.New(t).JetStream(t)
		js.Conn().Close()
		if err := streams.CheckServer(t.Context(), js); !errors.Is(err, nats.ErrDisconnected) {
			t.Errorf("error is %v", err)
		}
	})
}

func connect(t *testing.T, url string, opts ...nats.Option) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(url, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// plainServer runs a server that streamstest would not: one without JetStream, or without it for a user.
func plainServer(t *testing.T, opts *natsserver.Options) string {
	t.Helper()
	opts.Host, opts.Port, opts.NoSigs, opts.NoLog = "127.0.0.1", natsserver.RANDOM_PORT, true, true
	server, err := natsserver.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	server.Start()
	t.Cleanup(func() { server.Shutdown(); server.WaitForShutdown() })
	if !server.ReadyForConnections(patience) {
		t.Fatal("server is not ready")
	}
	return server.ClientURL()
}

// fakeServer is no NATS server: it speaks just enough of the protocol for a client to believe that it is
// connected to a server of the given version. An old server can't be linked beside the new one, and the
// test must not depend on what the machine has installed.
func fakeServer(t *testing.T, version string) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(patience))
		_, _ = fmt.Fprintf(conn, "INFO {\"server_id\":\"FAKE\",\"version\":%q,\"proto\":1,\"headers\":true,\"max_payload\":1048576,\"jetstream\":true}\r\n", version)
		for lines := bufio.NewReader(conn); ; {
			line, err := lines.ReadString('\n')
			if err != nil {
				return
			}
			if line == "PING\r\n" {
				_, _ = io.WriteString(conn, "PONG\r\n")
			}
		}
	}()
	t.Cleanup(func() { _ = listener.Close(); <-ended })
	return "nats://" + listener.Addr().String()
}
