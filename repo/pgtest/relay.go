package pgtest

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	answerWithin   = 20 * time.Second // until a repository begins to answer
	downloadWithin = 5 * time.Minute  // for one file of 10 to 20 MB
)

// relay is a repository on a loopback port that passes requests on to the real one. The library downloads
// without a context, without a time limit, and drops the cause when it fails; through the relay it has all
// three.
type relay struct {
	target   string
	logger   *slog.Logger
	client   *http.Client
	listener net.Listener
	server   *http.Server
	served   chan struct{}

	mu    sync.Mutex
	cause error // the first
}

func startRelay(ctx context.Context, target string, logger *slog.Logger) (*relay, error) {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for downloads: %w", err)
	}
	r := &relay{
		target: strings.TrimSuffix(target, "/"),
		logger: logger,
		client: &http.Client{
			Timeout: downloadWithin,
			Transport: &http.Transport{
				Proxy:                 http.ProxyFromEnvironment,
				DialContext:           (&net.Dialer{Timeout: answerWithin}).DialContext,
				TLSHandshakeTimeout:   answerWithin,
				ResponseHeaderTimeout: answerWithin,
				ForceAttemptHTTP2:     true,
				DisableKeepAlives:     true, // two requests, and nothing left behind
			},
		},
		listener: listener,
		served:   make(chan struct{}),
	}
	r.server = &http.Server{
		Handler:           r,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ReadHeaderTimeout: answerWithin,
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	go func() {
		defer close(r.served)
		_ = r.server.Serve(listener) // ends by stop
	}()
	return r, nil
}

func (r *relay) url() string { return "http://" + r.listener.Addr().String() }

// stop ends the relay and returns why a request failed, nil if none did.
func (r *relay) stop() error {
	_ = r.server.Close() // it only listened
	<-r.served
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cause
}

func (r *relay) ServeHTTP(w http.ResponseWriter, in *http.Request) {
	err := r.pass(w, in)
	if err == nil {
		return
	}
	r.mu.Lock()
	if r.cause == nil {
		r.cause = err
	}
	r.mu.Unlock()
	panic(http.ErrAbortHandler) // cuts the connection, or half an archive would look whole
}

func (r *relay) pass(w http.ResponseWriter, in *http.Request) error {
	from := r.target + in.URL.EscapedPath()
	checksum := strings.HasSuffix(from, ".sha256")
	if !checksum {
		r.logger.Info("downloading postgres", "url", from)
	}
	out, err := http.NewRequestWithContext(in.Context(), http.MethodGet, from, nil)
	if err != nil {
		return err
	}
	res, err := r.client.Do(out)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusNotFound && checksum {
		http.NotFound(w, in) // not every mirror keeps checksums, and the library does without
		return nil
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("get %s: %s", from, res.Status)
	}
	if res.ContentLength >= 0 {
		w.Header().Set("Content-Length", fmt.Sprint(res.ContentLength))
	}
	if _, err := io.Copy(w, res.Body); err != nil {
		return fmt.Errorf("get %s: %w", from, err)
	}
	return nil
}
