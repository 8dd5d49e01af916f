package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"publish-reconciler/reconciler"
	"publish-reconciler/streams"
)

const (
	// maxBody limits what a request may bring.
	maxBody = 256 << 10
	// defaultSince is a reconcile's window when the request names none.
	defaultSince = 10 * time.Minute
	// readyTimeout limits one look at Postgres.
	readyTimeout = 2 * time.Second
)

// handler serves the operators' requests.
func (s *service) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.HandleFunc("GET /readyz", s.serveReady)
	mux.Handle("POST /publishing/reconcile", s.authorized(s.serveReconcile))
	return http.MaxBytesHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, pattern := mux.Handler(r); pattern == "" {
			w = &refusal{ResponseWriter: w, request: r}
		}
		mux.ServeHTTP(w, r)
	}), maxBody)
}

// refusal turns the mux's own 404 and 405 into JSON; its Allow header stays.
type refusal struct {
	http.ResponseWriter
	request *http.Request
}

func (r *refusal) WriteHeader(status int) {
	text := "nothing is served at %s %s"
	if status == http.StatusMethodNotAllowed {
		text = "%s is not allowed at %s"
	}
	writeError(r.ResponseWriter, status, fmt.Errorf(text, r.request.Method, r.request.URL.Path))
}

func (r *refusal) Write(text []byte) (int, error) { return len(text), nil }

// serveReady tells whether Postgres, NATS and the consumers work: 200 when all do, else 503.
func (s *service) serveReady(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	_, postgres := s.store.Now(ctx)
	var nats error
	if !s.nc.IsConnected() {
		nats = fmt.Errorf("not connected to %s", redactNATS(s.cfg.natsURL))
	}
	status, parts := http.StatusOK, map[string]string{}
	for name, err := range map[string]error{"postgres": postgres, "nats": nats, "consumers": s.consumer.Ready()} {
		parts[name] = "ok"
		if err != nil {
			status, parts[name] = http.StatusServiceUnavailable, err.Error()
		}
	}
	writeJSON(w, status, parts)
}

// serveReconcile sweeps now, and answers when it is done.
func (s *service) serveReconcile(w http.ResponseWriter, r *http.Request) {
	since, status, err := readSince(r)
	if err != nil {
		writeError(w, status, err)
		return
	}
	// A large backlog takes longer than other answers may.
	if err := http.NewResponseController(w).SetWriteDeadline(time.Time{}); err != nil {
		writeError(w, http.StatusInternalServerError, err)
		return
	}
	result, err := s.reconciler.Sweep(r.Context(), reconciler.SweepRequest{Since: since, Trigger: reconciler.TriggerAPI})
	if err != nil {
		s.logger.WarnContext(r.Context(), "reconcile broke off", "total_checked", result.TotalChecked, "err", err)
		writeError(w, http.StatusServiceUnavailable, fmt.Errorf("broke off after %d logs: %w", result.TotalChecked, err))
		return
	}
	writeJSON(w, http.StatusOK, result)
}

// readSince reads the window from the query, else from a JSON body as publish.sweep has it. Status goes with
// an error.
func readSince(r *http.Request) (since time.Duration, status int, err error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
			return 0, http.StatusRequestEntityTooLarge, fmt.Errorf("the body is too large: it must be at most %d bytes", maxBody)
		}
		return 0, http.StatusBadRequest, fmt.Errorf("read the body: %w", err)
	}
	if len(body) > 0 && !json.Valid(body) {
		return 0, http.StatusUnsupportedMediaType, errors.New("the body is not JSON")
	}
	sweep, err := streams.DecodeSweep(body)
	if err != nil {
		return 0, http.StatusBadRequest, err
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return 0, http.StatusBadRequest, fmt.Errorf("the query can't be read: %w", err)
	}
	for name := range query {
		if name != "since_minutes" {
			return 0, http.StatusBadRequest, fmt.Errorf("parameter %q is not known: only since_minutes is", name)
		}
	}
	values := query["since_minutes"]
	switch {
	case len(values) > 1, len(values) == 1 && sweep.Since > 0:
		return 0, http.StatusBadRequest, errors.New("since_minutes is given more than once")
	case len(values) == 1:
		since, err = streams.ParseSinceMinutes(values[0])
	default:
		since = cmp.Or(sweep.Since, defaultSince)
	}
	return since, http.StatusBadRequest, err
}

// authorized wants the API token, if there is one.
func (s *service) authorized(next http.HandlerFunc) http.Handler {
	want := sha256.Sum256([]byte(s.cfg.apiToken))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		got := sha256.Sum256([]byte(strings.TrimSpace(token))) // equal lengths, so that time tells nothing
		if s.cfg.apiToken != "" && (!strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(got[:], want[:]) == 0) {
			w.Header().Set("WWW-Authenticate", "Bearer")
			writeError(w, http.StatusUnauthorized, errors.New("a valid token is needed: Authorization: Bearer …"))
			return
		}
		next(w, r)
	})
}

func writeError(w http.ResponseWriter, status int, err error) {
	writeJSON(w, status, map[string]string{"error": err.Error()})
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(value) // the client went away
}
