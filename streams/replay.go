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

// BucketReplays is the key-value bucket that remembers which letters' replays were begun. The first replay makes it.
const BucketReplays = "publish_replays"

// JetStream's error codes (nats-server, server/errors.json).
const (
	codeMessageTooLarge jetstream.ErrorCode = 10054
	codeHeaderTooLarge  jetstream.ErrorCode = 10097
	codeOtherStream     jetstream.ErrorCode = 10060 // the subject is not the expected stream's
	codeStreamIsFull    jetstream.ErrorCode = 10077 // as a limit of the stream has it
	// codeIDInProcess is a cluster's, for a message id that is being stored.
	codeIDInProcess jetstream.ErrorCode = 10158
)

// ReplayError says why a letter can't be replayed. It stays where it is.
type ReplayError struct {
	Sequence uint64
	// Begun is set when a replay of the letter was begun then and cut off, and it can't be told whether the original
	// was put back.
	Begun time.Time
	// Detail is a sentence for people.
	Detail string
}

func (e *ReplayError) Error() string {
	return fmt.Sprintf("letter %d: %s", e.Sequence, e.Detail)
}

func (l Letter) refused(format string, args ...any) error {
	return &ReplayError{Sequence: l.Sequence, Detail: fmt.Sprintf(format, args...)}
}

// Replayer puts dead letters back on the subjects they came from, each at most once, whoever tries and however
// often, and whatever breaks in between:
//
//  1. A claim of the letter is created in the bucket [BucketReplays], which has room for one.
//  2. The original is stored on its subject. Its message id is the letter.
//  3. The letter is deleted.
//
// A replay that was cut off between 1 and 3 may have done 2 or not. Within half of its stream's duplicate window (of
// two minutes) whoever finds the claim does the rest: JetStream stores a message id once within that window. A
// replay that hangs between 1 and 2 for a quarter of it gives up, so that all who publish do so in time. A claim
// that is older leaves its letter in doubt, and the letter stays unless somebody decides to replay it all the same.
//
// The claims outlive the letters. A letter is its sequence and its time: these tell apart what a stream holds after
// it was made anew. Times are the NATS server's; those of a cluster may differ by some seconds. A server that is restarted
// within that minute forgets the ids of the checks that were done by then; these are harmless to repeat.
type Replayer struct {
	*Letters
	claims  jetstream.KeyValue
	windows map[string]time.Duration // of duplicates, by stream
	again   bool
}

// Replayer verifies that the streams are there; those that are not are returned as [*MismatchError], joined. With
// again it replays also what is in doubt. Make a new one for each run.
func (l *Letters) Replayer(ctx context.Context, again bool) (*Replayer, error) {
	r := &Replayer{Letters: l, windows: make(map[string]time.Duration), again: again}
	var missing []error
	for _, name := range []string{StreamWebhooks, StreamChecks} {
		stream, err := lookUp(ctx, l.js, name)
		switch mismatch, absent := errors.AsType[*MismatchError](err); {
		case absent:
			missing = append(missing, mismatch)
		case err != nil:
			return nil, err
		default:
			r.windows[name] = stream.CachedInfo().Config.Duplicates
		}
	}
	if len(missing) > 0 {
		return nil, errors.Join(missing...)
	}
	dead, err := lookUp(ctx, l.js, StreamDead)
	if err != nil {
		return nil, err
	}
	r.claims, err = l.openClaims(ctx, dead.CachedInfo().Config)
	return r, err
}

// openClaims makes the bucket, or adapts it: it is kept as the letters are, and for a day longer.
func (l *Letters) openClaims(ctx context.Context, dead jetstream.StreamConfig) (jetstream.KeyValue, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	config := jetstream.KeyValueConfig{
		Bucket: BucketReplays, Description: "Dead letters whose replay was begun", Storage: dead.Storage, Replicas: dead.Replicas,
	}
	if dead.MaxAge > 0 {
		config.TTL = dead.MaxAge + 24*time.Hour
	}
	claims, err := l.js.KeyValue(ctx, BucketReplays)
	if err == nil {
		var status jetstream.KeyValueStatus
		if status, err = claims.Status(ctx); err == nil && status.Config().Replicas == config.Replicas && status.TTL() == config.TTL {
			return claims, nil
		}
	}
	if err == nil || errors.Is(err, jetstream.ErrBucketNotFound) {
		claims, err = l.js.CreateOrUpdateKeyValue(ctx, config)
	}
	if err != nil {
		return nil, fmt.Errorf("open the bucket %s: %w", BucketReplays, err)
	}
	return claims, nil
}

