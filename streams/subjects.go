package streams

import (
	"strings"

	"github.com/google/uuid"
)

// The streams. Their settings are in [Streams].
const (
	StreamWebhooks = "PUBLISH_WEBHOOKS"
	StreamChecks   = "PUBLISH_CHECKS"
	StreamDead     = "PUBLISH_DEAD"
	StreamEvents   = "PUBLISH_EVENTS"
)

// The durable pull consumers. Their settings are in [Consumers].
const (
	ConsumerWebhooks = "webhooks"
	ConsumerChecks   = "checks"
	ConsumerSweeper  = "sweeper"
)

// Subjects without a variable part.
const (
	// SubjectSweep starts a sweep.
	SubjectSweep = "publish.sweep"
	// SubjectScheduleSweep holds the one pending schedule that fires [SubjectSweep].
	SubjectScheduleSweep = "publish.schedule.sweep"
	// SubjectSchedulePrune holds the one pending schedule that has old rows deleted: it fires [SubjectSweep], and
	// [IsPrune] tells it from a sweep.
	SubjectSchedulePrune = "publish.schedule.prune"
)

const (
	prefixWebhook       = "publish.webhook."
	prefixCheck         = "publish.check."
	prefixScheduleCheck = "publish.schedule.check."
	prefixScheduleRetry = "publish.schedule.retry."
	prefixDead          = "publish.dead."
	prefixEvent         = "publish.event."
	prefixProbe         = "publish.probe."
	prefixAPI           = "publish.api."
)

// Kind names what a message asks for; it is the last token of its dead letter's subject.
type Kind string

// The kinds of messages the service consumes.
const (
	KindWebhook Kind = "webhook"
	KindCheck   Kind = "check"
	KindSweep   Kind = "sweep"
)

// WebhookSubject is where webhooks of a platform are published. The platform is one subject token in
// lower case, such as "instagram".
func WebhookSubject(platform string) string { return prefixWebhook + platform }

// CheckSubject is where a log's check is published, to be done at once.
func CheckSubject(logID uuid.UUID) string { return prefixCheck + logID.String() }

// ScheduleCheckSubject holds a log's one pending check: JetStream keeps one schedule a subject.
func ScheduleCheckSubject(logID uuid.UUID) string { return prefixScheduleCheck + logID.String() }

// APISubject is where the service answers operators' requests, one subject for each endpoint.
func APISubject(endpoint string) string { return prefixAPI + endpoint }

// DeadSubject is where a message of this kind goes that can never be processed.
func DeadSubject(kind Kind) string { return prefixDead + string(kind) }

// EventSubject is where the outcome of a log is announced. What a subject token cannot hold in the
// platform's name (white space, '.', '*', '>', control characters) becomes '_', and what is longer than
// [MaxPlatformBytes] is cut: the server closes the connection of who sends a subject past 4 KiB.
func EventSubject(platform, outcome string) string {
	return prefixEvent + token(platform) + "." + outcome
}

// ProbeSubject is where a platform is asked what became of a post. What a subject token cannot hold becomes
// '_', as in [EventSubject].
func ProbeSubject(platform string) string { return prefixProbe + token(platform) }

func token(s string) string {
	if s == "" {
		return "_"
	}
	if len(s) > MaxPlatformBytes {
		s = strings.ToValidUTF8(s[:MaxPlatformBytes], "")
	}
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r == 0x7f || r == '.' || r == '*' || r == '>' {
			return '_'
		}
		return r
	}, s)
}
