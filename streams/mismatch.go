package streams

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// MismatchError is one thing about a stream or a consumer that is not as the service needs it.
type MismatchError struct {
	Stream string
	// Consumer is empty where the stream itself is meant.
	Consumer string
	// Setting is the name JetStream's API has for it, such as "max_age". Empty: all of it is missing.
	Setting string
	// Found and Want are texts for people; Want reads on after "must be".
	Found, Want string
	// Fixed: JetStream can't change it in place. Only an administrator can decide what becomes of the
	// messages that lie there.
	Fixed bool
}

func (m *MismatchError) Error() string {
	name := "stream " + m.Stream
	if m.Consumer != "" {
		name = "consumer " + m.Consumer + " of " + name
	}
	if m.Setting == "" {
		return name + " is missing"
	}
	text := fmt.Sprintf("%s: %s is %s, must be %s", name, m.Setting, m.Found, m.Want)
	if m.Fixed {
		text += ", which JetStream can't change in place: an administrator has to move it out of the way"
	}
	return text
}

// comparison collects what differs about one stream or consumer.
type comparison struct {
	stream, consumer string
	mismatches       []*MismatchError
}

func (c *comparison) differs(setting string, found, want any) {
	c.mismatches = append(c.mismatches, &MismatchError{
		Stream: c.stream, Consumer: c.consumer, Setting: setting, Found: fmt.Sprint(found), Want: fmt.Sprint(want),
	})
}

func (c *comparison) fixed(setting string, found, want any) {
	c.differs(setting, found, want)
	c.mismatches[len(c.mismatches)-1].Fixed = true
}

// must sets a setting that has one right value.
func must[T comparable](c *comparison, setting string, found *T, want T) {
	if *found != want {
		c.differs(setting, *found, want)
		*found = want
	}
}

// stays reports a setting that has one right value and that JetStream never changes.
func stays[T comparable](c *comparison, setting string, found, want T) {
	if found != want {
		c.fixed(setting, found, want)
	}
}

// atLeast raises a setting for which more is fine. Unlimited is the value that is more than any other.
func atLeast[T int | time.Duration](c *comparison, setting string, found *T, want T, isUnlimited func(T) bool) {
	switch {
	case isUnlimited(*found) || !isUnlimited(want) && *found >= want:
		return
	case isUnlimited(want):
		c.differs(setting, *found, "unlimited")
	default:
		c.differs(setting, *found, fmt.Sprint("at least ", want))
	}
	*found = want
}

func never[T int | time.Duration](T) bool      { return false }
func negative[T int | time.Duration](n T) bool { return n < 0 }
func zero[T int | time.Duration](n T) bool     { return n == 0 }

// mergeStream returns what is found with all that is wanted in it, and what differed. What the
// definition does not promise stays as the administrator has it.
func mergeStream(found, want jetstream.StreamConfig) (jetstream.StreamConfig, []*MismatchError) {
	c := &comparison{stream: want.Name}
	stays(c, "storage", found.Storage, want.Storage)
	stays(c, "sealed", found.Sealed, false)
	if found.Mirror != nil {
		c.fixed("mirror", found.Mirror.Name, "none")
	}
	if found.Retention == jetstream.WorkQueuePolicy || want.Retention == jetstream.WorkQueuePolicy {
		stays(c, "retention", found.Retention, want.Retention)
	} else {
		must(c, "retention", &found.Retention, want.Retention)
	}

	if subjects := mergeSubjects(found.Subjects, want.Subjects); len(subjects) != 0 {
		c.differs("subjects", list(found.Subjects), list(want.Subjects)+" among others")
		found.Subjects = subjects
	}
	atLeast(c, "num_replicas", &found.Replicas, want.Replicas, never)
	atLeast(c, "max_age", &found.MaxAge, want.MaxAge, zero)
	atLeast(c, "duplicate_window", &found.Duplicates, want.Duplicates, never)
	must(c, "discard", &found.Discard, want.Discard)
	if want.Discard == jetstream.DiscardOld {
		must(c, "discard_new_per_subject", &found.DiscardNewPerSubject, false)
	}
	// Without its acknowledgement a publisher never knows that a message is stored.
	must(c, "no_ack", &found.NoAck, false)
	if want.AllowMsgTTL {
		must(c, "allow_msg_ttl", &found.AllowMsgTTL, true)
	}
	if want.AllowMsgSchedules {
		must(c, "allow_msg_schedules", &found.AllowMsgSchedules, true)
	}
	if want.AllowRollup {
		stays(c, "deny_purge", found.DenyPurge, false)
		must(c, "allow_rollup_hdrs", &found.AllowRollup, true)
	}
	return found, c.mismatches
}

