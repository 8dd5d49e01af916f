package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"publish-reconciler/reconciler"
	"publish-reconciler/repo"
)

const (
	// indexMatters is the size of publish_logs from which on a search for due logs must go by the index.
	indexMatters = 16 << 20
	// overdueGrace lies beyond twice a timeout and the interval of sweeps: by then one has looked, and had time to close.
	overdueGrace = time.Minute
	// longParked is how old a parked webhook may get before somebody should look: its log never came.
	longParked = 24 * time.Hour
	// Outcome events are told within milliseconds.
	outboxLate, outboxStuck = 30 * time.Second, 5 * time.Minute
)

// postgresDoctor looks at Postgres, and changes nothing there.
type postgresDoctor struct {
	findings
	cfg   config
	store *repo.Store
}

func lookAtPostgres(ctx context.Context, cfg config) findings {
	d := postgresDoctor{cfg: cfg}
	var err error
	if d.store, err = repo.Open(repo.Config{URL: cfg.databaseURL, Timeout: doctorPatience}); err != nil {
		d.wrong("postgres", "%s", err)
		return d.findings
	}
	defer d.store.Close()
	now, err := d.store.Now(ctx)
	if err != nil {
		d.wrong("postgres", "%s: start it, or mend DATABASE_URL", err)
		return d.findings
	}
	d.ok("postgres", "it answers, and can be written to")
	d.lookAtClock(ctx, "postgres clock", d.store.Now)
	if !d.lookAtSchema(ctx) {
		return d.findings
	}
	d.lookAtPrivileges(ctx)
	d.lookAtIndexes(ctx)
	d.lookAtPlan(ctx, now)
	d.lookAtBacklog(ctx)
	d.lookAtWaiting(ctx, now)
	return d.findings
}

// lookAtSchema tells whether the tables are the program's.
func (d *postgresDoctor) lookAtSchema(ctx context.Context) (goOn bool) {
	ctx, cancel := context.WithTimeout(ctx, doctorPatience)
	defer cancel()
	schema, err := repo.CheckSchema(ctx, d.cfg.databaseURL)
	var refused *repo.SchemaError
	switch {
	case errors.As(err, &refused):
		d.wrong("schema", "%s", err) // it says what to do
		return false
	case err != nil:
		d.wrong("schema", "%s", err)
	case schema.Newer():
		d.ok("schema", "it is version %d, newer than the program's %d, which works with it", schema.Found, schema.Needed)
	default:
		d.ok("schema", "it is of the program's version")
	}
	return true
}

func (d *postgresDoctor) lookAtPrivileges(ctx context.Context) {
	const check = "postgres privileges"
	role, missing, err := d.store.MissingPrivileges(ctx, d.cfg.ledgerRetention > 0)
	if err != nil {
		d.wrong(check, "%s", err)
		return
	}
	for _, table := range slices.Sorted(maps.Keys(missing)) {
		d.wrong(check, "the role may not %s in %s: GRANT %s ON %[2]s TO %[4]s", strings.ToLower(strings.Join(missing[table], ", ")), table, strings.Join(missing[table], ", "), role)
	}
	if len(missing) == 0 {
		d.ok(check, "the role may do in all tables what the service does")
	}
}

func (d *postgresDoctor) lookAtIndexes(ctx context.Context) {
	const check = "indexes"
	indexes, err := d.store.Indexes(ctx)
	if err != nil {
		d.wrong(check, "%s", err)
		return
	}
	faults := 0
	for _, i := range indexes {
		create := fmt.Sprintf("CREATE INDEX CONCURRENTLY %s ON %s %s", i.Name, i.Table, i.Definition)
		switch {
		case !i.Found:
			d.wrong(check, "%s is missing: %s", i.Name, create)
		case !i.Valid:
			d.wrong(check, "%s is not valid, its making was broken off: DROP INDEX %[1]s, then %s", i.Name, create)
		default:
			continue
		}
		faults++
	}
	if faults == 0 {
		d.ok(check, "all %d are there and valid", len(indexes))
	}
}

