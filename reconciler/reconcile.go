package reconciler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"time"

	"github.com/google/uuid"
)

// Reconciler reconciles logs in batches. Make one with [New]; its methods may be called at the same time.
type Reconciler struct {
	store     Store
	scheduler Scheduler
	prober    Prober
	inbox     Inbox
	policy    Policy
	logger    *slog.Logger
	observer  Observer // nil: nobody is told
}

// New returns a reconciler that keeps its logs in store, has checks scheduled by scheduler, and platforms
// asked by prober; without one (nil) nobody is asked. Without an inbox (nil) all webhooks count as read.
func New(store Store, scheduler Scheduler, prober Prober, inbox Inbox, policy Policy, logger *slog.Logger) *Reconciler {
	return &Reconciler{store: store, scheduler: scheduler, prober: prober, inbox: inbox, policy: policy, logger: logger}
}

// Webhook is what a platform said about a post.
type Webhook struct {
	Post Post
	// Fields is the message's object as [Storable] returns it.
	Fields map[string]any
	// ReceivedAt is when JetStream stored the message: a redelivery carries the same.
	ReceivedAt time.Time
}

// Check asks for one log to be looked at.
type Check struct {
	LogID uuid.UUID
	// Timeout takes the place of the policy's. Nil: the policy's.
	Timeout *time.Duration
}

// Outcome is what became of one request of a batch.
type Outcome struct {
	Kind OutcomeKind
	// Err says why, when the kind is Rejected.
	Err error
}

// OutcomeKind says whether a request is done with.
type OutcomeKind int

// The kinds of outcomes.
const (
	// Later: nothing is known to be written; the request has to come again. It is the zero value.
	Later OutcomeKind = iota
	// Done: what there was to do is committed.
	Done
	// NotFound: no log has this id.
	NotFound
	// Rejected: the database refuses what the request would write, and would again.
	Rejected
	// Held: another transaction holds a log that the request is about, and may for long; the request has to
	// come again, not at once.
	Held
)

// transact waits a moment for logs that others hold. Then it goes on without these, so that they hold up
// nobody but themselves.
func (r *Reconciler) transact(ctx context.Context, keys Keys, requests int, decide func(Locked) Changes) error {
	decideSigned := func(locked Locked) Changes {
		changes := decide(locked)
		if r.policy.HoldMax == 0 {
			changes.Signs = nil
		}
		return changes
	}
	err := r.commit(ctx, keys, requests, decideSigned)
	if errors.Is(err, ErrLocked) && !keys.SkipLocked {
		keys.SkipLocked = true
		err = r.commit(ctx, keys, requests, decideSigned)
	}
	return err
}

// Webhooks reconciles the logs of each webhook's post, and parks the webhooks without one. There is an
// outcome for each. An error means that the store failed: those that are not Done have to come again.
func (r *Reconciler) Webhooks(ctx context.Context, webhooks []Webhook) ([]Outcome, error) {
	outcomes := make([]Outcome, len(webhooks))
	err := splitRefused(0, len(webhooks), func(from, to int) error {
		return r.webhooks(ctx, webhooks[from:to], outcomes[from:to])
	}, func(i int, err error) { outcomes[i] = Outcome{Rejected, err} })
	return outcomes, err
}

