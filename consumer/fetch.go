package consumer

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// endWait is how long a pull waits, beyond its own time, for the server to say that it is over: the server may
// have gone.
const endWait = time.Second

// fetch is one pull under way, bounded by messages, bytes and time.
//
// It is not nats.go's, since that ends at once when the server says that a pull is complete. With a replicated
// consumer (nats-server 2.15) that overtakes the messages, which wait for their delivery to be replicated: a
// backlog of more than a batch would be sent again and again, and never be received. The server also says how
// many messages it has not sent; so this one ends when all others have come.
type fetch struct {
	nc   *nats.Conn
	msgs chan jetstream.Msg
	err  error // once msgs is closed
}

// startFetch asks a stream's durable consumer for messages.
func startFetch(nc *nats.Conn, stream, consumer string, size, maxBytes int, wait time.Duration) (*fetch, error) {
	request, err := json.Marshal(map[string]int64{
		"batch": int64(size), "max_bytes": int64(maxBytes), "expires": wait.Nanoseconds(),
	})
	if err != nil {
		return nil, err
	}
	incoming := make(chan *nats.Msg, size+1) // all that can come: the messages, and that these were all
	sub, err := nc.ChanSubscribe(nc.NewInbox(), incoming)
	if err != nil {
		return nil, fmt.Errorf("pull from %s: %w", consumer, err)
	}
	subject := jetstream.DefaultAPIPrefix + "CONSUMER.MSG.NEXT." + stream + "." + consumer
	if err := nc.PublishRequest(subject, sub.Subject, request); err != nil {
		return nil, errors.Join(fmt.Errorf("pull from %s: %w", consumer, err), sub.Unsubscribe())
	}
	f := &fetch{nc: nc, msgs: make(chan jetstream.Msg, size)}
	go func() {
		defer close(f.msgs)
		defer sub.Unsubscribe() //nolint:errcheck // it fails where the connection is closed, and all is over
		if err := f.receive(incoming, size, wait+endWait); err != nil {
			f.err = fmt.Errorf("pull from %s: %w", consumer, err)
		}
	}()
	return f, nil
}

// receive passes messages on until the pull is over. Size is how many are still to come.
func (f *fetch) receive(incoming <-chan *nats.Msg, size int, within time.Duration) error {
	over := time.After(within)
	for received := 0; received < size; {
		select {
		case msg := <-incoming:
			if msg.Reply != "" { // where it is acknowledged; a message's own headers may say anything
				received++
				f.msgs <- delivered{msg, f.nc}
				continue
			}
			unsent, err := f.unsent(msg)
			if err != nil {
				return err
			}
			size -= unsent
		case <-over:
			f.drain(incoming)
			return nil // what was sent and did not come comes again
		}
	}
	return nil
}

// drain passes on what has come already: a process that stood still for a while finds it all at once.
func (f *fetch) drain(incoming <-chan *nats.Msg) {
	_ = f.nc.FlushTimeout(endWait) // the answer comes behind everything that was sent before
	for {
		select {
		case msg := <-incoming:
			if msg.Reply != "" {
				f.msgs <- delivered{msg, f.nc}
			}
		default:
			return
		}
	}
}

// unsent is how many messages the server leaves out of a pull, as its status says, or why there are none.
func (f *fetch) unsent(msg *nats.Msg) (int, error) {
	status := msg.Header.Get("Status")
	const timeout, conflict, noResponders = "408", "409", "503" // NATS ADR-13; a conflict without a number ends all
	unsent, err := strconv.Atoi(msg.Header.Get("Nats-Pending-Messages"))
	switch {
	case status == noResponders:
		return 0, nats.ErrNoResponders
	case (status == timeout || status == conflict) && err == nil && unsent >= 0:
		return unsent, nil
	}
	return 0, fmt.Errorf("%s %s", status, msg.Header.Get("Description"))
}

// Messages hands out what comes, and is closed when the pull is over.
func (f *fetch) Messages() <-chan jetstream.Msg { return f.msgs }

// Error is why the pull ended early; it is to be called once Messages is closed.
func (f *fetch) Error() error { return f.err }
