package repo_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"publish-reconciler/reconciler"
)

// The service is played against a plain model of CONTRACT.md, sections 3 to 5, that knows neither transactions
// nor SQL. Time is coarse there: a log is fresh, or it is old, and then its deadline has passed.
//
// For hours: go test ./repo -run TestAgainstTheModel -rapid.checks 100000 -timeout 0
func TestAgainstTheModel(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	rapid.Check(t, func(t *rapid.T) {
		p := newPlay(t, w)
		t.Repeat(map[string]func(*rapid.T){
			"":              p.compare,
			"publish":       p.publish,
			"start":         p.start,
			"grow old":      p.growOld,
			"webhook":       p.webhook,
			"webhook again": p.redeliver,
			"check":         p.check,
			"sweep":         p.sweep,
			"override":      p.override,
		})
	})
}

const (
	playPatience = time.Hour
	playOld      = 2 * time.Hour
	playRetries  = 1 // of tiktok; instagram has none
)

// play is a run of the service and of the model side by side. Each has platforms of its own, by a prefix,
// since they share a database.
type play struct {
	w       *world
	run     string
	service *reconciler.Reconciler
	crash   *crashes

	logs   []*modelLog
	parked []modelWebhook
	sent   []modelWebhook
	clock  time.Time // of the webhooks
}

type modelLog struct {
	id             uuid.UUID
	platform, post string
	old            bool
	told           modelWebhook    // what is recorded
	skips          map[string]bool // the statuses that a skip was told of
	modelRow
}

// modelRow is what is compared.
type modelRow struct {
	Status, Reason                                     string
	Retries                                            int
	Reconciled, Received, Overridden, Skipped, Removed int
}

// modelWebhook says one of a few things. The zero value is silence.
type modelWebhook struct {
	platform, post, status string
	at                     time.Time
}

func (w modelWebhook) clear() bool { return w.status == "published" || w.status == "rejected" }

// crashes is a store whose transactions fail as they are told: before they commit, or afterwards.
type crashes struct {
	reconciler.Store
	next string
}

var errCrash = errors.New("crashed")

const (
	crashBefore = "before the commit"
	crashAfter  = "after the commit"
)

// drawCrash decides how the next transaction ends; mostly well.
func (p *play) drawCrash(t *rapid.T) string {
	p.crash.next = rapid.SampledFrom([]string{"", "", crashBefore, crashAfter}).Draw(t, "crash")
	return p.crash.next
}

func (c *crashes) Transact(ctx context.Context, keys reconciler.Keys, decide func(reconciler.Locked) reconciler.Changes) error {
	how := c.next
	c.next = ""
	if how == crashBefore {
		return errCrash
	}
	err := c.Store.Transact(ctx, keys, decide)
	if how == crashAfter {
		err = cmp.Or(err, errCrash)
	}
	return err
}

func newPlay(t *rapid.T, w *world) *play {
	p := &play{w: w, run: uuid.NewString()[:8], crash: &crashes{Store: w.store}, clock: receivedAt}
	policy := reconciler.Policy{DefaultTimeout: playPatience, Retries: map[string]int{p.platform("tiktok"): playRetries}}
	p.service = reconciler.New(p.crash, &diary{}, nil, nil, policy, slog.New(slog.DiscardHandler))
	// The sweeps of this run meet nothing of the one before.
	if _, err := w.db.Exec(w.Context(), `TRUNCATE publish_logs, parked_webhooks`); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *play) platform(name string) string { return name + "-" + p.run }

// do has the service do something until it succeeds, as redeliveries do.
func (p *play) do(t *rapid.T, what func() error) {
	p.drawCrash(t)
	for range 2 {
		err := what()
		switch {
		case err == nil:
			p.crash.next = ""
			return
		case !errors.Is(err, errCrash):
			t.Fatal(err)
		}
	}
	t.Fatal("it crashed twice")
}

// The publisher's doings.

func (p *play) publish(t *rapid.T) {
	if len(p.logs) == 6 {
		t.Skip("enough")
	}
	log := &modelLog{
		id:       uuid.New(),
		platform: p.platform(rapid.SampledFrom([]string{"tiktok", "instagram"}).Draw(t, "platform")),
		post:     rapid.SampledFrom([]string{"a", "b"}).Draw(t, "post"),
		skips:    map[string]bool{},
	}
	log.Status = rapid.SampledFrom([]string{"processing", "pending"}).Draw(t, "status")
	p.exec(t, `INSERT INTO publish_logs (id, platform, status, external_post_id) VALUES ($1, $2, $3, $4)`, log.id, log.platform, log.Status, log.post)
	p.logs = append(p.logs, log)
}