// LetterResult is what became of one letter.
type LetterResult struct {
	Sequence uint64
	// Before is true when somebody had stored its original earlier, and all that was left to do was to delete it.
	Before bool
	// Err is nil when it is done. [ErrLetterNotFound]: the letter is gone. A [*ReplayError]: this one can't be
	// replayed. After any other error the same call may be tried again.
	Err error
}

// Replay is [Replayer.ReplayAll] of one letter.
func (r *Replayer) Replay(ctx context.Context, sequence uint64) (before bool, err error) {
	result := r.ReplayAll(ctx, []uint64{sequence})[0]
	return result.Before, result.Err
}

// ReplayAll stores the letters' originals on their subjects, in the order given, with their bodies and headers and
// [HeaderReplayed], and then deletes the letters. There is a result for each. All of them are in memory at once. It
// takes fifteen seconds at most.
func (r *Replayer) ReplayAll(ctx context.Context, sequences []uint64) []LetterResult {
	ctx, cancel := context.WithTimeout(ctx, 3*apiTimeout)
	defer cancel()
	replays := make([]*replay, len(sequences))
	atOnce(len(sequences), func(i int) {
		replays[i] = &replay{sequence: sequences[i], begun: now()}
		replays[i].err = r.prepare(ctx, replays[i])
	})
	r.store(ctx, replays)
	results := make([]LetterResult, len(replays))
	atOnce(len(replays), func(i int) {
		p := replays[i]
		results[i] = LetterResult{p.sequence, p.before, p.err}
		if p.err != nil {
			return
		}
		if err := r.Drop(ctx, p.sequence); err != nil && !errors.Is(err, ErrLetterNotFound) {
			results[i].Err = fmt.Errorf("letter %d was replayed: %w", p.sequence, err)
		}
	})
	return results
}

// replay is one letter on its way.
type replay struct {
	sequence uint64
	begun    time.Time // by this machine's clock, before the claim
	letter   Letter
	claim    uint64    // revision
	msg      *nats.Msg // the original
	before   bool
	err      error
}

// home is the stream of the letter's original.
func (l Letter) home() string {
	if l.Kind == KindWebhook {
		return StreamWebhooks
	}
	return StreamChecks
}

// prepare is all of a replay that comes before its original is stored.
func (r *Replayer) prepare(ctx context.Context, p *replay) (err error) {
	if p.letter, err = r.Get(ctx, p.sequence); err != nil {
		return err
	}
	if p.msg, err = r.original(ctx, p.letter); err != nil {
		return err
	}
	return r.claim(ctx, p)
}

// now is the wall clock: the monotonic one may stand still while the machine sleeps.
func now() time.Time { return time.Now().Round(0) }

// claim takes the letter's claim, or takes it over. While others do the same it tries again.
func (r *Replayer) claim(ctx context.Context, p *replay) (err error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	key := p.letter.place()
	for {
		p.claim, err = r.claims.Create(ctx, key, nil)
		if errors.Is(err, jetstream.ErrKeyExists) {
			p.claim, err = r.takeOver(ctx, p, key)
		}
		switch refusal, refused := errors.AsType[*ReplayError](err); {
		case err == nil:
			return nil
		case refused:
			return refusal
		case !errors.Is(err, jetstream.ErrKeyNotFound) && !errors.Is(err, jetstream.ErrKeyRevisionMismatch):
			return fmt.Errorf("claim letter %d: %w", p.sequence, err)
		}
		if err := pause(ctx, claimPause); err != nil {
			return fmt.Errorf("claim letter %d: %w", p.sequence, err)
		}
	}
}

