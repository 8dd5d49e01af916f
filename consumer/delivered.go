package consumer

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// delivered is a message as JetStream delivers it: what becomes of it is told to its reply subject (NATS
// ADR-15).
type delivered struct {
	msg *nats.Msg
	nc  *nats.Conn
}

var _ jetstream.Msg = delivered{}

func (d delivered) Data() []byte         { return d.msg.Data }
func (d delivered) Headers() nats.Header { return d.msg.Header }
func (d delivered) Subject() string      { return d.msg.Subject }
func (d delivered) Reply() string        { return d.msg.Reply }

// Metadata is what JetStream says of the message, and of this delivery.
func (d delivered) Metadata() (*jetstream.MsgMetadata, error) {
	metadata, err := d.msg.Metadata()
	if err != nil {
		return nil, err
	}
	return &jetstream.MsgMetadata{
		Sequence:     jetstream.SequencePair(metadata.Sequence),
		NumDelivered: metadata.NumDelivered,
		NumPending:   metadata.NumPending,
		Timestamp:    metadata.Timestamp,
		Stream:       metadata.Stream,
		Consumer:     metadata.Consumer,
		Domain:       metadata.Domain,
	}, nil
}

// Ack acknowledges the message, without an answer.
func (d delivered) Ack() error { return d.tell("+ACK") }

// DoubleAck acknowledges the message and waits until the server knows.
func (d delivered) DoubleAck(ctx context.Context) error {
	_, err := d.nc.RequestWithContext(ctx, d.msg.Reply, []byte("+ACK"))
	return err
}

// Nak has the message come again at once.
func (d delivered) Nak() error { return d.tell("-NAK") }

// NakWithDelay has the message come again after a while; zero: at once.
func (d delivered) NakWithDelay(delay time.Duration) error {
	if delay <= 0 {
		return d.Nak()
	}
	return d.tell(fmt.Sprintf(`-NAK {"delay": %d}`, delay.Nanoseconds()))
}

// InProgress has the ack wait begin anew.
func (d delivered) InProgress() error { return d.tell("+WPI") }

// Term has the message come never again.
func (d delivered) Term() error { return d.tell("+TERM") }

// TermWithReason is Term, with a reason in the server's advisory.
func (d delivered) TermWithReason(reason string) error { return d.tell("+TERM " + reason) }

func (d delivered) tell(what string) error { return d.nc.Publish(d.msg.Reply, []byte(what)) }
