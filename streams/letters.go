package streams

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// ErrLetterNotFound says that no dead letter has this sequence: it was replayed or dropped, or its time is over.
var ErrLetterNotFound = errors.New("no such dead letter")

const (
	// letterBatch is how many letters are fetched at once: their headers alone, about 600 bytes each.
	letterBatch = 500
	// letterWindow is how far back a page looks first, and maxLetterWindow how far at most in one go.
	letterWindow    = 500
	maxLetterWindow = 100_000
	// emptyRounds is how often in a row JetStream may say that there are letters, and send none.
	emptyRounds = 100
)

// Letter is a dead letter as it is read. Others may publish on its subject too: what its headers do not say,
// or what they say in a way that makes no sense, is zero.
type Letter struct {
	// Sequence is the letter's place in [StreamDead]; Time is when it was stored.
	Sequence uint64
	Time     time.Time
	Kind     Kind
	Reason   Reason
	// Error is a sentence: what was wrong, and what is allowed.
	Error string
	// Subject, Stream, OriginalSequence and OriginalTime are where the original lay, and since when.
	Subject          string
	Stream           string
	OriginalSequence uint64
	OriginalTime     time.Time
	// Size is the number of bytes of the letter's body; Whole is how many the original's has, which are more
	// where the body was cut.
	Size, Whole int
	// Replays is how often the original had been put back on its subject before it died again.
	Replays int
	// Header is what came with the original: neither JetStream's headers nor the service's.
	Header nats.Header
	// Body is nil in lists.
	Body []byte
}

// Truncated tells whether the letter does not hold its original's whole body.
func (l Letter) Truncated() bool { return l.Whole > l.Size }

// LetterFilter says which letters are meant. The zero value means all of them.
type LetterFilter struct {
	Kind   Kind      // empty: all
	Reason Reason    // empty: all
	Since  time.Time // died then or later
	// Through is the last sequence that is meant; zero: the last that is there when it is asked.
	Through uint64
}

func (f LetterFilter) takes(l Letter) bool {
	return (f.Kind == "" || l.Kind == f.Kind) && (f.Reason == "" || l.Reason == f.Reason) &&
		!l.Time.Before(f.Since) && l.Sequence <= f.Through
}

func (f LetterFilter) subject() string {
	if f.Kind == "" {
		return prefixDead + "*"
	}
	return DeadSubject(f.Kind)
}

// Letters reads and drops the dead letters. It is safe for use by several goroutines. Every call to the server
// is limited to five seconds, or to the context it is given.
type Letters struct {
	js     jetstream.JetStream
	stream jetstream.Stream
}

// OpenLetters looks for the stream of dead letters. The error is a [*MismatchError] where there is none.
func OpenLetters(ctx context.Context, js jetstream.JetStream) (*Letters, error) {
	stream, err := lookUp(ctx, js, StreamDead)
	if err != nil {
		return nil, err
	}
	return &Letters{js, stream}, nil
}

// lookUp returns a stream and what it is like at this moment. The error is a [*MismatchError] where there is none.
func lookUp(ctx context.Context, js jetstream.JetStream, name string) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	stream, err := js.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, &MismatchError{Stream: name}
	}
	if err != nil {
		return nil, fmt.Errorf("look up stream %s: %w", name, err)
	}
	return stream, nil
}

// Get returns a letter with its body, or [ErrLetterNotFound].
func (l *Letters) Get(ctx context.Context, sequence uint64) (Letter, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	msg, err := l.stream.GetMsg(ctx, sequence)
	if errors.Is(err, jetstream.ErrMsgNotFound) || sequence == 0 {
		return Letter{}, fmt.Errorf("letter %d: %w", sequence, ErrLetterNotFound)
	}
	if err != nil {
		return Letter{}, fmt.Errorf("read letter %d: %w", sequence, err)
	}
	letter := readLetter(msg.Subject, msg.Header, len(msg.Data))
	letter.Sequence, letter.Time, letter.Body = msg.Sequence, msg.Time, msg.Data
	return letter, nil
}

// Drop deletes a letter. For one that is not there the error is [ErrLetterNotFound].
func (l *Letters) Drop(ctx context.Context, sequence uint64) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	err := l.stream.DeleteMsg(ctx, sequence)
	if errors.Is(err, jetstream.ErrMsgDeleteUnsuccessful) { // most often because it is not there
		if _, gone := l.Get(ctx, sequence); errors.Is(gone, ErrLetterNotFound) {
			return gone
		}
	}
	if err != nil {
		return fmt.Errorf("drop letter %d: %w", sequence, err)
	}
	return nil
}

