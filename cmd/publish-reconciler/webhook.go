package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"publish-reconciler/streams"
)

const (
	// maxMessageID bounds a Nats-Msg-Id, which JetStream keeps in memory for the duplicate window.
	maxMessageID = 1024
	// storeTimeout is how long a webhook's sender waits for JetStream.
	storeTimeout = 4 * time.Second
)

// webhook is one that was handed in over HTTP.
type webhook struct {
	platform    string
	body        []byte
	contentType string
	messageID   string // Nats-Msg-Id, or empty
}

type storedAnswer struct {
	Status    string `json:"status"`
	Stream    string `json:"stream"`
	Sequence  uint64 `json:"sequence"`
	Duplicate bool   `json:"duplicate"`
}

// store returns once JetStream has stored the webhook. What could only become a dead letter is refused. The
// error is a [statusError].
func (o *operator) storeWebhook(ctx context.Context, w webhook) (storedAnswer, error) {
	msg, err := streams.WebhookMessage(w.platform, w.body)
	switch {
	case err != nil && len(w.body) > 0 && !json.Valid(w.body) && saysNotJSON(w.contentType):
		return storedAnswer{}, statusError{http.StatusUnsupportedMediaType, fmt.Errorf("the body is not JSON, but %s", quote(w.contentType))}
	case err != nil:
		return storedAnswer{}, badRequest(err)
	case len(w.messageID) > maxMessageID:
		return storedAnswer{}, badRequest(fmt.Errorf("%s is %d bytes long: it must have at most %d", nats.MsgIdHdr, len(w.messageID), maxMessageID))
	}
	// While it reconnects, nats.go would keep the message and send it after the sender was told of a failure.
	if err := o.connected(); err != nil {
		return storedAnswer{}, translate(err)
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	var options []jetstream.PublishOpt
	if w.messageID != "" {
		options = append(options, jetstream.WithMsgID(w.messageID))
	}
	ack, err := o.js.PublishMsg(ctx, msg, options...)
	switch {
	case errors.Is(err, nats.ErrMaxPayload):
		return storedAnswer{}, statusError{http.StatusRequestEntityTooLarge, fmt.Errorf("the body is too large: the NATS server takes %d bytes", o.nc.MaxPayload())}
	case err != nil:
		return storedAnswer{}, translate(fmt.Errorf("publish on %s: %w", msg.Subject, err))
	}
	return storedAnswer{"stored", ack.Stream, ack.Sequence, ack.Duplicate}, nil
}

// saysNotJSON tells whether a Content-Type is one, and not JSON's. What curl sends when it is told nothing says
// nothing.
func saysNotJSON(contentType string) bool {
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && media != "application/json" && !strings.HasSuffix(media, "+json") && media != "application/x-www-form-urlencoded"
}
