package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"publish-reconciler/streams"
)

const (
	// patience is how long a command waits for the service's answer, sweepPatience how long for a sweep.
	patience      = 10 * time.Second
	sweepPatience = 10 * time.Minute
)

// access is how a command reaches the running service, and how it prints what that answers.
type access struct {
	natsAccess `embed:""`
	APIToken   string `name:"api-token" env:"API_TOKEN" help:"The service's token, if it has one."`
	JSON       bool   `name:"json" help:"Print the answer as JSON."`
}

// ask has the running service answer, and prints the answer by show, or as JSON.
func ask[T any](ctx context.Context, out output, a access, endpoint string, p params, wait time.Duration, show func(io.Writer, T)) error {
	text, err := a.request(ctx, endpoint, p, wait)
	if err != nil {
		return err
	}
	if a.JSON {
		_, err = out.stdout.Write(visibleJSON(text))
		return err
	}
	var answer T
	if err := json.Unmarshal(text, &answer); err != nil {
		return fmt.Errorf("the answer can't be read: is the service of another version? %w", err)
	}
	show(out.stdout, answer)
	return nil
}

// request returns what the service answers. An error that lies in the request is a [usageError].
func (a access) request(ctx context.Context, endpoint string, p params, wait time.Duration) (text []byte, err error) {
	body, err := p.body()
	if err != nil {
		return nil, err
	}
	err = a.with(ctx, func(ctx context.Context, nc *nats.Conn) error {
		text, err = a.requestOn(ctx, nc, endpoint, body, wait)
		return err
	})
	return text, err
}

func (a access) requestOn(ctx context.Context, nc *nats.Conn, endpoint string, body []byte, wait time.Duration) ([]byte, error) {
	msg := nats.NewMsg(streams.APISubject(endpoint))
	msg.Data = body
	msg.Header = authorization(httpSettings{APIToken: a.APIToken}.token())
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	answer, err := nc.RequestMsgWithContext(waiting, msg)
	switch {
	case ctx.Err() != nil:
		return nil, errors.New("stopped before the service answered: it may do all the same what it was asked to")
	case errors.Is(err, nats.ErrNoResponders):
		return nil, fmt.Errorf("nobody answers on %s at %s: is the service running (publish-reconciler run)?", msg.Subject, redactNATS(a.NATSURL))
	case waiting.Err() != nil:
		return nil, fmt.Errorf("the service did not answer within %s: it may do all the same what it was asked to", short(wait))
	case err != nil:
		return nil, fmt.Errorf("ask the service at %s: %w", redactNATS(a.NATSURL), err)
	}
	return answer.Data, refusedBy(answer)
}

// with connects and does something, until the server refuses a part of it: the answer to that would never come.
func (s natsAccess) with(ctx context.Context, do func(context.Context, *nats.Conn) error) error {
	ctx, refuse := context.WithCancelCause(ctx)
	defer refuse(nil)
	nc, err := s.connect(nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		if errors.Is(err, nats.ErrPermissionViolation) {
			refuse(err)
		}
	}))
	if err != nil {
		return err
	}
	defer nc.Close()
	return orRefusal(ctx, do(ctx, nc))
}

// refusedBy is the service's error, if its answer is one.
func refusedBy(answer *nats.Msg) error {
	code := answer.Header.Get(micro.ErrorCodeHeader)
	if code == "" {
		return nil
	}
	var told errorAnswer
	_ = json.Unmarshal(answer.Data, &told) // else the header has it
	err := errors.New(visible(cmp.Or(told.Error, answer.Header.Get(micro.ErrorHeader))))
	if code == strconv.Itoa(http.StatusBadRequest) {
		return usageError{err}
	}
	return err
}

type reconcileCommand struct {
	access       `embed:""`
	SinceMinutes string `name:"since-minutes" default:"10" help:"Silence of how many minutes is too long: 1 to 1440."`
}

func (c *reconcileCommand) run(ctx context.Context, out output) error {
	p := params{paramSince: c.SinceMinutes}
	if _, err := p.since(); err != nil {
		return usageError{err}
	}
	return ask(ctx, out, c.access, "reconcile", p, sweepPatience, printSweep)
}

type overrideCommand struct {
	access `embed:""`
	LogID  string `arg:"" name:"id" help:"The log's id."`
	Status string `arg:"" name:"status" values:"success,failed" help:"success or failed."`
	Actor  string `name:"actor" required:"" help:"Who says so."`
	Note   string `name:"note" help:"Why."`
}

func (c *overrideCommand) run(ctx context.Context, out output) error {
	p := params{paramLogID: c.LogID, paramStatus: c.Status, paramActor: c.Actor, paramNote: c.Note}
	if _, err := p.override(); err != nil {
		return usageError{err}
	}
	return ask(ctx, out, c.access, "override", p, patience, printOverride)
}

type showCommand struct {
	access `embed:""`
	LogID  string `arg:"" name:"id" help:"The log's id."`
}

func (c *showCommand) run(ctx context.Context, out output) error {
	p := params{paramLogID: c.LogID}
	if _, err := p.logID(); err != nil {
		return usageError{err}
	}
	return ask(ctx, out, c.access, "log", p, patience, printLog)
}

type listCommand struct {
	access   `embed:""`
	Status   string `name:"status" values:"pending,processing,retry,success,failed" help:"Only logs with this status."`
	Platform string `name:"platform" help:"Only logs of this platform."`
	Reason   string `name:"reason" help:"Only logs that are in their state for this reason, such as webhook_timeout."`
	Before   string `name:"before" help:"Only logs older than this one, or than this time."`
	Limit    string `name:"limit" default:"${list_limit}" help:"How many: 1 to 500."`
}

func (c *listCommand) run(ctx context.Context, out output) error {
	p := params{paramLimit: c.Limit}
	for name, value := range map[string]string{paramStatus: c.Status, paramPlatform: c.Platform, paramReason: c.Reason, paramBefore: c.Before} {
		if value != "" {
			p[name] = value
		}
	}
	if _, err := p.filter(); err != nil {
		return usageError{err}
	}
	return ask(ctx, out, c.access, "logs", p, patience, printLogs)
}
