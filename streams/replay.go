package streams

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Headers of an atomic batch (ADR-50 of the NATS architecture, server 2.12 and later).
const (
	headerBatchID       = "Nats-Batch-Id"
	headerBatchSequence = "Nats-Batch-Sequence"
	headerBatchCommit   = "Nats-Batch-Commit"
)

// JetStream's error codes for a message that can never be stored: it or its headers are too large.
const (
	codeMessageTooLarge jetstream.ErrorCode = 10054
	codeHeaderTooLarge  jetstream.ErrorCode = 10097
)

// codeIncompleteBatch is JetStream's error code for a batch of which it did not take all.
const codeIncompleteBatch jetstream.ErrorCode = 10176

// ReplayError says why a letter can't be replayed. It stays where it is.
type ReplayError struct {
	Sequence uint64
	// Detail is a sentence for people.
	Detail string
}

func (e *ReplayError) Error() string {
	return fmt.Sprintf("letter %d can't be replayed: %s", e.Sequence, e.Detail)
}

// Replayer puts dead letters back on the subjects they came from, each at most once, whoever tries and however
// often, and whatever breaks in between.
//
//	check, sweep   PUBLISH_CHECKS    [ note publish.replay.<letter> | the message ]     then the letter is deleted
//
//	webhook        PUBLISH_CHECKS    note publish.replay.<letter>
//	               PUBLISH_WEBHOOKS  [ note publish.replayed.<letter> | the message ]   then the letter is deleted
//
// What stands in brackets is one atomic batch, which JetStream refuses where the note's subject has a message
// already. So the message is stored with its note or not at all, and a second one never: not by another
// operator at the same moment, nor by one that hung in between, nor after a crash. Whoever meets the note
// has but to delete the letter. Neither an operator's clock nor JetStream's window of message ids has a part in it.
//
// The notes in PUBLISH_CHECKS outlive their letters. PUBLISH_WEBHOOKS forgets its notes with its messages, after
// seven days, while letters live for thirty; therefore the note before the batch. It says how far that stream
// had come when the first replay began. Where it was met, and the stream has lost anything since, a replay's
// note may be among that, and the letter is not replayed any more.
//
// A letter is its sequence and its time: these tell apart what a stream holds after it was made anew.
type Replayer struct {
	*Letters
	// keepNotes is longer than a letter lives, as Nats-TTL has it.
	keepNotes string
	webhooks  webhooksPosition
}

// webhooksPosition is how far the stream of webhooks had come: the body of the note before the batch.
type webhooksPosition struct {
	Created int64  `json:"created"` // of the stream, in Unix nanoseconds
	Last    uint64 `json:"last"`    // sequence
}

// Replayer verifies that the streams have what a replay needs; what they lack is returned as [*MismatchError], all
// of it, joined. Make a new one for each run.
func (l *Letters) Replayer(ctx context.Context) (*Replayer, error) {
	var mismatches []*MismatchError
	for _, want := range Streams(1) {
		if want.Name != StreamWebhooks && want.Name != StreamChecks {
			continue
		}
		plan, err := inspectStream(ctx, l.js, want)
		if err != nil {
			return nil, err
		}
		mismatches = append(mismatches, plan.mismatches...)
	}
	needed := []string{"", "subjects", "allow_atomic", "allow_msg_ttl"} // the first is the whole stream
	if err := join(mismatches, func(m *MismatchError) bool { return slices.Contains(needed, m.Setting) }); err != nil {
		return nil, err
	}
	r := &Replayer{Letters: l}
	webhooks, err := r.info(ctx, StreamWebhooks)
	if err != nil {
		return nil, err
	}
	r.webhooks = webhooksPosition{Created: webhooks.Created.UnixNano(), Last: webhooks.State.LastSeq}
	dead, err := r.info(ctx, StreamDead)
	if err != nil {
		return nil, err
	}
	r.keepNotes = "never"
	if age := dead.Config.MaxAge; age > 0 {
		r.keepNotes = (age + 24*time.Hour).Round(time.Second).String()
	}
	return r, nil
}

