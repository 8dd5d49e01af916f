package streams

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// refusalLook is how long JetStream may take to answer before it is looked whether the server has refused the message.
const refusalLook = 100 * time.Millisecond

// publish returns once JetStream has stored the message. A server that does not let the connection publish it, or hear
// the answer, says so on the connection alone; that ends it too.
func publish(ctx context.Context, js jetstream.Publisher, msg *nats.Msg, opts ...jetstream.PublishOpt) error {
	conn, ok := js.(interface{ Conn() *nats.Conn })
	if !ok {
		_, err := js.PublishMsg(ctx, msg, opts...)
		return err
	}
	ctx, refuse := context.WithCancelCause(ctx)
	defer refuse(nil)
	before := conn.Conn().LastError()
	look := time.AfterFunc(refusalLook, func() {
		if last := Refusal(conn.Conn(), msg.Subject); last != nil && !errors.Is(before, last) {
			refuse(last)
		}
	})
	defer look.Stop()
	_, err := js.PublishMsg(ctx, msg, opts...)
	if refusal := context.Cause(ctx); err != nil && errors.Is(refusal, nats.ErrPermissionViolation) {
		return refusal
	}
	return err
}

// Refusal is the server's last word on a connection, where that was that it may not publish on the subject, or may not
// hear the answers to what it publishes; else nil. The answer never comes then.
func Refusal(nc *nats.Conn, subject string) error {
	last := nc.LastError()
	if !errors.Is(last, nats.ErrPermissionViolation) {
		return nil
	}
	if strings.Contains(last.Error(), "Publish to "+strconv.Quote(subject)) {
		return last
	}
	inbox := nats.InboxPrefix
	if nc.Opts.InboxPrefix != "" {
		inbox = nc.Opts.InboxPrefix + "."
	}
	if strings.Contains(last.Error(), `Subscription to "`+inbox) {
		return fmt.Errorf("%w: connect with the inbox prefix that the user may subscribe to, which is nats.CustomInboxPrefix in Go and --inbox-prefix of the nats client", last)
	}
	return nil
}
