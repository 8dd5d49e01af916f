package main

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"publish-reconciler/streams"
)

const (
	serviceName = streams.ServiceName
	// closeTimeout is how long requests in hand may take after a stop was asked for.
	closeTimeout = 2 * time.Second
	// headerAuthorization is HTTP's, in its spelling: NATS tells cases apart.
	headerAuthorization = "Authorization"
)

// natsDoors answers the operator's endpoints over NATS, one request at a time each.
type natsDoors struct {
	operator *operator
	service  micro.Service
	inHand   atomic.Int64
	cancel   context.CancelFunc // of what is in hand
	closing  sync.Once
}

// openNATS has the endpoints answer, on one replica each time, until the doors are closed.
func (o *operator) openNATS(ctx context.Context) (*natsDoors, error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	d := &natsDoors{operator: o, cancel: cancel}
	var err error
	d.service, err = micro.AddService(o.nc, micro.Config{
		Name:        serviceName,
		Version:     semanticVersion(version()),
		Description: "Closes every publish log: what operators ask and tell",
		QueueGroup:  serviceName,
	})
	if err != nil {
		cancel()
		return nil, fmt.Errorf("serve requests over nats: %w", err)
	}
	for _, e := range o.endpoints() {
		err := d.service.AddEndpoint(e.name, micro.HandlerFunc(func(r micro.Request) { d.answer(ctx, e, r) }),
			micro.WithEndpointSubject(streams.APISubject(e.name)),
			micro.WithEndpointMetadata(map[string]string{
				"description": e.description,
				"request":     strings.Join(e.params, ", "),
			}))
		if err != nil {
			d.close(ctx)
			return nil, fmt.Errorf("serve requests over nats: %w", err)
		}
	}
	return d, nil
}

func (d *natsDoors) answer(ctx context.Context, e endpoint, r micro.Request) {
	d.inHand.Add(1)
	defer d.inHand.Add(-1)
	answer, err := d.ask(ctx, e, r)
	if most := d.operator.nc.MaxPayload(); err == nil && int64(len(answer)) > most {
		err = statusError{http.StatusRequestEntityTooLarge, fmt.Errorf("the answer is %d bytes long, and the NATS server takes %d: ask for less, or over HTTP", len(answer), most)}
	}
	if err == nil {
		err = r.Respond(answer)
	} else {
		known := translate(err)
		err = r.Error(strconv.Itoa(known.status), known.Error(), encodeError(known))
	}
	if err != nil {
		d.operator.logger.DebugContext(ctx, "answer not sent", "endpoint", e.name, "err", err)
	}
}

func (d *natsDoors) ask(ctx context.Context, e endpoint, r micro.Request) ([]byte, error) {
	if err := d.operator.authorize(r.Headers().Get(headerAuthorization)); err != nil {
		return nil, err
	}
	if len(r.Data()) > maxBody {
		return nil, errTooLarge
	}
	p := params{}
	if err := p.addJSON(r.Data(), e.params); err != nil {
		return nil, badRequest(err)
	}
	return d.operator.do(ctx, e, p)
}

// close takes no more requests, and returns once those in hand are answered, or cancelled for taking too long.
func (d *natsDoors) close(ctx context.Context) {
	d.closing.Do(func() {
		defer d.cancel()
		if err := d.service.Stop(); err != nil {
			d.operator.logger.WarnContext(ctx, "requests may be lost", "err", err)
		}
		if !d.operator.nc.IsConnected() {
			return
		}
		// The server has sent what it will send when it answers; what has come is handed out one after the
		// other, with next to nothing in between.
		_ = d.operator.nc.FlushTimeout(time.Second)
		idle := 0
		for deadline := time.Now().Add(closeTimeout); idle < 2 && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
			if idle++; d.inHand.Load() > 0 {
				idle = 0
			}
		}
		d.cancel()
		_ = d.operator.nc.FlushTimeout(time.Second)
	})
}

var semantic = regexp.MustCompile(`^\d+\.\d+\.\d+([-+].*)?$`)

// semanticVersion is a version as NATS takes it. What is none, such as (devel), is 0.0.0 with its letters.
func semanticVersion(v string) string {
	if v = strings.TrimPrefix(v, "v"); semantic.MatchString(v) {
		return v
	}
	return "0.0.0-" + strings.Trim(regexp.MustCompile(`[^0-9A-Za-z]+`).ReplaceAllString("dev-"+v, "-"), "-")
}

// authorization is the header that brings a token; none for an empty one.
func authorization(token string) nats.Header {
	if token == "" {
		return nil
	}
	return nats.Header{headerAuthorization: []string{"Bearer " + token}}
}
