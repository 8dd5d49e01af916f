package console

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"publish-reconciler/reconciler"
	"publish-reconciler/repo"
)

const (
	// pastWindow is what the chart shows; pastStep is one of its points.
	pastWindow = 24 * time.Hour
	pastStep   = 10 * time.Minute
	// nowAge and pastAge are how old what all visitors share may get, at least; see [cached].
	nowAge  = 2 * time.Second
	pastAge = 15 * time.Second
	// maxRows bounds the table of platforms. Their names are the publishers'.
	maxRows = 100
	// maxStreams bounds the visitors who watch at the same time.
	maxStreams = 100
	// writeTime is how long a visitor may take to read what moved.
	writeTime = 10 * time.Second
)

// Now is how things stand.
type Now struct {
	// Parts says of each part of the service "ok", or what is wrong.
	Parts map[string]string
	// Platforms have open logs, and Holds hold them; nil: not known.
	Platforms []repo.Backlog
	Holds     []reconciler.Hold
	// Parked and Outbox count what waits in Postgres; nil: not known, and so are the next two.
	Parked, Outbox *int
	Dead           *uint64
	NextSweep      *NextSweep
	// Timeout is a platform's.
	Timeout func(platform string) time.Duration
}

// NextSweep is when the next sweep comes, and why then, in words. A zero time: under way, or none is pending.
type NextSweep struct {
	At  time.Time
	Why string
}

// overview is the page.
type overview struct {
	At time.Time
	// Headline says whether all is well; Well that it is.
	Headline  string
	Well      bool
	Parts     []part
	Platforms []platformRow
	Total     platformRow
	More      int // platforms that are left out
	// KnowsOpen tells that it is known what is open, KnowsPast that it is known what happened.
	KnowsOpen, KnowsPast bool
	Parked               *int
	Outbox               *int
	Dead                 *uint64
	NextSweep            *NextSweep
	// PastTrouble is why it is not known what happened, and TimesTrouble why it is not known how long confirmations took.
	PastTrouble, TimesTrouble string
	Day                       counts
	// Points are the chart's, as JSON: seconds, confirmed, failed by timeout, failed otherwise.
	Points string
}

type part struct {
	Name, State string
	OK          bool
}

type counts struct{ Confirmed, TimedOut, Rejected, Late int }

func (c *counts) add(a repo.Activity) {
	c.Confirmed += a.Confirmed
	c.TimedOut += a.TimedOut
	c.Rejected += a.Rejected
	c.Late += a.Late
}

type platformRow struct {
	repo.Backlog
	Timeout   time.Duration
	HeldUntil *time.Time
	Hour, Day counts
	Times     *repo.ConfirmTimes
	// Tight tells that one in a hundred confirmations comes in the last fifth of the timeout, or later.
	Tight bool
}

// urgency is one where logs wait for a person or a hold, and zero elsewhere.
func (r platformRow) urgency() int {
	if r.Skipped > 0 || r.HeldUntil != nil {
		return 1
	}
	return 0
}

// overviews makes the overview, once for all who look at it.
type overviews struct {
	console *Console
	now     cached[Now]
	past    cached[pastFacts]
	// fragment is the part of the page that moves, as it is sent.
	fragment cached[[]byte]
	streams  atomic.Int64
}

// pastFacts are what happened.
type pastFacts struct {
	// at is when it was asked for, by the database's clock, and since is when the day begins.
	at, since time.Time
	// day is in steps; hour goes back from at.
	day, hour []repo.Activity
	times     []repo.ConfirmTimes
	// What is wrong where it is not known.
	trouble, timesTrouble string
}