// DropAll is [Letters.Drop] of many, with a result for each.
func (l *Letters) DropAll(ctx context.Context, sequences []uint64) []LetterResult {
	results := make([]LetterResult, len(sequences))
	atOnce(len(sequences), func(i int) {
		results[i] = LetterResult{Sequence: sequences[i], Err: l.Drop(ctx, sequences[i])}
	})
	return results
}

// atOnce does n things, several at the same time: that hides the way to the server and back.
func atOnce(n int, do func(i int)) {
	const most = 16
	var running sync.WaitGroup
	places := make(chan struct{}, most)
	for i := range n {
		places <- struct{}{}
		running.Go(func() {
			do(i)
			<-places
		})
	}
	running.Wait()
}

// Last is the sequence of the last letter that was ever stored; zero when there was none.
func (l *Letters) Last(ctx context.Context) (uint64, error) {
	_, last, err := l.bounds(ctx)
	return last, err
}

func (l *Letters) bounds(ctx context.Context) (first, last uint64, err error) {
	stream, err := lookUp(ctx, l.js, StreamDead)
	if err != nil {
		return 0, 0, err
	}
	state := stream.CachedInfo().State
	return max(state.FirstSeq, 1), state.LastSeq, nil
}

// Each visits the letters that the filter takes, oldest first and without their bodies, until visit returns an
// error, which it returns. What dies while it runs is not visited. Its memory does not grow with their number.
func (l *Letters) Each(ctx context.Context, filter LetterFilter, visit func(Letter) error) error {
	first, last, err := l.bounds(ctx)
	if err != nil {
		return err
	}
	if filter.Through == 0 || filter.Through > last {
		filter.Through = last
	}
	return l.scan(ctx, first, filter, func(letter Letter) error {
		if !filter.takes(letter) {
			return nil
		}
		return visit(letter)
	})
}

// List returns up to limit letters that the filter takes, newest first and without their bodies. Before is the
// sequence at which the page before ended; zero is the first page. Next is what the next page takes as before;
// zero when there is none.
func (l *Letters) List(ctx context.Context, filter LetterFilter, before uint64, limit int) (page []Letter, next uint64, err error) {
	first, last, err := l.bounds(ctx)
	if err != nil {
		return nil, 0, err
	}
	if filter.Through == 0 || filter.Through > last {
		filter.Through = last
	}
	if before != 0 {
		filter.Through = min(filter.Through, before-1)
	}
	// JetStream reads forwards only: it is read window by window, from the last one backwards.
	for window, wanted := uint64(max(letterWindow, limit)), limit+1; filter.Through >= first; window = min(4*window, maxLetterWindow) {
		from := first
		if filter.Through-first >= window {
			from = filter.Through - window + 1
		}
		var found []Letter // oldest first, the last ones that are wanted
		tooOld := false
		err := l.scan(ctx, from, filter, func(letter Letter) error {
			tooOld = tooOld || letter.Time.Before(filter.Since)
			if filter.takes(letter) {
				if len(found) == wanted-len(page) {
					found = found[1:]
				}
				found = append(found, letter)
			}
			return nil
		})
		if err != nil {
			return nil, 0, err
		}
		slices.Reverse(found)
		page = append(page, found...)
		if len(page) == wanted {
			return page[:limit], page[limit-1].Sequence, nil
		}
		if tooOld {
			break
		}
		filter.Through = from - 1
	}
	return page, 0, nil
}

// errScanned ends a scan.
var errScanned = errors.New("scanned")