func (d *postgresDoctor) lookAtPlan(ctx context.Context, now time.Time) {
	const check = "due logs"
	policy := d.cfg.policy
	plan, err := d.store.PlanDue(ctx, reconciler.Due{Now: now, Timeout: policy.DefaultTimeout, Timeouts: policy.Timeouts, Limit: 500})
	switch {
	case err != nil:
		d.wrong(check, "%s", err)
	case plan.Indexed:
		d.ok(check, "they are found by their index")
	case plan.Bytes < indexMatters:
		d.ok(check, "publish_logs is so small that no index is needed to find them")
	default:
		d.warn(check, "Postgres reads all of publish_logs to find them: ANALYZE publish_logs")
	}
}

// lookAtBacklog wants every log to be closed in time, unless it can't be.
func (d *postgresDoctor) lookAtBacklog(ctx context.Context) {
	policy, grace := d.cfg.policy, overdueGrace+d.cfg.sweepInterval
	twice := make(map[string]time.Duration, len(policy.Timeouts))
	for platform, timeout := range policy.Timeouts {
		twice[platform] = 2*timeout + grace
	}
	late, err := d.store.Backlogs(ctx, 2*policy.DefaultTimeout+grace, twice, policy.HoldMax > 0)
	if err != nil {
		d.wrong("open logs", "%s", err)
		return
	}
	open, skipped, overdue := 0, 0, 0
	var oldest *time.Time
	var platforms, held []string
	for _, b := range late {
		open += b.Open
		skipped += b.Skipped
		if b.Held > 0 {
			held = append(held, visible(b.Platform))
		}
		if n := b.Due - b.Skipped - b.Held; n > 0 {
			overdue += n
			platforms = append(platforms, visible(b.Platform))
		}
		if oldest == nil || b.OldestUpdate != nil && b.OldestUpdate.Before(*oldest) {
			oldest = b.OldestUpdate
		}
	}
	if overdue > 0 {
		d.wrong("open logs", "%s open for more than twice the timeout, on %s: see whether the service runs and keeps up", counted(overdue, "log is", "logs are"), strings.Join(platforms, ", "))
	} else {
		d.ok("open logs", "%d, the oldest last updated %s; none for more than twice its timeout for want of a look", open, orNever(oldest))
	}
	if skipped > 0 {
		d.warn("skipped logs", "%s open long after the deadline because the platform's word is unclear: see publish-reconciler list --reason webhook_unclear, and override what is known", counted(skipped, "log stays", "logs stay"))
	} else {
		d.ok("skipped logs", "none that is long past its deadline")
	}
	if len(held) > 0 {
		d.warn("holds", "logs are held on %s, which confirms nothing: see whether its webhooks reach us", strings.Join(held, ", "))
	}
}

func orNever(t *time.Time) string {
	if t == nil {
		return "never"
	}
	return moment(t)
}

// lookAtWaiting looks at what others should have taken by now.
func (d *postgresDoctor) lookAtWaiting(ctx context.Context, now time.Time) {
	waiting, err := d.store.Waiting(ctx)
	if err != nil {
		d.wrong("parked webhooks", "%s", err)
		return
	}
	words := andOldest(&waiting.Parked, waiting.OldestParked, &now)
	if at := waiting.OldestParked; at != nil && now.Sub(*at) > longParked {
		d.warn("parked webhooks", "%s: their logs never came, so see whether publishers write external_post_id as the platforms send it", words)
	} else {
		d.ok("parked webhooks", "%s", words)
	}
	words = andOldest(&waiting.Outbox, waiting.OldestOutbox, &now)
	lag := time.Duration(0)
	if waiting.OldestOutbox != nil {
		lag = now.Sub(*waiting.OldestOutbox)
	}
	switch {
	case waiting.Outbox > 0 && !d.cfg.events:
		d.warn("outbox", "%s, and EVENTS is off: turn it on to have them told, or DELETE FROM publish_outbox", words)
	case lag >= outboxStuck:
		d.wrong("outbox", "%s: see whether the service runs, and what its log says of outcome events", words)
	case lag >= outboxLate:
		d.warn("outbox", "%s: see whether the service reaches NATS", words)
	default:
		d.ok("outbox", "%s", words)
	}
}