// lookBack asks for what happened. That the one takes too long does not hide the other.
func (c *Console) lookBack(ctx context.Context) (p pastFacts) {
	trouble := func(err error) (text string) {
		if err != nil {
			_, text = c.cfg.Translate(err)
		}
		return text
	}
	var err error
	if p.at, err = c.cfg.Facts.Time(ctx); err != nil {
		p.trouble, p.timesTrouble = trouble(err), trouble(err)
		return p
	}
	p.since = p.at.Add(-pastWindow).Truncate(pastStep)
	var asking sync.WaitGroup
	asking.Go(func() {
		var err error
		if p.day, err = c.cfg.Facts.Activity(ctx, p.since, pastStep); err == nil {
			p.hour, err = c.cfg.Facts.Activity(ctx, p.at.Add(-time.Hour), time.Hour)
		}
		p.trouble = trouble(err)
	})
	asking.Go(func() {
		var err error
		p.times, err = c.cfg.Facts.ConfirmTimes(ctx, p.since)
		p.timesTrouble = trouble(err)
	})
	asking.Wait()
	return p
}

func newOverviews(c *Console) *overviews {
	o := &overviews{console: c}
	o.now = newCached(nowAge, c.cfg.Facts.Now)
	o.past = newCached(pastAge, c.lookBack)
	o.fragment = newCached(nowAge/2, func(ctx context.Context) []byte {
		page, err := o.look(ctx)
		var text bytes.Buffer
		if err == nil {
			err = templates["overview.html"].ExecuteTemplate(&text, "live", page)
		}
		if err != nil {
			c.cfg.Logger.WarnContext(ctx, "overview not updated", "err", err)
			return nil
		}
		return text.Bytes()
	})
	return o
}

// look puts together what is known. The error is ctx's.
func (o *overviews) look(ctx context.Context) (overview, error) {
	now, err := o.now.get(ctx)
	if err != nil {
		return overview{}, err
	}
	past, err := o.past.get(ctx)
	if err != nil {
		return overview{}, err
	}
	return newOverview(now, past, time.Now()), nil
}

func newOverview(now Now, past pastFacts, at time.Time) overview {
	page := overview{
		At: at, Well: true, Parked: now.Parked, Outbox: now.Outbox, Dead: now.Dead, NextSweep: now.NextSweep,
		KnowsOpen: now.Platforms != nil, KnowsPast: past.trouble == "", PastTrouble: past.trouble, TimesTrouble: past.timesTrouble,
	}
	rows := make(map[string]*platformRow)
	row := func(name string) *platformRow {
		if rows[name] == nil {
			rows[name] = &platformRow{Backlog: repo.Backlog{Platform: name}, Timeout: now.Timeout(name)}
		}
		return rows[name]
	}
	for _, backlog := range now.Platforms {
		row(backlog.Platform).Backlog = backlog
	}
	for _, hold := range now.Holds {
		row(hold.Platform).HeldUntil = &hold.Until
	}
	if page.KnowsPast {
		for _, a := range past.day {
			row(a.Platform).Day.add(a)
			page.Day.add(a)
		}
		for _, a := range past.hour {
			row(a.Platform).Hour.add(a)
		}
	}
	for _, times := range past.times {
		r := row(times.Platform)
		r.Times, r.Tight = &times, times.P99 > r.Timeout*4/5
	}
	for _, r := range rows {
		page.Platforms = append(page.Platforms, *r)
		page.Total.add(*r)
	}
	slices.SortFunc(page.Platforms, func(a, b platformRow) int { return strings.Compare(a.Platform, b.Platform) })
	if page.More = len(page.Platforms) - maxRows; page.More > 0 {
		// Those that need somebody stay, and then those with the most open logs.
		slices.SortStableFunc(page.Platforms, func(a, b platformRow) int {
			return cmp.Or(cmp.Compare(b.urgency(), a.urgency()), cmp.Compare(b.Open, a.Open))
		})
		page.Platforms = page.Platforms[:maxRows]
	}
	page.Points = points(past)
	page.judge(now)
	return page
}