// claimPause is how long somebody waits who lost a race; a server of a cluster may be as late.
const claimPause = 20 * time.Millisecond

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// takeOver renews a claim, which makes that of its owner void: he can't release it any more. The first claim's time
// stays with it, as its value.
func (r *Replayer) takeOver(ctx context.Context, p *replay, key string) (revision uint64, err error) {
	found, err := r.claims.Get(ctx, key)
	if err != nil {
		return 0, err
	}
	value, err := r.renewed(ctx, p, found)
	if err != nil {
		return 0, err
	}
	return r.claims.Update(ctx, key, value, found.Revision())
}

// renewed is the value of a claim that is taken over, if it may be.
func (r *Replayer) renewed(ctx context.Context, p *replay, found jetstream.KeyValueEntry) ([]byte, error) {
	begun := found.Created()
	if first, err := time.Parse(time.RFC3339Nano, string(found.Value())); err == nil {
		begun = first
	}
	dead, err := lookUp(ctx, r.js, StreamDead) // it tells the server's time
	if err != nil {
		return nil, err
	}
	if dead.CachedInfo().TimeStamp.Sub(begun) <= r.windows[p.letter.home()]/2 {
		return []byte(begun.UTC().Format(time.RFC3339Nano)), nil
	}
	if r.again {
		return nil, nil // a new one
	}
	return nil, &ReplayError{Sequence: p.sequence, Begun: begun, Detail: fmt.Sprintf(
		"a replay was begun at %s and cut off, and the original may be back on its subject since then", begun.UTC().Format(time.RFC3339))}
}

// place names a letter: one name for each there ever is.
func (l Letter) place() string { return fmt.Sprintf("%d-%d", l.Sequence, l.Time.UnixNano()) }

// store puts the originals back, in order, without waiting for each.
func (r *Replayer) store(ctx context.Context, replays []*replay) {
	acks := make([]jetstream.PubAckFuture, len(replays))
	for i, p := range replays {
		if p.err == nil {
			acks[i], p.err = r.send(ctx, p)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	for i, p := range replays {
		if p.err == nil {
			p.before, p.err = r.stored(ctx, p, acks[i])
		}
	}
}

func (r *Replayer) send(ctx context.Context, p *replay) (jetstream.PubAckFuture, error) {
	if err := ctx.Err(); err != nil {
		return nil, r.release(ctx, p, err)
	}
	if took := now().Sub(p.begun); took > r.windows[p.letter.home()]/4 {
		return nil, fmt.Errorf("replay letter %d: it took %s to begin, which is too long to be sure that it is done once", p.sequence, took.Round(time.Millisecond))
	}
	ack, err := r.js.PublishMsgAsync(p.msg)
	if err != nil {
		return nil, r.release(ctx, p, err)
	}
	return ack, nil
}

// stored waits until the original is, and tells whether it had been before.
func (r *Replayer) stored(ctx context.Context, p *replay, sent jetstream.PubAckFuture) (before bool, err error) {
	for {
		select {
		case ack := <-sent.Ok():
			return ack.Duplicate, nil
		case err = <-sent.Err():
		case <-ctx.Done():
			err = ctx.Err()
		}
		refusal, refused := errors.AsType[*jetstream.APIError](err)
		if !refused || refusal.ErrorCode != codeIDInProcess {
			break
		}
		if err := pause(ctx, claimPause); err != nil {
			return false, r.notStored(ctx, p, err)
		}
		if sent, err = r.send(ctx, p); err != nil {
			return false, err
		}
	}
	return false, r.notStored(ctx, p, err)
}

// notStored says why an original was not stored, or may not have been. Where it is certain that it was not, the claim is
// released.
func (r *Replayer) notStored(ctx context.Context, p *replay, err error) error {
	if refusal, refused := errors.AsType[*jetstream.APIError](err); refused {
		switch refusal.ErrorCode {
		case codeMessageTooLarge, codeHeaderTooLarge:
			return r.release(ctx, p, p.letter.tooLarge(p.msg))
		case codeOtherStream, codeStreamIsFull:
			return r.release(ctx, p, err)
		}
	}
	// The server tells a publisher that may not publish on the connection alone, and does not answer the message.
	if last := Refusal(r.js.Conn(), p.msg.Subject); last != nil {
		return r.release(ctx, p, last)
	}
	return fmt.Errorf("replay letter %d on %s: %w: try again within %s, or it is in doubt whether it was put back",
		p.sequence, p.msg.Subject, err, (r.windows[p.letter.home()] / 2).Round(time.Second))
}

// release gives a claim back, and returns why.
func (r *Replayer) release(ctx context.Context, p *replay, why error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), apiTimeout)
	defer cancel()
	// Another who took the claim over may have stored the original: then this fails, and should.
	_ = r.claims.Delete(ctx, p.letter.place(), jetstream.LastRevision(p.claim))
	return fmt.Errorf("replay letter %d on %s: %w", p.sequence, p.msg.Subject, why)
}

