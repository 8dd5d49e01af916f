package reconciler

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// When a platform counts as gone quiet: within the window at least so many of its logs fell due in silence,
// and not a single one was confirmed.
const (
	HoldWindow  = 10 * time.Minute
	HoldDueLogs = 20
)

// Hold is a platform's outage: nothing confirms its posts, so its logs are not failed by silence.
type Hold struct {
	Platform string    `json:"platform"`
	Since    time.Time `json:"since"`
	// Until is when it ends, if no confirmation ends it before.
	Until time.Time `json:"until"`
}

// Sign is what one log told about its platform.
type Sign struct {
	Platform string
	// Confirmed: the platform's word made the log a success.
	Confirmed bool
	// Silent: the log was moved because its deadline had passed in silence.
	Silent bool
}

// Platform is what is known of a platform, the same for all replicas.
type Platform struct {
	Name string
	// ConfirmedAt is the last confirmation, to about a second; zero when there was none.
	ConfirmedAt time.Time
	// Due counts the logs within the window that were moved because of silence.
	Due int
	// Hold is the latest hold, also when it is over; nil when there was none.
	Hold *Hold
	// HoldEnded tells that the end of the hold was told.
	HoldEnded bool
}

// Held tells whether the platform's hold is on.
func (p Platform) Held(now time.Time) bool {
	return p.Hold != nil && !p.returned() && now.Before(p.Hold.Until)
}

// returned tells whether the platform confirmed something since its hold began.
func (p Platform) returned() bool { return p.ConfirmedAt.After(p.Hold.Since) }

// goneQuiet tells whether a hold has to begin, given so many more logs that are due in silence. A hold that
// ended by itself is not begun again before the platform has confirmed something.
func (p Platform) goneQuiet(due int, now time.Time) bool {
	return p.Due+due >= HoldDueLogs && now.Sub(p.ConfirmedAt) >= HoldWindow && (p.Hold == nil || p.returned())
}

// HoldChange begins or ends a platform's hold.
type HoldChange struct {
	// Hold is the new one, or the one that ended.
	Hold Hold
	// Begun is what is told of the begin, if the store keeps an outbox; nil for an end.
	Begun *HoldBegun
}

// HoldBegun is told when the logs of a platform are held from now on (publish.event.<platform>.hold). Its JSON
// is the event's body.
type HoldBegun struct {
	// ID is the Nats-Msg-Id.
	ID uuid.UUID `json:"-"`
	Hold
	Reason Reason `json:"reason"`
	// DueLogs counts the logs that fell due in silence within [HoldWindow].
	DueLogs int `json:"due_logs"`
	// Time is the database's, in UTC.
	Time time.Time `json:"time"`
}

// holds returns the holds that the platforms are under, and begins and ends them. Due counts the logs of each
// platform that are to be failed for silence now.
func (r *Reconciler) holds(ctx context.Context, due map[string]int) (map[string]*Hold, error) {
	if r.policy.HoldMax == 0 || len(due) == 0 {
		return nil, nil
	}
	names := make([]string, 0, len(due))
	for name := range due {
		names = append(names, name)
	}
	var holds map[string]*Hold
	var changes []HoldChange
	err := r.store.Platforms(ctx, names, HoldWindow, func(platforms []Platform, now time.Time) []HoldChange {
		holds, changes = make(map[string]*Hold), nil
		for _, p := range platforms {
			switch {
			case p.Held(now):
				holds[p.Name] = p.Hold
			case p.goneQuiet(due[p.Name], now):
				hold := Hold{Platform: p.Name, Since: now.UTC(), Until: now.Add(r.policy.HoldMax).UTC()}
				holds[p.Name] = &hold
				changes = append(changes, HoldChange{Hold: hold, Begun: &HoldBegun{
					ID: uuid.Must(uuid.NewV7()), Hold: hold, Reason: ReasonPlatformHold, DueLogs: p.Due + due[p.Name], Time: now.UTC(),
				}})
			case p.Hold != nil && !p.HoldEnded:
				changes = append(changes, HoldChange{Hold: *p.Hold})
			}
		}
		return changes
	})
	if err != nil {
		return nil, fmt.Errorf("look for holds: %w", err)
	}
	for _, change := range changes {
		if change.Begun != nil {
			r.logger.WarnContext(ctx, "platform confirms nothing, its logs are held", "platform", change.Hold.Platform,
				"due_logs", change.Begun.DueLogs, "until", change.Hold.Until)
		} else {
			r.logger.InfoContext(ctx, "platform's logs are no longer held", "platform", change.Hold.Platform)
		}
	}
	return holds, nil
}