func (p *play) start(t *rapid.T) {
	log := p.draw(t, func(l *modelLog) bool { return l.Status == "pending" })
	p.exec(t, `UPDATE publish_logs SET status = 'processing', updated_at = now() WHERE id = $1`, log.id)
	log.Status, log.old = "processing", false
}

func (p *play) growOld(t *rapid.T) {
	log := p.draw(t, func(l *modelLog) bool { return !l.old })
	p.exec(t, `UPDATE publish_logs SET updated_at = now() - $2::interval WHERE id = $1`, log.id, playOld)
	log.old = true
}

// The service's, and the model's.

func (p *play) webhook(t *rapid.T) {
	p.clock = p.clock.Add(time.Second)
	w := modelWebhook{
		platform: p.platform(rapid.SampledFrom([]string{"tiktok", "instagram"}).Draw(t, "platform")),
		post:     rapid.SampledFrom([]string{"a", "b"}).Draw(t, "post"),
		status:   rapid.SampledFrom([]string{"published", "rejected", "in_review", "queued", "removed"}).Draw(t, "status"),
		at:       p.clock,
	}
	p.sent = append(p.sent, w)
	p.deliver(t, w)
}

func (p *play) redeliver(t *rapid.T) {
	if len(p.sent) == 0 {
		t.Skip("no webhook yet")
	}
	p.deliver(t, rapid.SampledFrom(p.sent).Draw(t, "message"))
}

func (p *play) deliver(t *rapid.T, w modelWebhook) {
	p.do(t, func() error {
		_, err := p.service.Webhooks(p.w.Context(), []reconciler.Webhook{{
			Post:       reconciler.Post{Platform: w.platform, ExternalPostID: w.post},
			Fields:     map[string]any{"external_post_id": w.post, "status": w.status},
			ReceivedAt: w.at,
		}})
		return err
	})
	logs := p.of(w.platform, w.post)
	for _, log := range logs {
		log.hear(w)
	}
	same := func(other modelWebhook) bool {
		return other.platform == w.platform && other.post == w.post && other.status == w.status
	}
	if len(logs) == 0 && !slices.ContainsFunc(p.parked, same) {
		p.parked = append(p.parked, w)
	}
}

func (p *play) check(t *rapid.T) {
	log := p.draw(t, func(*modelLog) bool { return true })
	patience := playPatience
	p.do(t, func() error {
		_, err := p.service.Checks(p.w.Context(), []reconciler.Check{{LogID: log.id, Timeout: &patience}})
		return err
	})
	if !p.findParked(log.platform, log.post) {
		log.look()
	}
}

func (p *play) sweep(t *rapid.T) {
	p.do(t, func() error {
		_, err := p.service.Sweep(p.w.Context(), reconciler.SweepRequest{Trigger: reconciler.TriggerSweep})
		return err
	})
	for _, w := range slices.Clone(p.parked) {
		p.findParked(w.platform, w.post)
	}
	for _, log := range p.logs {
		if log.old && log.open() {
			log.look()
		}
	}
}

func (p *play) override(t *rapid.T) {
	log := p.draw(t, func(*modelLog) bool { return true })
	to := rapid.SampledFrom([]string{"success", "failed"}).Draw(t, "to")
	wanted := log.Status != to
	override := func() error {
		_, err := p.service.Override(p.w.Context(), reconciler.Override{LogID: log.id, Status: reconciler.Status(to), Actor: "ana"})
		return err
	}
	how := p.drawCrash(t)
	err, refused := override(), !wanted
	if how != "" {
		if !errors.Is(err, errCrash) {
			t.Fatalf("override crashed %s: %v", how, err)
		}
		err, refused = override(), !wanted || how == crashAfter // whoever asks again hears that it is so already
	}
	if refused != errors.Is(err, reconciler.ErrNoChange) || err != nil && !refused {
		t.Fatalf("override %s by %s: %v", log.Status, to, err)
	}
	if wanted {
		log.Overridden++
		log.move(to, "overridden")
	}
}

// of are the logs of a post.
func (p *play) of(platform, post string) []*modelLog {
	var found []*modelLog
	for _, log := range p.logs {
		if log.platform == platform && log.post == post {
			found = append(found, log)
		}
	}
	return found
}

// findParked has the logs of a post hear what is parked for it, if there is a log, and something.
func (p *play) findParked(platform, post string) bool {
	logs := p.of(platform, post)
	if len(logs) == 0 {
		return false
	}
	here := func(w modelWebhook) bool { return w.platform == platform && w.post == post }
	parked := slices.DeleteFunc(slices.Clone(p.parked), func(w modelWebhook) bool { return !here(w) })
	p.parked = slices.DeleteFunc(p.parked, here)
	for _, w := range parked { // they were parked in the order of their times
		for _, log := range logs {
			log.hear(w)
		}
	}
	return len(parked) > 0
}