func (r *Replayer) info(ctx context.Context, name string) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	stream, err := r.js.Stream(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("look up stream %s: %w", name, err)
	}
	return stream.CachedInfo(), nil
}

// Replay stores the letter's original on its subject, with its body and headers and [HeaderReplayed], and then
// deletes the letter. Before is true when somebody had stored it earlier, and all that was left to do was to delete
// the letter. For a letter that is gone the error is [ErrLetterNotFound]; where this one can't be
// replayed it is a [*ReplayError]. After any other error the same call may be tried again.
func (r *Replayer) Replay(ctx context.Context, sequence uint64) (before bool, err error) {
	letter, err := r.Get(ctx, sequence)
	if err != nil {
		return false, err
	}
	if before, err = r.store(ctx, letter); err != nil {
		return false, err
	}
	if err := r.Drop(ctx, sequence); err != nil && !errors.Is(err, ErrLetterNotFound) {
		return before, fmt.Errorf("letter %d was replayed: %w", sequence, err)
	}
	return before, nil
}

// store is all of a replay but the end of its letter.
func (r *Replayer) store(ctx context.Context, letter Letter) (before bool, err error) {
	msg, err := r.original(ctx, letter)
	if err != nil {
		return false, err
	}
	note := r.firstNote(letter)
	if letter.Kind != KindWebhook {
		return r.storeNoted(ctx, letter, StreamChecks, note, msg)
	}
	if err := r.begin(ctx, letter, note); err != nil {
		return false, err
	}
	return r.storeNoted(ctx, letter, StreamWebhooks, nats.NewMsg(prefixReplayed+letter.place()), msg)
}

// firstNote is the one in PUBLISH_CHECKS.
func (r *Replayer) firstNote(letter Letter) *nats.Msg {
	note := nats.NewMsg(prefixReplay + letter.place())
	note.Header.Set(jetstream.MsgTTLHeader, r.keepNotes)
	return note
}

// place is a subject token, one for each letter there ever is.
func (l Letter) place() string { return fmt.Sprintf("%d-%d", l.Sequence, l.Time.UnixNano()) }

// begin notes that a webhook's replay begins. Where one began before, it makes sure that PUBLISH_WEBHOOKS still
// knows what came of it.
func (r *Replayer) begin(ctx context.Context, letter Letter, note *nats.Msg) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	var err error
	if note.Data, err = json.Marshal(r.webhooks); err != nil {
		return err
	}
	_, err = r.js.PublishMsg(ctx, note, jetstream.WithExpectLastSequencePerSubject(0))
	if err == nil {
		return nil
	}
	if !isThere(err) {
		return fmt.Errorf("note that letter %d is replayed: %w", letter.Sequence, err)
	}
	found, err := r.note(ctx, letter, StreamChecks, note.Subject)
	if err != nil {
		return err
	}
	var began webhooksPosition
	if err := json.Unmarshal(found.Data, &began); err != nil {
		return &ReplayError{letter.Sequence, fmt.Sprintf("the note on %s can't be read: %s", note.Subject, err)}
	}
	now, err := r.info(ctx, StreamWebhooks)
	if err != nil {
		return err
	}
	if now.Created.UnixNano() != began.Created || now.State.FirstSeq > began.Last+1 {
		return &ReplayError{letter.Sequence, fmt.Sprintf("that was begun at %s, and %s does not reach back so far any more: it can't be told whether the webhook was stored then",
			found.Time.UTC().Format(time.RFC3339), StreamWebhooks)}
	}
	return nil
}

// storeNoted stores a note and a message, both or none; none where the note is there already.
func (r *Replayer) storeNoted(ctx context.Context, letter Letter, stream string, note, msg *nats.Msg) (before bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	for {
		before, err := r.storeBatch(ctx, letter, stream, note, msg)
		if refusal, ok := errors.AsType[*jetstream.APIError](err); !ok || refusal.ErrorCode != codeIncompleteBatch {
			return before, err
		}
		select { // the server has too many batches in hand, or its leader went: nothing is stored
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return false, err
		}
	}
}