func (r *Reconciler) webhooks(ctx context.Context, webhooks []Webhook, outcomes []Outcome) error {
	posts := make([]Post, 0, len(webhooks))
	seen := make(map[Post]bool, len(webhooks))
	for _, webhook := range webhooks {
		if post := webhook.Post; !seen[post] {
			seen[post] = true
			posts = append(posts, post)
		}
	}
	held := make(map[Post]bool)
	err := r.transact(ctx, Keys{Posts: posts}, len(webhooks), func(locked Locked) Changes {
		for _, log := range locked.Held {
			held[log.Post] = true
		}
		drafts := make([]*draft, len(locked.Logs))
		byPost := make(map[Post][]*draft, len(locked.Logs))
		for i, log := range locked.Logs {
			drafts[i] = newDraft(log)
			byPost[log.Post] = append(byPost[log.Post], drafts[i])
		}
		var changes Changes
		for _, webhook := range webhooks {
			logs := byPost[webhook.Post]
			if len(logs) == 0 && !held[webhook.Post] {
				changes.Park = append(changes.Park, park(webhook))
				changes.observations = append(changes.observations, Observation{Platform: webhook.Post.Platform, Result: ResultParked, Trigger: TriggerWebhook})
				continue
			}
			evidence := ReadWebhook(webhook.Post.Platform, webhook.Fields, webhook.ReceivedAt)
			for _, draft := range logs {
				r.decide(draft, Question{Trigger: TriggerWebhook, Webhook: &evidence}, locked.Now)
			}
		}
		for _, draft := range drafts {
			changes.gather(draft)
		}
		return changes
	})
	if err != nil {
		return fmt.Errorf("reconcile %d webhooks: %w", len(webhooks), err)
	}
	for i, webhook := range webhooks {
		outcomes[i].Kind = Done
		if held[webhook.Post] {
			outcomes[i].Kind = Held
		}
	}
	return nil
}

// Checks reconciles one log each. There is an outcome for each check. Logs that have to be looked at again
// have a check scheduled when it returns. An error means that the store or the scheduler failed: those
// that are Later have to come again.
func (r *Reconciler) Checks(ctx context.Context, checks []Check) ([]Outcome, error) {
	outcomes := make([]Outcome, len(checks))
	err := splitRefused(0, len(checks), func(from, to int) error {
		findings, err := r.look(ctx, checks[from:to], TriggerCheck)
		for i, finding := range findings {
			outcomes[from+i] = Outcome{finding.kind, finding.err}
		}
		return err
	}, func(i int, err error) { outcomes[i] = Outcome{Rejected, err} })
	return outcomes, err
}

func (r *Reconciler) decide(d *draft, q Question, now time.Time) Decision {
	return d.apply(Decide(d.log, q, r.policy, now), q, now)
}

// parkNamespace makes the ids of parked webhooks: a random UUID, fixed for ever.
var parkNamespace = uuid.MustParse("9a4c6b1e-5f0d-4c57-8f2a-3d1b7e60c2f4")

// maxParked is the size up to which a webhook is parked whole. Of a larger one only that is kept which can
// bear on a log, since hundreds of them are in memory at once when they are found again; the whole message
// stays in its stream.
const maxParked = 64 << 10

func park(w Webhook) ParkedWebhook {
	// What the platform sent as a whole bears on no log, and differs each time that it says the same.
	if _, whole := w.Fields[fieldRaw].(map[string]any); whole {
		w.Fields = maps.Clone(w.Fields)
		delete(w.Fields, fieldRaw)
	}
	content, err := json.Marshal([]any{w.Post.Platform, w.Post.ExternalPostID, w.Fields})
	if err != nil {
		panic(err) // what was decoded from JSON can be encoded
	}
	parked := ParkedWebhook{
		ID:         uuid.NewSHA1(parkNamespace, content),
		Post:       w.Post,
		Fields:     w.Fields,
		ReceivedAt: w.ReceivedAt,
	}
	if len(content) > maxParked {
		parked.Fields = scalars(w.Fields)
	}
	return parked
}

// splitRefused does the requests from one place up to another, and where the database refuses something in
// them, in halves, until what is refused stands alone: n neighbours cost log2 n more transactions.
func splitRefused(from, to int, do func(from, to int) error, refused func(int, error)) error {
	if from == to {
		return nil
	}
	err := do(from, to)
	switch {
	case !errors.Is(err, ErrRefused):
		return err
	case to-from == 1:
		refused(from, err)
		return nil
	}
	half := from + (to-from)/2
	if err := splitRefused(from, half, do, refused); err != nil {
		return err
	}
	return splitRefused(half, to, do, refused)
}
