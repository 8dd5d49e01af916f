package consumer

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// pullWait is how long a pull stays open on an idle stream, and so the longest a stop waits for one:
	// a pull that is broken off instead can lose a message on its way for the whole ack wait.
	pullWait = time.Second

	// pullBytes bounds the memory of a pull, of which there are four in hand: messages may be 1 MB each.
	pullBytes = 4 << 20

	// batchWait is how long a batch waits for more messages where the server has more. On this machine
	// the embedded server delivers 500 small messages in less.
	batchWait = 5 * time.Millisecond
)

// errStopped ends the messages: no more pulls, and the last one is used up. It is every worker's cause
// after its end.
var errStopped = errors.New("stopped")

// puller makes batches of what a consumer has. It asks for the next ones while a batch is being worked on.
type puller struct {
	nc       *nats.Conn
	stream   string
	consumer string
	size     int
	current  *fetch // the pull under way; nil when there is none
	taken    int    // of the current pull
}

// next waits for a message and takes what else is there, up to the size. A calm stream waits for nobody;
// only where the server says that more is pending the batch waits for it, a moment. It returns no messages
// when a pull ended without any.
func (p *puller) next(ctx context.Context) ([]jetstream.Msg, error) {
	if p.current == nil {
		if ctx.Err() != nil {
			return nil, errStopped
		}
		if err := p.pull(); err != nil {
			return nil, err
		}
	}
	first, open := <-p.current.Messages()
	if !open {
		err := p.current.Error()
		p.current = nil
		return nil, err
	}
	batch := p.fill(append(make([]jetstream.Msg, 0, p.size), first))
	p.taken += len(batch)
	if p.taken == p.size {
		p.current = nil
		if ctx.Err() == nil {
			// Where this fails, the next call tries again and tells.
			_ = p.pull()
		}
	}
	return batch, nil
}

func (p *puller) fill(batch []jetstream.Msg) []jetstream.Msg {
	var wait <-chan time.Time
	for p.taken+len(batch) < p.size {
		select {
		case msg, open := <-p.current.Messages():
			if !open {
				return batch
			}
			batch = append(batch, msg)
			continue
		default:
		}
		if !morePending(batch[len(batch)-1]) {
			return batch
		}
		if wait == nil {
			wait = time.After(batchWait)
		}
		select {
		case msg, open := <-p.current.Messages():
			if !open {
				return batch
			}
			batch = append(batch, msg)
		case <-wait:
			return batch
		}
	}
	return batch
}

func morePending(msg jetstream.Msg) bool {
	metadata, err := msg.Metadata()
	return err == nil && metadata.NumPending > 0
}

// bytes is what a pull may bring: at least one message, however large the server lets them be. It would refuse
// to send a larger one, over and over.
func (p *puller) bytes() int {
	const rest = 128 << 10 // subject and headers
	return max(pullBytes, int(p.nc.MaxPayload())+rest)
}

func (p *puller) pull() (err error) {
	p.taken = 0
	p.current, err = startFetch(p.nc, p.stream, p.consumer, p.size, p.bytes(), pullWait)
	return err
}

// rest takes what the pull under way still brings; it waits for its end.
func (p *puller) rest() []jetstream.Msg {
	if p.current == nil {
		return nil
	}
	var msgs []jetstream.Msg
	for msg := range p.current.Messages() {
		msgs = append(msgs, msg)
	}
	p.current = nil
	return msgs
}
