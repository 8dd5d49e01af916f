package streamstest_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"publish-reconciler/streams/streamstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestServer(t *testing.T) {
	t.Parallel()
	for name, port := range map[string]int{"on a port": 0, "in process": -1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, err := streamstest.Start(t.Context(), streamstest.Config{Dir: t.TempDir(), Port: port, ServerName: "ana"})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(server.Stop)
			url := server.URL()
			if (url == "") != (port < 0) {
				t.Errorf("URL is %q", url)
			}
			js := server.JetStream(t)
			if name := js.Conn().ConnectedServerName(); name != "ana" {
				t.Errorf("server's name is %q", name)
			}
			if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}}); err != nil {
				t.Fatal(err)
			}
			if _, err := js.Publish(t.Context(), "s", []byte("kept")); err != nil {
				t.Fatal(err)
			}
			for _, again := range []func(){
				func() {},
				server.Halt, // and then Restart: an outage
			} {
				again()
				if err := server.Restart(t.Context()); err != nil {
					t.Fatal(err)
				}
				if server.URL() != url {
					t.Errorf("URL became %q", server.URL())
				}
				ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
				for {
					msg, err := readFirst(ctx, js)
					if err == nil && string(msg.Data) == "kept" {
						break
					}
					if ctx.Err() != nil {
						t.Fatalf("after the restart: %v", err)
					}
				}
				cancel()
			}
			server.Stop()
			server.Stop()
			if _, err := server.Connect(nats.Timeout(time.Second)); err == nil {
				t.Error("a stopped server takes connections")
			}
		})
	}
}

func readFirst(ctx context.Context, js jetstream.JetStream) (*jetstream.RawStreamMsg, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	stream, err := js.Stream(ctx, "S")
	if err != nil {
		return nil, err
	}
	return stream.GetMsg(ctx, 1)
}

func TestPortTaken(t *testing.T) {
	t.Parallel()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	port := listener.Addr().(*net.TCPAddr).Port
	start := time.Now()
	_, err = streamstest.Start(t.Context(), streamstest.Config{Dir: t.TempDir(), Port: port})
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "is not free for the embedded NATS server") || strings.Contains(err.Error(), "\n") {
		t.Errorf("error is %v", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestStoreUnusable(t *testing.T) {
	t.Parallel()
	file := t.TempDir() + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	_, err := streamstest.Start(t.Context(), streamstest.Config{Dir: file})
	if err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("error is %v", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestTemporaryStore(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	server, err := streamstest.Start(t.Context(), streamstest.Config{Port: -1})
	if err != nil {
		t.Fatal(err)
	}
	js := server.JetStream(t)
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}}); err != nil {
		t.Fatal(err)
	}
	js.Conn().Close()
	if left := files(t, tmp); left == 0 {
		t.Fatal("the store is elsewhere")
	}
	server.Stop()
	if left := files(t, tmp); left != 0 {
		t.Errorf("%d files are left", left)
	}

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := streamstest.Start(ended, streamstest.Config{Port: 1}); err == nil {
		t.Error("it started on port 1 after its context had ended")
	}
	if left := files(t, tmp); left != 0 {
		t.Errorf("a start that failed left %d files", left)
	}
}

func files(t *testing.T, dir string) int {
	t.Helper()
	n := -1 // the directory itself
	if err := fs.WalkDir(os.DirFS(dir), ".", func(string, fs.DirEntry, error) error { n++; return nil }); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestLogger(t *testing.T) {
	t.Parallel()
	var lines safeBuffer
	logger := slog.New(slog.NewTextHandler(&lines, &slog.HandlerOptions{Level: slog.LevelDebug}))
	server, err := streamstest.Start(t.Context(), streamstest.Config{Dir: t.TempDir(), Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	server.Stop()
	for _, want := range []string{`level=DEBUG msg="nats server" line="Server is ready"`, "Initiating Shutdown"} {
		if !strings.Contains(lines.String(), want) {
			t.Errorf("the log does not say %s:\n%s", want, lines.String())
		}
	}
}

type safeBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

// The dev command links this package: testing and its flags must not come along.
func TestDoesNotLinkTesting(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for dep := range strings.Lines(string(out)) {
		if dep = strings.TrimSpace(dep); dep == "testing" || strings.HasPrefix(dep, "go.uber.org/goleak") {
			t.Errorf("%s is linked", dep)
		}
	}
}

func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		server, err := streamstest.Start(b.Context(), streamstest.Config{})
		if err != nil {
			b.Fatal(err)
		}
		server.Stop()
	}
}