// scan visits the letters of the filter's kind from a sequence to the filter's last, in order, without bodies.
func (l *Letters) scan(ctx context.Context, from uint64, filter LetterFilter, visit func(Letter) error) error {
	if from > filter.Through {
		return nil
	}
	consumer, err := l.reader(ctx, from, filter)
	if err != nil {
		return fmt.Errorf("read the dead letters: %w", err)
	}
	defer l.endReader(ctx, consumer)
	empty := 0
	for left := consumer.CachedInfo().NumPending; left > 0; {
		left, err = l.fetch(ctx, consumer, func(letter Letter) error {
			empty = 0
			if letter.Sequence > filter.Through {
				return errScanned
			}
			return visit(letter)
		})
		if errors.Is(err, errScanned) {
			return nil
		}
		if err == nil && left == 0 {
			if empty++; empty > emptyRounds {
				return errors.New("read the dead letters: JetStream has some and sends none")
			}
			left, err = l.pending(ctx, consumer)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// pending is how many letters the consumer has still to tell, by the server's word: a fetch that brought none may
// have come too early, or those that were counted have been replayed or dropped meanwhile.
func (*Letters) pending(ctx context.Context, consumer jetstream.Consumer) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	info, err := consumer.Info(ctx)
	if err != nil {
		return 0, fmt.Errorf("read the dead letters: %w", err)
	}
	return info.NumPending, nil
}

// reader is a consumer that tells headers alone: letters may be as large as messages are.
func (l *Letters) reader(ctx context.Context, from uint64, filter LetterFilter) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	return l.stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		Description:       "reads the dead letters for an operator",
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       from,
		AckPolicy:         jetstream.AckNonePolicy,
		FilterSubject:     filter.subject(),
		HeadersOnly:       true,
		MemoryStorage:     true,
		Replicas:          1,
		InactiveThreshold: 5 * time.Minute, // should nobody be left to delete it
	})
}

func (l *Letters) endReader(ctx context.Context, consumer jetstream.Consumer) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), apiTimeout)
	defer cancel()
	_ = l.stream.DeleteConsumer(ctx, consumer.CachedInfo().Name) // else it goes by itself
}

// fetch visits the next letters and returns how many are left behind them; zero when there were none. It does not use
// nats.go's, which takes a letter for the server's own word when it carries a header Status.
func (l *Letters) fetch(ctx context.Context, consumer jetstream.Consumer, visit func(Letter) error) (left uint64, err error) {
	nc := l.js.Conn()
	answers, err := nc.SubscribeSync(nc.NewInbox())
	if err != nil {
		return 0, fmt.Errorf("read the dead letters: %w", err)
	}
	defer answers.Unsubscribe() //nolint:errcheck // it fails where the connection is closed, and all is over
	next := jetstream.DefaultAPIPrefix + "CONSUMER.MSG.NEXT." + StreamDead + "." + consumer.CachedInfo().Name
	if err := nc.PublishRequest(next, answers.Subject, fmt.Appendf(nil, `{"batch":%d,"no_wait":true}`, letterBatch)); err != nil {
		return 0, fmt.Errorf("read the dead letters: %w", err)
	}
	for range letterBatch {
		msg, err := l.answer(ctx, answers)
		if err != nil {
			return 0, fmt.Errorf("read the dead letters: %w", err)
		}
		if msg.Reply == "" { // the server's word that there are no more; a letter has a place to acknowledge it
			return left, nil
		}
		metadata, err := msg.Metadata()
		if err != nil {
			return 0, fmt.Errorf("read the dead letters: %w", err)
		}
		left = metadata.NumPending
		size, _ := strconv.Atoi(msg.Header.Get(nats.MsgSize)) // the server's own
		letter := readLetter(msg.Subject, msg.Header, size)
		letter.Sequence, letter.Time = metadata.Sequence.Stream, metadata.Timestamp
		if err := visit(letter); err != nil {
			return 0, err
		}
	}
	return left, nil
}

func (*Letters) answer(ctx context.Context, answers *nats.Subscription) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	return answers.NextMsgWithContext(ctx)
}

// readLetter reads a letter's headers.
func readLetter(subject string, header nats.Header, size int) Letter {
	letter := Letter{
		Kind:    Kind(subject[min(len(prefixDead), len(subject)):]),
		Reason:  Reason(header.Get(HeaderDeadReason)),
		Error:   header.Get(HeaderDeadError),
		Subject: header.Get(HeaderDeadSubject),
		Stream:  header.Get(HeaderDeadStream),
		Size:    size,
		Whole:   size,
		Replays: replays(header, HeaderDeadReplays),
		Header:  make(nats.Header),
	}
	letter.OriginalSequence, _ = strconv.ParseUint(header.Get(HeaderDeadSequence), 10, 64)
	if at, err := time.Parse(time.RFC3339, header.Get(HeaderDeadTime)); err == nil {
		letter.OriginalTime = at.UTC()
	}
	const most = 1 << 30 // a server takes less
	if whole, err := strconv.Atoi(header.Get(HeaderDeadTruncated)); err == nil && whole > size {
		letter.Whole = min(whole, most)
	}
	for name, values := range header {
		if isProducers(name) {
			letter.Header[name] = values
		}
	}
	return letter
}
