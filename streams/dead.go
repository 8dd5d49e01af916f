package streams

import (
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Headers the service adds.
const (
	// HeaderDeadReason is one word: a [Reason].
	HeaderDeadReason = "Publish-Dead-Reason"
	// HeaderDeadError is a sentence for people.
	HeaderDeadError = "Publish-Dead-Error"
	// HeaderDeadSubject, HeaderDeadStream and HeaderDeadSequence say where the original lay.
	HeaderDeadSubject  = "Publish-Dead-Subject"
	HeaderDeadStream   = "Publish-Dead-Stream"
	HeaderDeadSequence = "Publish-Dead-Sequence"
	// HeaderDeadTime is when the original was stored (RFC 3339, UTC).
	HeaderDeadTime = "Publish-Dead-Time"
	// HeaderDeadTruncated is there only when the letter does not hold its original's whole body; it is
	// the number of bytes the whole one has.
	HeaderDeadTruncated = "Publish-Dead-Truncated"
	// HeaderDeadReplays is there only on the letter of an original that had been replayed: how often.
	HeaderDeadReplays = "Publish-Dead-Replays"
	// HeaderReplayed is on a message that was put back on its subject: the sequence that its letter had in
	// the stream of dead letters. HeaderReplays is how often it has been put back so far, 1 at first.
	HeaderReplayed = "Publish-Replayed"
	HeaderReplays  = "Publish-Replays"
	// HeaderTries counts the deliveries of a check that found no log.
	HeaderTries = "Publish-Check-Tries"
	// HeaderFirstSequence and HeaderFirstTime say where such a check lay first, or a message that was put back on its
	// subject; its dead letter has them as HeaderDeadSequence and HeaderDeadTime.
	HeaderFirstSequence = "Publish-First-Sequence"
	HeaderFirstTime     = "Publish-First-Time"
	// HeaderSweepDelay is how long the sweep waited for the one before it to be over (a Go duration), and
	// HeaderSweepReason why, in one word.
	HeaderSweepDelay  = "Publish-Sweep-Delay"
	HeaderSweepReason = "Publish-Sweep-Reason"
)

// Why a message that was understood is dead all the same.
const (
	// ReasonLogNotFound: a check named a log that did not appear within its retries.
	ReasonLogNotFound Reason = "log_not_found"
	// ReasonRefused: Postgres refuses what the message would write, however often it is tried.
	ReasonRefused Reason = "refused_by_database"
)

// DeadLetter is the message that keeps an original that can never be processed: its body and headers
// whole, and why. JetStream's own headers (Nats-…) are left out, since the server would act on them again,
// and the service's (Publish-…): a letter that is put back on its subject begins anew. So
// are headers whose names nats.go refuses to send. Its message id is the original's place, so that it is
// stored once however often the original comes. An original that was replayed lies in a place of its own, and
// so has a letter of its own, which counts the replays.
//
// A letter that would be larger than maxPayload, the server's limit (nats.Conn.MaxPayload; zero is none),
// loses as much of its body as it must, and all of its original's headers where they leave no room for
// its own. What is cut off stays to be read in the original's stream, for as long as that keeps it: a
// webhook for seven days.
func DeadLetter(kind Kind, original jetstream.Msg, origin *jetstream.MsgMetadata, reason Reason, cause error, maxPayload int64) *nats.Msg {
	letter := nats.NewMsg(DeadSubject(kind))
	letter.Data = original.Data()
	letter.Header.Set(HeaderDeadReason, string(reason))
	letter.Header.Set(HeaderDeadError, oneLine(cause.Error()))
	letter.Header.Set(HeaderDeadSubject, original.Subject())
	letter.Header.Set(HeaderDeadStream, origin.Stream)
	sequence, stored := firstPlace(original, origin)
	letter.Header.Set(HeaderDeadSequence, sequence)
	letter.Header.Set(HeaderDeadTime, stored)
	if n := replays(original.Headers(), HeaderReplays); n > 0 {
		letter.Header.Set(HeaderDeadReplays, strconv.Itoa(n))
	}
	// The time tells apart what a stream holds after it was deleted and made anew.
	letter.Header.Set(nats.MsgIdHdr, fmt.Sprintf("%s-%d-%d", origin.Stream, origin.Sequence.Stream, origin.Timestamp.UnixNano()))

	room := int64(maxHeader)
	if maxPayload > 0 {
		room = min(room, maxPayload)
	}
	carryHeaders(letter, original.Headers(), int(room))
	if maxPayload > 0 && int64(headerSize(letter)+len(letter.Data)) > maxPayload {
		letter.Header.Set(HeaderDeadTruncated, strconv.Itoa(len(letter.Data)))
		letter.Data = letter.Data[:max(0, int(maxPayload)-headerSize(letter))]
	}
	return letter
}

// FirstStored is when a message was stored first: before it was tried again, or died and was replayed.
func FirstStored(msg jetstream.Msg, origin *jetstream.MsgMetadata) time.Time {
	if _, stored, told := toldPlace(msg.Headers()); told {
		if at, err := time.Parse(time.RFC3339, stored); err == nil && at.Before(origin.Timestamp) {
			return at
		}
	}
	return origin.Timestamp
}

// firstPlace is where a message lay before it was tried again.
func firstPlace(original jetstream.Msg, origin *jetstream.MsgMetadata) (sequence, stored string) {
	sequence, stored, told := toldPlace(original.Headers())
	if !told {
		return strconv.FormatUint(origin.Sequence.Stream, 10), origin.Timestamp.UTC().Format(time.RFC3339Nano)
	}
	return oneLine(sequence), oneLine(stored)
}

// toldPlace is what a message itself tells of where it lay first; most tell nothing.
func toldPlace(header nats.Header) (sequence, stored string, told bool) {
	sequence, stored = header.Get(HeaderFirstSequence), header.Get(HeaderFirstTime)
	return sequence, stored, sequence != "" && stored != ""
}

// carryHeaders takes over the original's headers, but not JetStream's and the service's own; none of them
// where they need more than room together.
func carryHeaders(msg *nats.Msg, original nats.Header, room int) {
	own := maps.Clone(msg.Header)
	for name, values := range original {
		if isProducers(name) && sendable(name) {
			msg.Header[name] = values
		}
	}
	if headerSize(msg)+ownReserve > room {
		msg.Header = own
	}
}

// isProducers tells whether a header came with the original, and is neither JetStream's nor the service's.
func isProducers(name string) bool {
	return !strings.HasPrefix(name, "Nats-") && !strings.HasPrefix(name, "Publish-")
}

// replays reads a count of replays; zero for none, and for what is none.
func replays(header nats.Header, name string) int {
	const most = 1_000_000
	n, err := strconv.Atoi(header.Get(name))
	if err != nil || n < 0 || n > most {
		return 0
	}
	return n
}

const (
	// maxHeader is the most that JetStream stores: 64 KiB less one, which an original can have used up.
	maxHeader = 1<<16 - 1
	// ownReserve is room for one more header, HeaderDeadTruncated.
	ownReserve = 64
)

// headerSize is what a message's headers take on the wire. nats.go's Size counts the subject and the body
// too; the server's limit counts headers and body.
func headerSize(msg *nats.Msg) int {
	return msg.Size() - len(msg.Subject) - len(msg.Data)
}

// sendable tells whether nats.go sends a header of this name. Other clients may send more than that, and
// nats.go reads it, so a letter could be refused for ever for a header that came with its original.
func sendable(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune("\"()/,:;<=>?@[\\]{}", r)
	})
}

// oneLine makes a text fit for a header, whose value ends with its line.
func oneLine(s string) string {
	const most = 1024
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return strings.Join(strings.Fields(s), " ")
}
