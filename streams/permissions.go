package streams

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// subjectUserInfo is where a server of 2.9 or later tells a user what he may do.
const subjectUserInfo = "$SYS.REQ.USER.INFO"

// Use is what the service's user has to be allowed beyond the rest.
type Use struct {
	// Manage: it creates and updates the streams and consumers.
	Manage bool
	// Events: it publishes outcome events.
	Events bool
	// Page: operators check logs, and read, replay and drop dead letters, on the page.
	Page bool
}

// ServiceInboxPrefix is what the service hears answers on: [nats.CustomInboxPrefix]. It is its own, so that nobody who may
// hear the answers to his own questions hears the service's, which hold webhooks.
const ServiceInboxPrefix = "_INBOX_reconciler"

// ServiceName is the service's for NATS: nats micro info publish-reconciler.
const ServiceName = "publish-reconciler"

// needed are the subjects that the service publishes to and subscribes to. On those of $SRV the
// micro package of nats.go answers.
func (u Use) needed() (publish, subscribe []string) {
	const api = jetstream.DefaultAPIPrefix
	publish = []string{prefixWebhook + "*", prefixDead + "*", "publish.schedule.>", prefixProbe + "*"}
	for _, s := range Streams(1) {
		publish = append(publish, api+"STREAM.INFO."+s.Name)
		if u.Manage {
			publish = append(publish, api+"STREAM.CREATE."+s.Name, api+"STREAM.UPDATE."+s.Name)
		}
	}
	publish = append(publish, api+"STREAM.MSG.GET."+StreamWebhooks, api+"STREAM.MSG.GET."+StreamChecks)
	for _, c := range Consumers() {
		place := c.Stream + "." + c.Config.Durable
		publish = append(publish, api+"CONSUMER.INFO."+place, api+"CONSUMER.MSG.NEXT."+place, "$JS.ACK."+place+".>")
		if u.Manage {
			publish = append(publish, api+"CONSUMER.CREATE."+place+"."+c.Config.FilterSubject)
		}
	}
	if u.Events {
		publish = append(publish, prefixEvent+">")
	}
	if u.Page {
		publish = append(publish, prefixCheck+"*")
		publish = append(publish, neededForLetters()...)
	}
	subscribe = []string{prefixAPI + "*"}
	for _, verb := range []string{"PING", "STATS", "INFO"} {
		subject := "$SRV." + verb
		subscribe = append(subscribe, subject, subject+"."+ServiceName, subject+"."+ServiceName+".*")
	}
	return publish, append(subscribe, ServiceInboxPrefix+".>")
}

// neededForLetters are the subjects that [Letters] and [Replayer] publish to, beyond those of the rest.
func neededForLetters() []string {
	const (
		api    = jetstream.DefaultAPIPrefix
		bucket = "KV_" + BucketReplays
	)
	return []string{
		SubjectSweep,
		api + "STREAM.MSG.GET." + StreamDead, api + "STREAM.MSG.DELETE." + StreamDead,
		api + "CONSUMER.CREATE." + StreamDead + ".*." + prefixDead + "*",
		api + "CONSUMER.INFO." + StreamDead + ".*", api + "CONSUMER.MSG.NEXT." + StreamDead + ".*", api + "CONSUMER.DELETE." + StreamDead + ".*",
		api + "STREAM.INFO." + bucket, api + "STREAM.CREATE." + bucket, api + "STREAM.UPDATE." + bucket,
		api + "DIRECT.GET." + bucket + ".>", "$KV." + BucketReplays + ".>",
	}
}

// Permissions is what a user may do, as the server tells it. Its zero value allows everything.
type Permissions struct {
	Publish   Subjects `json:"publish"`
	Subscribe Subjects `json:"subscribe"`
	// Responses is set where the user may answer whoever asks him, on any subject (allow_responses).
	Responses *struct{} `json:"responses"`
}

// Subjects are those that are allowed, all where none is named, but for those that are denied.
type Subjects struct {
	Allow []string `json:"allow"`
	Deny  []string `json:"deny"`
}

// Allows tells whether all that a subject matches, which may have wildcards, is allowed.
func (s Subjects) Allows(subject string) bool {
	named := func(all []string, matches func(string) bool) bool {
		return slices.ContainsFunc(all, func(entry string) bool {
			entry, _, _ = strings.Cut(entry, " ") // a queue group may follow
			return matches(entry)
		})
	}
	allowed := len(s.Allow) == 0 || named(s.Allow, func(entry string) bool { return takesIn(entry, subject) })
	return allowed && !named(s.Deny, func(entry string) bool { return meet(entry, subject) })
}

// meet tells whether some subject is matched by both.
func meet(a, b string) bool {
	left, right := strings.Split(a, "."), strings.Split(b, ".")
	for i := range min(len(left), len(right)) {
		switch {
		case left[i] == ">" || right[i] == ">":
			return true
		case left[i] != right[i] && left[i] != "*" && right[i] != "*":
			return false
		}
	}
	return len(left) == len(right)
}

// AskPermissions asks the server what the connection's user may do.
func AskPermissions(ctx context.Context, nc *nats.Conn) (Permissions, error) {
	answer, err := nc.RequestWithContext(ctx, subjectUserInfo, nil)
	if err != nil {
		return Permissions{}, fmt.Errorf("ask on %s: %w", subjectUserInfo, err)
	}
	var info struct {
		Data struct {
			Permissions Permissions `json:"permissions"`
		} `json:"data"`
		Error json.RawMessage `json:"error"`
	}
	if err := json.Unmarshal(answer.Data, &info); err != nil {
		return Permissions{}, fmt.Errorf("read the answer on %s: %w", subjectUserInfo, err)
	}
	if len(info.Error) > 0 {
		return Permissions{}, fmt.Errorf("ask on %s: %s", subjectUserInfo, info.Error)
	}
	return info.Data.Permissions, nil
}

// Missing is what the service needs beyond the permissions, such as "publish to publish.dead.*".
func (p Permissions) Missing(use Use) []string {
	var missing []string
	publish, subscribe := use.needed()
	for _, subject := range publish {
		if !p.Publish.Allows(subject) {
			missing = append(missing, "publish to "+subject)
		}
	}
	if inbox := nats.InboxPrefix + ">"; p.Responses == nil && !p.Publish.Allows(inbox) {
		missing = append(missing, "publish to "+inbox+" (or allow_responses)")
	}
	for _, subject := range subscribe {
		if !p.Subscribe.Allows(subject) {
			missing = append(missing, "subscribe to "+subject)
		}
	}
	return missing
}
