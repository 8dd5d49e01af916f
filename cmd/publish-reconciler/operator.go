package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"publish-reconciler/reconciler"
)

const (
	// maxBody limits what a request may bring.
	maxBody = 256 << 10
	// maxPage is where a list's page ends before its limit, so that NATS can carry it (1 MiB by default).
	maxPage = 512 << 10
	// maxListedMetadata is the most extra_metadata that a row of a list shows: others may write anything there.
	maxListedMetadata = 256 << 10
	// answerTimeout limits every answer but a reconcile's. It is shorter than a command's patience, so that
	// the command hears what took so long.
	answerTimeout = 8 * time.Second
	// readyTimeout limits one look at Postgres.
	readyTimeout = 2 * time.Second
)

// operator answers what operators ask, the same over HTTP and NATS.
type operator struct {
	*service
	rules rules
	logs  logs
	// stop ends what takes long.
	stop   <-chan struct{}
	hourly hourly
	forged forgeries
}

// rules is what an operator can have done. The errors are reconciler's.
type rules interface {
	Sweep(ctx context.Context, request reconciler.SweepRequest) (reconciler.SweepResult, error)
	Override(ctx context.Context, override reconciler.Override) (reconciler.StateChange, error)
}

// logs is what an operator can read. What is not there is [reconciler.ErrNotFound].
type logs interface {
	View(ctx context.Context, id uuid.UUID) (reconciler.View, error)
	List(ctx context.Context, filter reconciler.Filter) (rows []reconciler.Row, more bool, err error)
}

// endpoint is one thing that operators ask, over every door by the same name.
type endpoint struct {
	name        string
	description string
	// params are all that a request may name.
	params []string
	answer func(context.Context, params) (any, error)
	// long: the answer takes as long as it takes.
	long bool
}

func (o *operator) endpoints() []endpoint {
	return []endpoint{
		{name: "reconcile", description: "Sweep now, and answer with what was done", params: []string{paramSince}, answer: o.reconcile, long: true},
		{name: "override", description: "Set a log's status by hand", params: []string{paramLogID, paramStatus, paramActor, paramNote}, answer: o.override},
		{name: "log", description: "One log, its history, and why it is in its state", params: []string{paramLogID}, answer: o.log},
		{name: "logs", description: "Logs, newest first", params: []string{paramStatus, paramPlatform, paramReason, paramBefore, paramLimit}, answer: o.list},
		{name: "status", description: "Whether all is well, and what is open", answer: o.status},
	}
}

// do answers a request. The error is a [statusError].
func (o *operator) do(ctx context.Context, e endpoint, p params) ([]byte, error) {
	if !e.long {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, answerTimeout)
		defer cancel()
	}
	value, err := e.answer(ctx, p)
	if err != nil {
		return nil, translate(err)
	}
	answer, err := encode(value)
	if err != nil {
		return nil, statusError{http.StatusInternalServerError, err}
	}
	return answer, nil
}

// statusError is an error that is answered with a status, HTTP's.
type statusError struct {
	status int
	err    error
}

// Error is one line, as the headers of NATS need it.
func (e statusError) Error() string { return strings.ReplaceAll(e.err.Error(), "\n", "; ") }

func (e statusError) Unwrap() error { return e.err }

func badRequest(err error) error {
	if _, known := errors.AsType[statusError](err); known || err == nil {
		return err
	}
	return statusError{http.StatusBadRequest, err}
}

// translate gives the errors of the lower layers their status. What it does not know is Postgres or NATS away.
func translate(err error) statusError {
	if known, ok := errors.AsType[statusError](err); ok {
		return known
	}
	for status, cause := range map[int]error{
		http.StatusBadRequest: reconciler.ErrRefused,
		http.StatusNotFound:   reconciler.ErrNotFound,
		http.StatusConflict:   reconciler.ErrNoChange,
	} {
		if errors.Is(err, cause) {
			return statusError{status, err}
		}
	}
	return statusError{http.StatusServiceUnavailable, err}
}

var errTooLarge = statusError{http.StatusRequestEntityTooLarge, fmt.Errorf("the body is too large: it must be at most %d bytes", maxBody)}

// authorize wants the API token, if there is one, in an Authorization header.
func (o *operator) authorize(header string) error {
	scheme, token, _ := strings.Cut(header, " ")
	// Equal lengths, so that time tells nothing.
	got, want := sha256.Sum256([]byte(strings.TrimSpace(token))), sha256.Sum256([]byte(o.cfg.apiToken))
	if o.cfg.apiToken != "" && (!strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(got[:], want[:]) == 0) {
		return statusError{http.StatusUnauthorized, errors.New("a valid token is needed: Authorization: Bearer …")}
	}
	return nil
}