func (l *modelLog) open() bool { return l.Status == "processing" || l.Status == "retry" }

func (l *modelLog) move(status, reason string) {
	l.Status, l.Reason, l.old = status, reason, false
}

// hear takes in a webhook.
func (l *modelLog) hear(w modelWebhook) {
	if l.Status == "success" {
		if w.status == "removed" && w.at.After(l.told.at) {
			l.Removed = 1 // once, since it names no event
		}
		return
	}
	news := true
	switch {
	case l.told.status == "":
	case w.clear() != l.told.clear():
		news = w.clear()
	default:
		news = w.status != l.told.status && !w.at.Before(l.told.at)
	}
	if news {
		l.told = w
		l.Received++
		l.old = false
	}
	l.weigh(false)
}

// look decides the log on what it holds.
func (l *modelLog) look() { l.weigh(l.old) }

func (l *modelLog) weigh(due bool) {
	late := l.Status == "failed" && l.Reason == "webhook_timeout"
	switch {
	case l.told.status == "published" && l.open():
		l.Reconciled++
		l.move("success", "webhook_confirmed")
	case l.told.status == "published" && late:
		l.Reconciled++
		l.move("success", "webhook_late")
	case !l.open():
	case l.told.status == "rejected":
		l.Reconciled++
		l.move("failed", "webhook_rejected")
	case l.told.status != "":
		l.skips[l.told.status] = true
		l.Skipped = len(l.skips)
	case due && strings.HasPrefix(l.platform, "tiktok") && l.Retries < playRetries:
		l.Retries++
		l.Reconciled++
		l.move("retry", "retry_before_fail")
	case due:
		l.Reconciled++
		l.move("failed", "webhook_timeout")
	}
}

func (p *play) draw(t *rapid.T, fits func(*modelLog) bool) *modelLog {
	var names []string
	byName := map[string]*modelLog{}
	for i, log := range p.logs {
		if fits(log) {
			name := fmt.Sprintf("log %d (%s of %s)", i, log.post, strings.TrimSuffix(log.platform, "-"+p.run))
			names, byName[name] = append(names, name), log
		}
	}
	if len(names) == 0 {
		t.Skip("no such log")
	}
	return byName[rapid.SampledFrom(names).Draw(t, "log")]
}

func (p *play) exec(t *rapid.T, sql string, args ...any) {
	if _, err := p.w.db.Exec(p.w.Context(), sql, args...); err != nil {
		t.Fatalf("%v in %s", err, sql)
	}
}

// compare looks at every row and its ledger.
func (p *play) compare(t *rapid.T) {
	want := map[uuid.UUID]modelRow{}
	for _, log := range p.logs {
		want[log.id] = log.modelRow
	}
	rows, err := p.w.db.Query(p.w.Context(), `
		SELECT l.id, l.status, coalesce(l.extra_metadata->>'reconciliation_reason', ''), l.retry_count,
		       count(*) FILTER (WHERE e.event_type = 'publish_reconciled'), count(*) FILTER (WHERE e.event_type = 'publish_webhook_received'),
		       count(*) FILTER (WHERE e.event_type = 'publish_overridden'), count(*) FILTER (WHERE e.event_type = 'publish_reconcile_skipped'),
		       count(*) FILTER (WHERE e.event_type = 'publish_removed')
		  FROM publish_logs l LEFT JOIN ledger_events e ON e.entity_type = 'publish_log' AND e.entity_id = l.id::text
		 GROUP BY l.id`)
	if err != nil {
		t.Fatal(err)
	}
	got := map[uuid.UUID]modelRow{}
	var id uuid.UUID
	var r modelRow
	if _, err := pgx.ForEachRow(rows, []any{&id, &r.Status, &r.Reason, &r.Retries, &r.Reconciled, &r.Received, &r.Overridden, &r.Skipped, &r.Removed}, func() error { got[id] = r; return nil }); err != nil {
		t.Fatal(err)
	}
	for i, log := range p.logs {
		if got[log.id] != want[log.id] {
			t.Errorf("log %d is   %+v\nmust be %+v", i, got[log.id], want[log.id])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d logs, must be %d", len(got), len(want))
	}
	var parked int
	if err := p.w.db.QueryRow(p.w.Context(), `SELECT count(*) FROM parked_webhooks`).Scan(&parked); err != nil || parked != len(p.parked) {
		t.Errorf("%d webhooks are parked, must be %d (%v)", parked, len(p.parked), err)
	}
}