func (r *Replayer) storeBatch(ctx context.Context, letter Letter, stream string, note, msg *nats.Msg) (before bool, err error) {
	batch := uuid.NewString()
	for i, m := range []*nats.Msg{note, msg} {
		m.Header.Set(headerBatchID, batch)
		m.Header.Set(headerBatchSequence, strconv.Itoa(i+1))
	}
	note.Header.Set(jetstream.ExpectedLastSubjSeqHeader, "0")
	note.Header.Set(jetstream.ExpectedStreamHeader, stream)
	msg.Header.Set(headerBatchCommit, "1")
	if headers := headerSize(msg); headers > maxHeader {
		return false, &ReplayError{letter.Sequence, fmt.Sprintf("its headers would be %d bytes, and JetStream stores %d at most", headers, maxHeader)}
	}
	// The server answers the batch's last message alone; one before that it did not take makes it refuse that.
	if err := r.js.Conn().PublishMsg(note); err != nil {
		return false, fmt.Errorf("replay letter %d: %w", letter.Sequence, err)
	}
	answer, err := r.js.Conn().RequestMsgWithContext(ctx, msg)
	if errors.Is(err, nats.ErrMaxPayload) {
		return false, r.tooLarge(letter, msg)
	}
	if err != nil {
		return false, fmt.Errorf("replay letter %d: %w", letter.Sequence, err)
	}
	var ack struct {
		Error  *jetstream.APIError `json:"error"`
		Stream string              `json:"stream"`
	}
	switch err := json.Unmarshal(answer.Data, &ack); {
	case err != nil:
		return false, fmt.Errorf("replay letter %d: read JetStream's answer: %w", letter.Sequence, err)
	case ack.Error == nil:
		return false, nil
	case ack.Error.ErrorCode == codeMessageTooLarge, ack.Error.ErrorCode == codeHeaderTooLarge:
		return false, r.tooLarge(letter, msg)
	case !isThere(ack.Error):
		return false, fmt.Errorf("replay letter %d: %w", letter.Sequence, ack.Error)
	}
	// On a cluster another's batch may be on its way only: the letter must not go before it has arrived.
	_, err = r.note(ctx, letter, stream, note.Subject)
	return err == nil, err
}

func (r *Replayer) tooLarge(letter Letter, msg *nats.Msg) error {
	return &ReplayError{letter.Sequence, fmt.Sprintf("with the headers that say so it would be %d bytes, more than the server takes", headerSize(msg)+len(msg.Data))}
}

// isThere tells whether JetStream refused a note because its subject has one.
func isThere(err error) bool {
	refusal, ok := errors.AsType[*jetstream.APIError](err)
	return ok && (refusal.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || refusal.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}

// note returns a note that must be there.
func (r *Replayer) note(ctx context.Context, letter Letter, stream, subject string) (*jetstream.RawStreamMsg, error) {
	s, err := r.js.Stream(ctx, stream)
	if err != nil {
		return nil, fmt.Errorf("look up stream %s: %w", stream, err)
	}
	found, err := s.GetLastMsgForSubject(ctx, subject)
	if err != nil {
		return nil, fmt.Errorf("letter %d is being replayed by someone else at this moment: %w", letter.Sequence, err)
	}
	return found, nil
}

// original is the message that died, as it is put back.
func (r *Replayer) original(ctx context.Context, letter Letter) (*nats.Msg, error) {
	if !letter.ofItsKind() {
		return nil, &ReplayError{letter.Sequence, fmt.Sprintf("its original's subject is %s, where no %s lies", quote(letter.Subject), quote(string(letter.Kind)))}
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
	carryHeaders(msg, header, maxHeader)
	return msg, nil
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
	lost := &ReplayError{letter.Sequence, fmt.Sprintf("%d bytes of its %d were cut off, and the whole original is not in %s any more", letter.Whole-letter.Size, letter.Whole, quote(letter.Stream))}
	if letter.Kind != KindWebhook || letter.Stream != StreamWebhooks || letter.OriginalSequence == 0 {
		return nil, lost
	}
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	webhooks, err := r.js.Stream(ctx, StreamWebhooks)
	if err != nil {
		return nil, fmt.Errorf("look up stream %s: %w", StreamWebhooks, err)
	}
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