// encode is an answer's JSON. It fails for what others wrote and JSON can't hold, such as the year 10000.
func encode(value any) ([]byte, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, fmt.Errorf("the answer can't be written: %w", err)
	}
	return text.Bytes(), nil
}

// encodeError is the JSON of every answer that is an error.
func encodeError(err statusError) []byte {
	text, _ := encode(errorAnswer{err.Error()}) // a string is always JSON
	return text
}

// reconcile sweeps now, and answers when it is done.
func (o *operator) reconcile(ctx context.Context, p params) (any, error) {
	since, err := p.since()
	if err != nil {
		return nil, badRequest(err)
	}
	// Webhooks wait there, and nobody can be asked: silence says nothing.
	if err := o.connected(); err != nil {
		return nil, err
	}
	result, err := o.rules.Sweep(ctx, reconciler.SweepRequest{Since: since, Trigger: reconciler.TriggerAPI, Stop: o.stop})
	if err != nil {
		o.logger.WarnContext(ctx, "reconcile broke off", "total_checked", result.TotalChecked, "err", err)
		return nil, statusError{http.StatusServiceUnavailable, fmt.Errorf("broke off after %d logs: %w", result.TotalChecked, err)}
	}
	return result, nil
}

type overrideAnswer struct {
	LogID uuid.UUID         `json:"log_id"`
	From  reconciler.Status `json:"from"`
	To    reconciler.Status `json:"to"`
	Actor string            `json:"actor"`
	Note  string            `json:"note"`
	Time  time.Time         `json:"time"`
}

func (o *operator) override(ctx context.Context, p params) (any, error) {
	override, err := p.override()
	if err != nil {
		return nil, badRequest(err)
	}
	change, err := o.rules.Override(ctx, override)
	if err != nil {
		return nil, err
	}
	return overrideAnswer{change.LogID, change.From, change.To, override.Actor, override.Note, change.Time}, nil
}

func (o *operator) log(ctx context.Context, p params) (any, error) {
	id, err := p.logID()
	if err != nil {
		return nil, badRequest(err)
	}
	view, err := o.logs.View(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("log %s: %w", id, err)
	}
	if o.cfg.policy.HoldMax == 0 {
		view.Hold = nil // one that is left from when logs were held
	}
	// Without it the explanation says "the next sweep", and not when.
	if next, err := o.scheduler.NextSweep(ctx); err == nil && !next.At.IsZero() {
		view.NextSweep = &next.At
	}
	return logAnswer{view, o.cfg.policy.Explain(view)}, nil
}

// logAnswer is one log with all that is known about it, flat.
type logAnswer struct {
	reconciler.View
	Explanation reconciler.Explanation `json:"explanation"`
}

type logsAnswer struct {
	Logs []json.RawMessage `json:"logs"`
	// Next is what the next page's before takes; nil on the last page.
	Next *uuid.UUID `json:"next"`
}

func (o *operator) list(ctx context.Context, p params) (any, error) {
	filter, err := p.filter()
	if err != nil {
		return nil, badRequest(err)
	}
	rows, more, err := o.logs.List(ctx, filter)
	switch {
	case errors.Is(err, reconciler.ErrNotFound):
		return nil, fmt.Errorf("before is %s: %w", filter.BeforeID, err)
	case err != nil:
		return nil, fmt.Errorf("list logs: %w", err)
	}
	answer := logsAnswer{Logs: []json.RawMessage{}}
	size := 0
	for i, row := range rows {
		if n := len(row.ExtraMetadata); n > maxListedMetadata {
			row.ExtraMetadata = fmt.Appendf(nil, `{"omitted":"%d bytes: they stand in the log itself"}`, n)
		}
		encoded, err := encode(row)
		if err != nil {
			return nil, statusError{http.StatusInternalServerError, fmt.Errorf("log %s: %w", row.ID, err)}
		}
		if size += len(encoded); size > maxPage && i > 0 {
			rows, more = rows[:i], true
			break
		}
		answer.Logs = append(answer.Logs, encoded)
	}
	if more {
		answer.Next = &rows[len(rows)-1].ID
	}
	return answer, nil
}

func (o *operator) connected() error {
	if !o.nc.IsConnected() {
		return o.state.notConnected(o.cfg.nats.NATSURL)
	}
	return nil
}