// original is the message that died, as it is put back.
func (r *Replayer) original(ctx context.Context, letter Letter) (*nats.Msg, error) {
	if !letter.ofItsKind() {
		return nil, letter.refused("its original's subject is %s, where no %s lies", quote(letter.Subject), quote(string(letter.Kind)))
	}
	body, header := letter.Body, letter.Header
	if letter.Truncated() {
		whole, err := r.whole(ctx, letter)
		if err != nil {
			return nil, err
		}
		body, header = whole.Data, whole.Header
	}
	msg := nats.NewMsg(letter.Subject)
	msg.Data = body
	msg.Header.Set(HeaderReplayed, strconv.FormatUint(letter.Sequence, 10))
	msg.Header.Set(HeaderReplays, strconv.Itoa(letter.Replays+1))
	msg.Header.Set(nats.MsgIdHdr, StreamDead+"-"+letter.place())
	msg.Header.Set(jetstream.ExpectedStreamHeader, letter.home())
	if !letter.OriginalTime.IsZero() && letter.OriginalSequence > 0 {
		msg.Header.Set(HeaderFirstSequence, strconv.FormatUint(letter.OriginalSequence, 10))
		msg.Header.Set(HeaderFirstTime, letter.OriginalTime.Format(time.RFC3339Nano))
	}
	carryHeaders(msg, header, maxHeader)
	if limit := r.js.Conn().MaxPayload(); int64(headerSize(msg)+len(body)) > limit {
		return nil, letter.tooLarge(msg)
	}
	return msg, nil
}

func (l Letter) tooLarge(msg *nats.Msg) error {
	return l.refused("with the headers that say so it would be %d bytes, more than the server takes", headerSize(msg)+len(msg.Data))
}

// ofItsKind tells whether the original's subject is one that the letter's kind has. A letter may be anyone's: it
// must not lead elsewhere.
func (l Letter) ofItsKind() bool {
	token, ok := "", false
	switch l.Kind {
	case KindSweep:
		return l.Subject == SubjectSweep
	case KindWebhook:
		token, ok = strings.CutPrefix(l.Subject, prefixWebhook)
	case KindCheck:
		token, ok = strings.CutPrefix(l.Subject, prefixCheck)
	}
	return ok && token != "" && token != "*" && token != ">" && !strings.ContainsAny(token, ". \t\r\n\x00")
}

// whole looks for the original of a letter that was cut, where it lay.
func (r *Replayer) whole(ctx context.Context, letter Letter) (*jetstream.RawStreamMsg, error) {
	lost := letter.refused("%d bytes of its %d were cut off, and the whole original is not in %s any more", letter.Whole-letter.Size, letter.Whole, quote(letter.Stream))
	if letter.Kind != KindWebhook || letter.Stream != StreamWebhooks || letter.OriginalSequence == 0 {
		return nil, lost
	}
	webhooks, err := lookUp(ctx, r.js, StreamWebhooks)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	whole, err := webhooks.GetMsg(ctx, letter.OriginalSequence)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, lost
	}
	if err != nil {
		return nil, fmt.Errorf("read the original of letter %d: %w", letter.Sequence, err)
	}
	// The stream may have been made anew since.
	if whole.Subject != letter.Subject || !whole.Time.Equal(letter.OriginalTime) || len(whole.Data) != letter.Whole {
		return nil, lost
	}
	return whole, nil
}
