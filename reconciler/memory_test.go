package reconciler

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
)

// row is a log with the columns that the rules write but never read, and with its ledger.
type row struct {
	Log
	Error     string
	Published time.Time
	RetriedAt time.Time
	ledger    []Event
	writes    int
}

// ask decides the row and writes what follows from it, in one transaction.
func (r *row) ask(q Question, policy Policy, now time.Time) Decision {
	log := r.Log
	log.Metadata = maps.Clone(log.Metadata)
	d := newDraft(LockedLog{Log: log})
	decision := d.apply(Decide(log, q, policy, now), q, now)
	var changes Changes
	changes.gather(d)
	for _, change := range changes.Rows {
		r.write(change, now)
	}
	for _, event := range changes.Ledger {
		r.tell(event)
	}
	return decision
}

// write does what [RowChange] says.
func (r *row) write(change RowChange, now time.Time) {
	r.writes++
	r.Status, r.UpdatedAt = change.Status, now
	if change.Error != nil {
		r.Error = *change.Error
	}
	if r.ExternalURL == "" {
		r.ExternalURL = change.ExternalURL
	}
	if change.Published {
		r.Published = now
	}
	if change.Retried {
		r.RetryCount, r.RetriedAt = change.RetryCount, now
	}
	merged := maps.Clone(r.Metadata)
	if merged == nil {
		merged = map[string]any{}
	}
	maps.Copy(merged, change.Metadata)
	r.Metadata = throughJSON(merged)
}

func (r *row) tell(event Event) {
	told := slices.ContainsFunc(r.ledger, func(old Event) bool { return old.ID == event.ID })
	if !event.Once || !told {
		r.ledger = append(r.ledger, event)
	}
}

// count is how many events of a type the row's history holds.
func (r *row) count(kind EventType) int {
	n := 0
	for _, event := range r.ledger {
		if event.Type == kind {
			n++
		}
	}
	return n
}

// throughJSON gives an object back as jsonb would.
func throughJSON(object map[string]any) map[string]any {
	text, err := json.Marshal(object)
	if err != nil {
		panic(err)
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var decoded map[string]any
	if err := decoder.Decode(&decoded); err != nil {
		panic(err)
	}
	return decoded
}

// memory is a [Store] and a [Scheduler]. A fake is right here: the tests are about what the reconciler asks
// for and what it makes of the answers. That Postgres answers like this is tested in package repo.
type memory struct {
	mu     sync.Mutex // one call at a time
	now    time.Time
	rows   map[uuid.UUID]*row
	parked map[uuid.UUID]ParkedWebhook

	poison map[string]bool    // the external ids of posts about which the database refuses every write
	held   map[uuid.UUID]bool // the logs that another transaction has locked, for ever
	outage func() error       // called before each transaction and query; its error is the store's
	broken error              // the scheduler's error

	oldEvents int // in the ledger

	platforms   map[string]Platform
	holdChanges []HoldChange

	locked       bool // a transaction is under way
	transactions int
	scheduled    []Recheck
	outbox       []StateChange
}

func (m *memory) Transact(ctx context.Context, keys Keys, decide func(Locked) Changes) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.transactions++
	if err := cmp.Or(m.outage(), ctx.Err()); err != nil {
		return err
	}
	locked := Locked{Now: m.now}
	for _, id := range m.named(keys) {
		switch {
		case m.held[id] && keys.SkipLocked:
			locked.Held = append(locked.Held, HeldLog{ID: id, Post: m.rows[id].Post})
			continue
		case m.held[id]:
			return ErrLocked
		}
		log := LockedLog{Log: m.rows[id].Log}
		log.Metadata = maps.Clone(log.Metadata)
		if keys.LogIDs != nil {
			log.Parked = m.parkedFor(log.Post)
		}
		locked.Logs = append(locked.Logs, log)
	}
	m.locked = true
	defer func() { m.locked = false }()
	return m.commit(decide(locked))
}

