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
	"golang.org/x/sync/errgroup"

	"publish-reconciler/cmd/publish-reconciler/webhooks"
	"publish-reconciler/streams"
)

const (
	// maxMessageID bounds a Nats-Msg-Id, which JetStream keeps in memory for the duplicate window.
	maxMessageID = 1024
	// storeTimeout is how long a webhook's sender waits for JetStream to take a message.
	storeTimeout = 4 * time.Second
	// batchTimeout limits a body of many messages, which JetStream takes one after the other. It is shorter than
	// the answer may take.
	batchTimeout = 20 * time.Second
	// storeAtOnce is how many messages of one body are on their way to JetStream at the same time.
	storeAtOnce = 32
)

type storedAnswer struct {
	Status    string `json:"status"`
	Stream    string `json:"stream"`
	Sequence  uint64 `json:"sequence"`  // of the last message
	Duplicate bool   `json:"duplicate"` // all of them were stored already
	// Messages and Ignored are how many a platform's own body had.
	Messages int `json:"messages,omitempty"`
	Ignored  int `json:"ignored,omitempty"`
}

// webhookMessages are what is published. What could only become a dead letter is refused. The error is a [statusError].
func webhookMessages(platform, contentType string, events []webhooks.Event) ([]*nats.Msg, error) {
	msgs := make([]*nats.Msg, len(events))
	for i, event := range events {
		msg, err := streams.WebhookMessage(platform, event.Body)
		switch {
		case err != nil && len(event.Body) > 0 && !json.Valid(event.Body) && saysNotJSON(contentType):
			return nil, statusError{http.StatusUnsupportedMediaType, fmt.Errorf("the body is not JSON, but %s", quote(contentType))}
		case err != nil:
			return nil, badRequest(err)
		case len(event.ID) > maxMessageID:
			return nil, badRequest(fmt.Errorf("%s is %d bytes long: it must have at most %d", nats.MsgIdHdr, len(event.ID), maxMessageID))
		}
		if event.ID != "" {
			msg.Header.Set(nats.MsgIdHdr, event.ID)
		}
		msgs[i] = msg
	}
	return msgs, nil
}

// storeWebhooks returns once JetStream has stored all messages. Where it fails some may be stored: whoever sends them again has
// them told from new ones by their ids. The error is a [statusError].
func (o *operator) storeWebhooks(ctx context.Context, msgs []*nats.Msg) (storedAnswer, error) {
	// While it reconnects, nats.go would keep the message and send it after the sender was told of a failure.
	if err := o.connected(); err != nil {
		return storedAnswer{}, translate(err)
	}
	ctx, cancel := context.WithTimeout(ctx, batchTimeout)
	defer cancel()
	acks := make([]*jetstream.PubAck, len(msgs))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(storeAtOnce)
	for i, msg := range msgs {
		group.Go(func() (err error) {
			ctx, cancel := context.WithTimeout(ctx, storeTimeout)
			defer cancel()
			if acks[i], err = o.js.PublishMsg(ctx, msg); err != nil {
				return fmt.Errorf("publish on %s: %w", msg.Subject, err)
			}
			return nil
		})
	}
	switch err := group.Wait(); {
	case errors.Is(err, nats.ErrMaxPayload):
		return storedAnswer{}, statusError{http.StatusRequestEntityTooLarge, fmt.Errorf("the body is too large: the NATS server takes %d bytes", o.nc.MaxPayload())}
	case err != nil:
		return storedAnswer{}, translate(err)
	}
	answer := storedAnswer{Status: "stored", Duplicate: true}
	for _, ack := range acks {
		answer.Stream, answer.Sequence = ack.Stream, max(answer.Sequence, ack.Sequence)
		answer.Duplicate = answer.Duplicate && ack.Duplicate
	}
	return answer, nil
}

// saysNotJSON tells whether a Content-Type is one, and not JSON's. What curl sends when it is told nothing says
// nothing.
func saysNotJSON(contentType string) bool {
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && media != "application/json" && !strings.HasSuffix(media, "+json") && media != "application/x-www-form-urlencoded"
}
