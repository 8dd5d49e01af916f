package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// retryAfter is when a request that was answered with 503 may come again, in seconds.
const retryAfter = 5

// route is where HTTP has an endpoint, and where its parameters stand there.
type route struct {
	pattern     string
	endpoint    string
	query, body bool
}

var routes = []route{
	{pattern: "POST /publishing/reconcile", endpoint: "reconcile", query: true, body: true},
	{pattern: "POST /publishing/logs/{" + paramLogID + "}/override", endpoint: "override", body: true},
	{pattern: "GET /publishing/logs/{" + paramLogID + "}", endpoint: "log"},
	{pattern: "GET /publishing/logs", endpoint: "logs", query: true},
	{pattern: "GET /publishing/status", endpoint: "status"},
}

// handler serves the operators' requests, and webhooks.
func (o *operator) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.HandleFunc("GET /readyz", o.serveReady)
	mux.Handle("GET /metrics", o.metrics.Handler())
	mux.HandleFunc(routeWebhook, o.serveWebhook)
	mux.HandleFunc(routeSubscription, o.serveSubscription)
	mux.Handle("GET /asyncapi.json", o.authorized(serveContract))
	endpoints := make(map[string]endpoint)
	for _, e := range o.endpoints() {
		endpoints[e.name] = e
	}
	for _, r := range routes {
		mux.Handle(r.pattern, o.authorized(o.serveEndpoint(endpoints[r.endpoint], r)))
	}
	if o.cfg.console != consoleOff {
		o.console().Register(mux)
	}
	// On loopback there may be no token: a web page must neither do what its visitor did not ask for, nor read.
	crossOrigin := http.NewCrossOriginProtection()
	return http.MaxBytesHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := crossOrigin.Check(r); err != nil {
			writeError(w, statusError{http.StatusForbidden, err})
			return
		}
		_, pattern := mux.Handler(r)
		if !open[pattern] {
			if err := o.checkHost(r); err != nil {
				writeError(w, err)
				return
			}
		}
		if pattern == "" {
			w = &refusal{ResponseWriter: w, request: r}
		}
		mux.ServeHTTP(w, r)
	}), maxBody)
}

// open is what may be asked by any name: what everybody may ask, and what platforms ask, who prove that it is them.
var open = map[string]bool{"GET /healthz": true, "GET /readyz": true, "GET /metrics": true, routeWebhook: true, routeSubscription: true}

// checkHost refuses a name that is not this machine's, where no token is asked for.
func (o *operator) checkHost(r *http.Request) error {
	if o.cfg.apiToken == "" && !namesThisMachine(r.Host) {
		return statusError{http.StatusForbidden, fmt.Errorf("without an API token only this machine is served, by the name localhost or a loopback address, and not as %q", r.Host)}
	}
	return nil
}

// namesThisMachine tells whether a Host header names this machine. Without a token requests are served to whoever sits
// there; another site's name that was made to lead here must not pass for it (DNS rebinding).
func namesThisMachine(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.Trim(host, "[]")
	}
	return isLoopback(strings.ToLower(name))
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
	writeError(r.ResponseWriter, statusError{status, fmt.Errorf(text, r.request.Method, r.request.URL.Path)})
}

func (r *refusal) Write(text []byte) (int, error) { return len(text), nil }

// serveReady tells whether Postgres, NATS and the consumers work: 200 when all do, else 503.
func (o *operator) serveReady(w http.ResponseWriter, r *http.Request) {
	parts, all := o.ready(r.Context())
	status := http.StatusOK
	if !all {
		status = http.StatusServiceUnavailable
	}
	writeJSON(w, status, parts)
}

func (o *operator) serveEndpoint(e endpoint, route route) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		p, err := readParams(r, e, route)
		if err != nil {
			writeError(w, badRequest(err))
			return
		}
		if e.long {
			// A large backlog takes longer than other answers may.
			if err := http.NewResponseController(w).SetWriteDeadline(time.Time{}); err != nil {
				writeError(w, err)
				return
			}
		}
		answer, err := o.do(r.Context(), e, p)
		if err != nil {
			writeError(w, err)
			return
		}
		write(w, http.StatusOK, answer)
	}
}

// readParams reads what the path, the query and the body of a request name.
func readParams(r *http.Request, e endpoint, route route) (params, error) {
	p := params{}
	var inQuery, inBody []string
	for _, name := range e.params {
		if value := r.PathValue(name); value != "" {
			p[name] = value
			continue
		}
		if route.query {
			inQuery = append(inQuery, name)
		}
		if route.body {
			inBody = append(inBody, name)
		}
	}
	if route.body {
		body, err := readBody(r)
		if err != nil {
			return nil, err
		}
		if err := p.addJSON(body, inBody); err != nil {
			return nil, err
		}
	}
	return p, p.addQuery(r.URL.RawQuery, inQuery)
}

func readBody(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(r.Body)
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return nil, errTooLarge
	}
	if err != nil { // it did not arrive: another try may
		return nil, statusError{http.StatusRequestTimeout, errors.New("the body did not arrive whole, and in time")}
	}
	return body, nil
}

func (o *operator) authorized(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := o.authorize(r.Header.Get("Authorization")); err != nil {
			w.Header().Set("WWW-Authenticate", "Bearer")
			writeError(w, err)
			return
		}
		next(w, r)
	})
}

type errorAnswer struct {
	Error string `json:"error"`
}

func writeError(w http.ResponseWriter, err error) {
	known := translate(err)
	if known.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
	}
	write(w, known.status, encodeError(known))
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	answer, err := encode(value)
	if err != nil {
		writeError(w, statusError{http.StatusInternalServerError, err})
		return
	}
	write(w, status, answer)
}

func write(w http.ResponseWriter, status int, answer []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(answer)
}