// named are the logs that the keys name, in the order of their ids.
func (m *memory) named(keys Keys) []uuid.UUID {
	posts := make(map[Post]bool, len(keys.Posts))
	for _, post := range keys.Posts {
		posts[post] = true
	}
	named := make(map[uuid.UUID]bool, len(keys.LogIDs))
	for _, id := range keys.LogIDs {
		if row, there := m.rows[id]; there {
			named[id] = true
			posts[row.Post] = posts[row.Post] || len(m.parkedFor(row.Post)) > 0
		}
	}
	for id, row := range m.rows {
		if posts[row.Post] {
			named[id] = true
		}
	}
	return slices.SortedFunc(maps.Keys(named), func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
}

func (m *memory) parkedFor(post Post) []ParkedWebhook {
	var found []ParkedWebhook
	for _, parked := range m.parked {
		if parked.Post == post {
			found = append(found, parked)
		}
	}
	slices.SortFunc(found, func(a, b ParkedWebhook) int { return a.ReceivedAt.Compare(b.ReceivedAt) })
	return found
}

func (m *memory) commit(changes Changes) error {
	for _, change := range changes.Rows {
		if post := m.rows[change.LogID].Post.ExternalPostID; m.poison[post] {
			return fmt.Errorf("write %s: %w", post, ErrRefused)
		}
	}
	for _, parked := range changes.Park {
		if m.poison[parked.Post.ExternalPostID] {
			return fmt.Errorf("park %s: %w", parked.Post.ExternalPostID, ErrRefused)
		}
	}
	for _, change := range changes.Rows {
		m.rows[change.LogID].write(change, m.now)
	}
	for _, event := range changes.Ledger {
		m.rows[event.LogID].tell(event)
	}
	for _, parked := range changes.Park {
		m.parked[parked.ID] = parked
	}
	m.outbox = append(m.outbox, changes.Outbox...)
	for _, id := range changes.Unpark {
		delete(m.parked, id)
	}
	for _, sign := range changes.Signs {
		m.sign(sign)
	}
	return nil
}

func (m *memory) Now(context.Context) (time.Time, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now, m.outage()
}

func (m *memory) DueLogs(_ context.Context, due Due) ([]DueLog, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.outage(); err != nil {
		return nil, err
	}
	var found []DueLog
	for id, row := range m.rows {
		timeout, own := due.Timeouts[row.Post.Platform]
		if !own {
			timeout = due.Timeout
		}
		place := DueLog{id, row.UpdatedAt}
		if row.Status.Open() && !row.UpdatedAt.After(due.Now.Add(-timeout)) && inSweepOrder(place, due.After) > 0 {
			found = append(found, place)
		}
	}
	slices.SortFunc(found, inSweepOrder)
	return found[:min(due.Limit, len(found))], nil
}

func inSweepOrder(a, b DueLog) int {
	return cmp.Or(a.UpdatedAt.Compare(b.UpdatedAt), bytes.Compare(a.ID[:], b.ID[:]))
}

func (m *memory) ParkedLogs(_ context.Context, after uuid.UUID, limit int) (logs []uuid.UUID, last uuid.UUID, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.outage(); err != nil {
		return nil, uuid.Nil, err
	}
	ids := slices.SortedFunc(maps.Keys(m.parked), func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	for _, id := range ids {
		if bytes.Compare(id[:], after[:]) <= 0 || limit == 0 {
			continue
		}
		limit--
		last = id
		for _, log := range m.named(Keys{Posts: []Post{m.parked[id].Post}}) {
			if !slices.Contains(logs, log) {
				logs = append(logs, log)
			}
		}
	}
	return logs, last, nil
}

// Platforms knows none of them before it was told.
func (m *memory) Platforms(_ context.Context, names []string, _ time.Duration, decide func([]Platform, time.Time) []HoldChange) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.outage(); err != nil {
		return err
	}
	slices.Sort(names)
	known := make([]Platform, len(names))
	for i, name := range names {
		known[i] = Platform{Name: name}
		if platform, there := m.platforms[name]; there {
			known[i] = platform
		}
	}
	for _, change := range decide(known, m.now) {
		platform := m.platforms[change.Hold.Platform]
		platform.Name, platform.Hold, platform.HoldEnded = change.Hold.Platform, &change.Hold, change.Begun == nil
		m.platforms[platform.Name] = platform
		m.holdChanges = append(m.holdChanges, change)
	}
	return nil
}

// sign takes in what a transaction learned; nothing leaves the window here.
func (m *memory) sign(sign Sign) {
	platform := m.platforms[sign.Platform]
	platform.Name = sign.Platform
	if sign.Silent {
		platform.Due++
	}
	if sign.Confirmed {
		platform.ConfirmedAt = m.now
	}
	m.platforms[sign.Platform] = platform
}

// PruneLedger has but a number of events that are old.
func (m *memory) PruneLedger(_ context.Context, _ time.Time, limit int) (deleted int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.outage(); err != nil {
		return 0, err
	}
	deleted = min(limit, m.oldEvents)
	m.oldEvents -= deleted
	return deleted, nil
}

func (m *memory) PruneParked(_ context.Context, before time.Time, limit int) (deleted int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.outage(); err != nil {
		return 0, err
	}
	for id, webhook := range m.parked {
		if webhook.ReceivedAt.Before(before) && deleted < limit {
			delete(m.parked, id)
			deleted++
		}
	}
	return deleted, nil
}

func (m *memory) ScheduleChecks(_ context.Context, checks []Recheck) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken != nil {
		return m.broken
	}
	m.scheduled = append(m.scheduled, checks...)
	return nil
}

// row is the n-th log as it stands now.
func (m *memory) row(n int) *row { return m.rows[logID(n)] }

// statuses are the logs' statuses in the order of their ids.
func (m *memory) statuses() []Status {
	var all []Status
	for _, id := range m.named(Keys{LogIDs: slices.Collect(maps.Keys(m.rows))}) {
		all = append(all, m.rows[id].Status)
	}
	return all
}

// setup is a world of its own: a reconciler and the logs in its store.
func setup(_ *testing.T, policy Policy, logs ...Log) (*Reconciler, *memory) {
	m := &memory{
		now:       noon,
		rows:      map[uuid.UUID]*row{},
		parked:    map[uuid.UUID]ParkedWebhook{},
		poison:    map[string]bool{},
		held:      map[uuid.UUID]bool{},
		platforms: map[string]Platform{},
		outage:    func() error { return nil },
	}
	for _, log := range logs {
		m.rows[log.ID] = &row{Log: log}
	}
	return New(m, m, nil, nil, policy, slog.New(slog.DiscardHandler)), m
}

// patient is the policy without settings.
var patient = Policy{DefaultTimeout: DefaultTimeout}