// judge sums up in a sentence.
func (p *overview) judge(now Now) {
	var troubles []string
	for name, state := range now.Parts {
		ok := state == "ok"
		p.Parts = append(p.Parts, part{name, state, ok})
		if !ok {
			troubles = append(troubles, name+" is not ready")
		}
	}
	slices.SortFunc(p.Parts, func(a, b part) int { return strings.Compare(a.Name, b.Name) })
	slices.Sort(troubles)
	if held := len(now.Holds); held > 0 {
		troubles = append(troubles, counted(held, "platform is held", "platforms are held"))
	}
	if skipped := p.Total.Skipped; skipped > 0 {
		troubles = append(troubles, counted(skipped, "log is skipped", "logs are skipped")+" for unclear evidence")
	}
	if p.Dead != nil && *p.Dead > 0 {
		troubles = append(troubles, counted(int(min(*p.Dead, 1<<30)), "dead letter waits", "dead letters wait"))
	}
	if len(troubles) == 0 && (now.Platforms == nil || now.Holds == nil) {
		troubles = append(troubles, "everything is ready, but whether logs wait for a person is not known")
	}
	p.Well = len(troubles) == 0
	p.Headline = "All is well: everything is ready, and nothing waits for a person."
	if !p.Well {
		p.Headline = capital(strings.Join(troubles, "; ")) + "."
	}
}

// add sums up what the table's last line shows.
func (r *platformRow) add(other platformRow) {
	r.Open += other.Open
	r.Due += other.Due
	r.Skipped += other.Skipped
	r.Held += other.Held
	r.Hour.TimedOut += other.Hour.TimedOut
	r.Day.TimedOut += other.Day.TimedOut
}

// points are one for each step, also where nothing happened. The last one is left out: it is not over, and would look
// like a fall.
func points(past pastFacts) string {
	steps := int(past.at.Sub(past.since) / pastStep)
	if past.trouble != "" || steps < 1 || steps > 2*int(pastWindow/pastStep) {
		return "[]"
	}
	seconds, confirmed, timedOut, rejected := make([]int64, steps), make([]int, steps), make([]int, steps), make([]int, steps)
	for i := range steps {
		seconds[i] = past.since.Add(time.Duration(i) * pastStep).Unix()
	}
	for _, a := range past.day {
		if i := int(a.At.Sub(past.since) / pastStep); i >= 0 && i < steps {
			confirmed[i] += a.Confirmed + a.Late
			timedOut[i] += a.TimedOut
			rejected[i] += a.Rejected
		}
	}
	text, err := json.Marshal([]any{seconds, confirmed, timedOut, rejected})
	if err != nil {
		panic(err) // numbers are always JSON
	}
	return string(text)
}

func (c *Console) showOverview(w http.ResponseWriter, r *http.Request) error {
	page, err := c.live.look(r.Context())
	if err != nil {
		return err
	}
	return c.render(w, r, http.StatusOK, "overview.html", view{Title: "Overview", Section: "overview", Chart: true}, page)
}

// streamOverview sends the part that moves, whenever it has, as server-sent events (HTML Standard, 9.2). An event as-of
// tells that what was sent still holds.
func (c *Console) streamOverview(w http.ResponseWriter, r *http.Request) error {
	if c.live.streams.Add(1) > maxStreams {
		c.live.streams.Add(-1)
		return problem(http.StatusServiceUnavailable, "More than %d visitors watch already.", maxStreams)
	}
	defer c.live.streams.Add(-1)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would hold it back
	stream := http.NewResponseController(w)
	var last []byte
	for c.hasSession(r) { // it may end
		fragment, err := c.live.fragment.get(r.Context())
		if err != nil {
			return nil // the visitor has gone
		}
		text := ": nothing is known\n\n"
		if fragment != nil {
			text = "event: as-of\ndata: " + time.Now().UTC().Format(time.RFC3339) + "\n\n"
			if !bytes.Equal(fragment, last) {
				text = "data: " + strings.ReplaceAll(strings.TrimSpace(string(fragment)), "\n", "\ndata: ") + "\n\n" + text
			}
			last = fragment
		}
		_ = stream.SetWriteDeadline(time.Now().Add(writeTime))
		if _, err := fmt.Fprint(w, text); err != nil {
			return nil // the visitor has gone
		}
		if stream.Flush() != nil {
			return nil
		}
		select {
		case <-time.After(nowAge):
		case <-r.Context().Done():
			return nil
		case <-c.cfg.Stop:
			return nil
		}
	}
	return nil
}
