package streams

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Headers of a message schedule (ADR-51 of the NATS architecture, server 2.12 and later).
const (
	headerSchedule       = "Nats-Schedule"
	headerScheduleTarget = "Nats-Schedule-Target"
	headerScheduler      = "Nats-Scheduler" // on what a schedule fired: the schedule's subject
)

// PublishWebhook hands in what a platform said about a post and returns once JetStream has stored it.
// The platform is one subject token such as "instagram". The body is the platform's own JSON object with
// an external_post_id; what could only become a dead letter is refused with a [*DecodeError] before it is
// sent. With jetstream.WithMsgID a webhook that is handed in again within two minutes is stored once.
// Without a deadline in ctx it waits five seconds for JetStream's answer. Where the connection's user may not do it
// errors.Is tells [nats.ErrPermissionViolation], at once; of several that are refused together on one connection the
// last hears so, and the others wait in vain.
func PublishWebhook(ctx context.Context, js jetstream.Publisher, platform string, body []byte, opts ...jetstream.PublishOpt) error {
	msg, err := WebhookMessage(platform, body)
	if err != nil {
		return err
	}
	if err := publish(ctx, js, msg, opts...); err != nil {
		return fmt.Errorf("publish webhook of %s: %w", strings.TrimPrefix(msg.Subject, prefixWebhook), err)
	}
	return nil
}

// WebhookMessage is the message that [PublishWebhook] publishes, for producers that publish many at once or
// want JetStream's answer. The error is a [*DecodeError].
func WebhookMessage(platform string, body []byte) (*nats.Msg, error) {
	webhook, err := DecodeWebhook(WebhookSubject(platform), body)
	if err != nil {
		return nil, err
	}
	msg := nats.NewMsg(WebhookSubject(webhook.Platform))
	msg.Data = body
	return msg, nil
}

// ScheduleCheck has the log checked at the given moment, by the NATS server's clock. It takes the place of
// the check that is pending for the log, if any. A moment that has passed means now (within about 250 ms).
// It returns once JetStream has stored the schedule; without a deadline in ctx it waits five seconds. Where the
// connection's user may not do it errors.Is tells [nats.ErrPermissionViolation]. Call it once the log's row is
// committed: a check whose log does not appear within half a minute becomes a dead letter.
func ScheduleCheck(ctx context.Context, js jetstream.Publisher, check Check, at time.Time) error {
	if err := publish(ctx, js, CheckSchedule(check, at)); err != nil {
		return fmt.Errorf("schedule check of log %s: %w", check.LogID, err)
	}
	return nil
}

// CheckSchedule is the message that [ScheduleCheck] publishes, for producers that publish many at once.
func CheckSchedule(check Check, at time.Time) *nats.Msg {
	return schedule(ScheduleCheckSubject(check.LogID), CheckSubject(check.LogID), check.body(), at)
}

// RetrySchedule has a check that found no log delivered again at the given moment, whole, with the given
// number of tries so far in [HeaderTries]. It stays a replayed one, and leaves the log's pending check
// alone.
func RetrySchedule(logID uuid.UUID, original jetstream.Msg, origin *jetstream.MsgMetadata, tries int, at time.Time) *nats.Msg {
	msg := schedule(prefixScheduleRetry+logID.String(), CheckSubject(logID), original.Data(), at)
	sequence, stored := firstPlace(original, origin)
	msg.Header.Set(HeaderFirstSequence, sequence)
	msg.Header.Set(HeaderFirstTime, stored)
	msg.Header.Set(HeaderTries, strconv.Itoa(tries))
	if n := replays(original.Headers(), HeaderReplays); n > 0 {
		msg.Header.Set(HeaderReplayed, oneLine(original.Headers().Get(HeaderReplayed)))
		msg.Header.Set(HeaderReplays, strconv.Itoa(n))
	}
	carryHeaders(msg, original.Headers(), maxHeader)
	return msg
}

// SweepSchedule fires a sweep at the given moment; it takes the place of the one that is pending. Delay and
// reason are how that moment was chosen; they come with the sweep, see [SweepPace].
func SweepSchedule(at time.Time, delay time.Duration, reason string) *nats.Msg {
	msg := schedule(SubjectScheduleSweep, SubjectSweep, nil, at)
	msg.Header.Set(HeaderSweepDelay, delay.String())
	msg.Header.Set(HeaderSweepReason, reason)
	return msg
}

// SweepPace is what [SweepSchedule] was told, of the schedule or of the sweep that it fired. Both are zero
// where the message says nothing.
func SweepPace(header nats.Header) (delay time.Duration, reason string) {
	delay, err := time.ParseDuration(header.Get(HeaderSweepDelay))
	if err != nil || delay < 0 {
		delay = 0
	}
	return delay, header.Get(HeaderSweepReason)
}

// schedule writes the headers itself: nats.go's WithScheduleAt cuts to whole seconds, which fires early.
func schedule(subject, target string, body []byte, at time.Time) *nats.Msg {
	// The server counts nanoseconds since 1970 in an int64: what does not fit, such as the zero time, is
	// stored and never fires.
	if earliest := time.Unix(0, 0); at.Before(earliest) {
		at = earliest
	} else if latest := time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC); at.After(latest) {
		at = latest
	}
	msg := nats.NewMsg(subject)
	msg.Data = body
	msg.Header.Set(headerSchedule, "@at "+at.UTC().Format(time.RFC3339Nano))
	msg.Header.Set(headerScheduleTarget, target)
	return msg
}

// IsTick tells whether a sweep's message was fired by the pending schedule, not published by hand.
func IsTick(header nats.Header) bool {
	return header.Get(headerScheduler) == SubjectScheduleSweep
}

// PruneSchedule has old rows deleted at the given moment; it takes the place of the one that is pending.
func PruneSchedule(at time.Time) *nats.Msg {
	return schedule(SubjectSchedulePrune, SubjectSweep, nil, at)
}

// IsPrune tells whether a sweep's message asks for old rows to be deleted instead.
func IsPrune(header nats.Header) bool {
	return header.Get(headerScheduler) == SubjectSchedulePrune
}

// ScheduledAt is the moment at which the schedule fires; false for a message that is no schedule of
// the "@at" form.
func ScheduledAt(header nats.Header) (time.Time, bool) {
	at, err := time.Parse("@at "+time.RFC3339, header.Get(headerSchedule))
	return at, err == nil
}

// CancelCheck takes the log's pending check back. It is no error when there is none. A check that has
// fired already is not called back. It needs no right beyond that of [ScheduleCheck], and fails as that does.
func CancelCheck(ctx context.Context, js jetstream.Publisher, logID uuid.UUID) error {
	if err := publish(ctx, js, CheckCancellation(logID)); err != nil {
		return fmt.Errorf("cancel check of log %s: %w", logID, err)
	}
	return nil
}

// CheckCancellation is the message that [CancelCheck] publishes, for producers that publish many at once. It takes the
// place of the schedule, is none itself, and is gone after a second: to purge the stream of the schedule's subject would
// need the right to purge it of all.
func CheckCancellation(logID uuid.UUID) *nats.Msg {
	msg := nats.NewMsg(ScheduleCheckSubject(logID))
	msg.Header.Set(jetstream.MsgRollup, jetstream.MsgRollupSubject)
	msg.Header.Set(jetstream.MsgTTLHeader, "1s") // the least that there is
	return msg
}

func (c Check) body() []byte {
	if c.Timeout == nil {
		return nil
	}
	body, err := json.Marshal(map[string]float64{"timeout_minutes": c.Timeout.Minutes()})
	if err != nil {
		panic(err) // a float64 made from a duration is always finite
	}
	return body
}