// mergeSubjects returns the subjects a stream must have, or none if it holds all that is wanted already.
// A stream's subjects must not overlap, so one that a wanted one takes in makes room for it.
func mergeSubjects(found, want []string) []string {
	missing := slices.DeleteFunc(slices.Clone(want), func(w string) bool {
		return slices.ContainsFunc(found, func(f string) bool { return takesIn(f, w) })
	})
	if len(missing) == 0 {
		return nil
	}
	kept := slices.DeleteFunc(slices.Clone(found), func(f string) bool {
		return slices.ContainsFunc(missing, func(m string) bool { return takesIn(m, f) })
	})
	return append(kept, missing...)
}

// takesIn tells whether every subject that inner matches is matched by outer.
func takesIn(outer, inner string) bool {
	outerTokens, innerTokens := strings.Split(outer, "."), strings.Split(inner, ".")
	for i, token := range outerTokens {
		if token == ">" {
			return len(innerTokens) > i
		}
		if i >= len(innerTokens) || innerTokens[i] == ">" || token != "*" && token != innerTokens[i] {
			return false
		}
	}
	return len(outerTokens) == len(innerTokens)
}

func list(subjects []string) string {
	if len(subjects) == 0 {
		return "none"
	}
	return strings.Join(subjects, " ")
}

// mergeConsumer is [mergeStream] for a consumer, whose stream is kept on the given number of servers.
func mergeConsumer(stream string, found, want jetstream.ConsumerConfig, replicas int) (jetstream.ConsumerConfig, []*MismatchError) {
	c := &comparison{stream: stream, consumer: want.Durable}
	stays(c, "deliver_policy", found.DeliverPolicy, want.DeliverPolicy)
	stays(c, "ack_policy", found.AckPolicy, want.AckPolicy)
	stays(c, "replay_policy", found.ReplayPolicy, want.ReplayPolicy)
	// What a consumer kept in memory has acknowledged would come back after a restart.
	stays(c, "mem_storage", found.MemoryStorage, false)

	filters := found.FilterSubjects
	if len(filters) == 0 && found.FilterSubject != "" {
		filters = []string{found.FilterSubject}
	}
	if !slices.Equal(filters, []string{want.FilterSubject}) {
		c.differs("filter_subject", list(filters), want.FilterSubject)
		found.FilterSubject, found.FilterSubjects = want.FilterSubject, nil
	}
	if slices.ContainsFunc(found.BackOff, func(wait time.Duration) bool { return wait < want.AckWait }) {
		c.differs("backoff", found.BackOff, fmt.Sprint("at least ", want.AckWait, " at every step"))
		found.BackOff = nil
	}
	atLeast(c, "ack_wait", &found.AckWait, want.AckWait, never)
	if found.MaxDeliver > 0 {
		c.differs("max_deliver", found.MaxDeliver, "unlimited")
		found.MaxDeliver = want.MaxDeliver
	}
	if want.MaxAckPending == 1 {
		must(c, "max_ack_pending", &found.MaxAckPending, 1)
	} else {
		atLeast(c, "max_ack_pending", &found.MaxAckPending, want.MaxAckPending, negative)
	}
	// Zero is as many as the stream has.
	if found.Replicas != 0 && found.Replicas < replicas {
		c.differs("num_replicas", strconv.Itoa(found.Replicas), fmt.Sprint("at least ", replicas))
		found.Replicas = 0
	}
	must(c, "headers_only", &found.HeadersOnly, false)
	// A consumer that vanishes when nobody asks takes its place in the stream with it.
	must(c, "inactive_threshold", &found.InactiveThreshold, 0)
	return found, c.mismatches
}
