package console

import (
	"cmp"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"publish-reconciler/reconciler"
	"publish-reconciler/repo"
)

// maxQuery is the most that is looked for, in bytes: no longer post can be sent.
const maxQuery = 1024

// listPage is a page of logs, or what a search found.
type listPage struct {
	// Query, Status, Platform, Reason and Before are what the address says.
	Query, Status, Platform, Reason, Before string
	Statuses                                []string
	Reasons                                 []reconciler.Reason
	Rows                                    []reconciler.Row
	Parked                                  []repo.Parked
	// Next is where the next page begins; empty on the last one.
	Next string
}

// Filtered tells whether the address leaves something out.
func (p listPage) Filtered() bool { return p.Status+p.Platform+p.Reason+p.Query != "" }

var (
	statuses = []string{"pending", "processing", "retry", "success", "failed"}
	reasons  = []reconciler.Reason{
		reconciler.ReasonWebhookConfirmed, reconciler.ReasonWebhookRejected, reconciler.ReasonWebhookTimeout, reconciler.ReasonWebhookLate,
		reconciler.ReasonWebhookUnclear, reconciler.ReasonProbeConfirmed, reconciler.ReasonProbeRejected, reconciler.ReasonProbeUnclear,
		reconciler.ReasonRetryBeforeFail, reconciler.ReasonPlatformHold, reconciler.ReasonOverridden,
	}
)

// showLogs lists logs, newest first, or finds those of a post. The id of a log leads to it.
func (c *Console) showLogs(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	page := listPage{
		Query: strings.TrimSpace(q.Get("q")), Status: q.Get("status"), Platform: strings.TrimSpace(q.Get("platform")),
		Reason: q.Get("reason"), Before: q.Get("before"), Statuses: statuses, Reasons: reasons,
	}
	if page.Reason != "" && !slices.Contains(page.Reasons, reconciler.Reason(page.Reason)) {
		page.Reasons = append(slices.Clone(page.Reasons), reconciler.Reason(page.Reason))
	}
	title := "Logs"
	if page.Query != "" {
		if id, err := uuid.Parse(page.Query); err == nil {
			// A post's id may look like a log's.
			_, _, err := c.cfg.Logs.View(r.Context(), id)
			if err == nil {
				http.Redirect(w, r, "/logs/"+id.String(), http.StatusSeeOther)
				return nil
			}
			if !errors.Is(err, reconciler.ErrNotFound) {
				return err
			}
		}
		title = "Search"
		if err := c.find(r, &page); err != nil {
			return err
		}
	} else {
		rows, more, err := c.cfg.Logs.List(r.Context(), map[string]string{
			"status": page.Status, "platform": page.Platform, "reason": page.Reason, "before": page.Before,
		})
		if err != nil {
			return err
		}
		if page.Rows = rows; more {
			page.Next = rows[len(rows)-1].ID.String()
		}
	}
	return c.render(w, r, http.StatusOK, "logs.html", view{Title: title, Section: "logs", Query: page.Query}, page)
}

func (c *Console) find(r *http.Request, page *listPage) error {
	if len(page.Query) > maxQuery || strings.ContainsRune(page.Query+page.Platform, 0) {
		return problem(http.StatusBadRequest, "A post’s id has at most %d bytes, and none of them is zero.", maxQuery)
	}
	rows, parked, err := c.cfg.Logs.Find(r.Context(), page.Platform, strings.ToValidUTF8(page.Query, "\uFFFD"))
	if err != nil {
		return err
	}
	page.Rows = slices.DeleteFunc(rows, func(row reconciler.Row) bool {
		return page.Status != "" && string(row.Status) != page.Status || page.Reason != "" && string(row.Reason) != page.Reason
	})
	page.Parked = parked
	return nil
}

// logPage is all that is known of a log.
type logPage struct {
	reconciler.View
	reconciler.Explanation
	Timeline []moment
	// Done is what was just done to it, in words.
	Done string
}

// moment is a line of a log's timeline.
type moment struct {
	reconciler.HistoryEvent
	Heading string
	// Fields are the event's metadata, what tells most first; what the log says already is left out.
	Fields []field
}

type field struct{ Name, Value string }

// doneFor is how long a page tells what was just done.
const doneFor = time.Minute

var done = map[string]string{
	"override": "The log was overridden. It stands in its timeline below.",
	"check":    "A check was asked for. What it finds stands below within a moment; load the page again to see it.",
}

func (c *Console) showLog(w http.ResponseWriter, r *http.Request) error {
	page, err := c.readLog(r)
	if err != nil {
		return err
	}
	page.Done = page.justDone(r.URL.Query().Get("done"))
	return c.render(w, r, http.StatusOK, "log.html", view{Title: "Log " + page.ID.String(), Section: "logs"}, page)
}

// justDone says in words what was done, if the log's history says so too: anybody can make an address.
func (p logPage) justDone(deed string) string {
	event := map[string]reconciler.EventType{"override": reconciler.EventOverridden, "check": reconciler.EventCheckRequested}[deed]
	for _, e := range slices.Backward(p.History) {
		if e.Type == event {
			if p.Now.Sub(e.Timestamp) > doneFor {
				return ""
			}
			return done[deed]
		}
	}
	return ""
}

func (c *Console) readLog(r *http.Request) (logPage, error) {
	id, err := uuid.Parse(r.PathValue("id"))
	if err != nil {
		return logPage{}, problem(http.StatusBadRequest, "%s is no log’s id: it must be a UUID. To find a post, search for it.", quote(r.PathValue("id")))
	}
	var page logPage
	if page.View, page.Explanation, err = c.cfg.Logs.View(r.Context(), id); err != nil {
		return logPage{}, err
	}
	for _, event := range slices.Backward(page.History) {
		page.Timeline = append(page.Timeline, newMoment(event))
	}
	return page, nil
}

// readForForm reads a log for a form. One that is shown again, with what was typed, is worth showing even where the log
// can't be read: then there is nothing but its id.
func (c *Console) readForForm(r *http.Request, again bool) (logPage, error) {
	page, err := c.readLog(r)
	if _, refused := errors.AsType[pageError](err); err == nil || refused || !again {
		return page, err
	}
	if status, _ := c.cfg.Translate(err); status < http.StatusInternalServerError {
		return page, err
	}
	page.ID, err = uuid.Parse(r.PathValue("id"))
	return page, err
}

// newMoment reads an event, which others may have written.
func newMoment(event reconciler.HistoryEvent) moment {
	var fields map[string]json.RawMessage
	_ = json.Unmarshal(event.Metadata, &fields)
	text := func(key string) (s string) {
		_ = json.Unmarshal(fields[key], &s)
		return s
	}
	m := moment{HistoryEvent: event, Heading: capital(cmp.Or(map[reconciler.EventType]string{
		reconciler.EventWebhookReceived: "Webhook received",
		reconciler.EventReconciled:      words(text("action")),
		reconciler.EventSkipped:         "Left open past its deadline",
		reconciler.EventExtended:        "Deadline extended",
		reconciler.EventRemoved:         "Removed by the platform",
		reconciler.EventOverridden:      "Overridden by " + cmp.Or(text("actor"), "somebody"),
		reconciler.EventCheckRequested:  "Check asked for by " + cmp.Or(text("actor"), "somebody"),
	}[event.Type], words(string(event.Type))))}
	for _, said := range []string{"platform", "external_post_id", "action", "actor"} {
		delete(fields, said)
	}
	first := []string{"from", "to", "reason", "trigger", "webhook_status", "note"}
	for _, key := range slices.Concat(first, slices.Sorted(maps.Keys(fields))) {
		raw, left := fields[key]
		if !left {
			continue
		}
		delete(fields, key)
		value := string(raw)
		_ = json.Unmarshal(raw, &value) // what is no string stays JSON
		m.Fields = append(m.Fields, field{key, value})
	}
	return m
}

// overridePage asks before an override.
type overridePage struct {
	logPage
	To reconciler.Status
	// Actor and Note are what was typed before; Wrong is what was wrong with it.
	Actor, Note, Wrong string
	BadActor, BadNote  bool
	MaxActor, MaxNote  int
}

func (c *Console) askOverride(w http.ResponseWriter, r *http.Request) error {
	return c.showOverride(w, r, http.StatusOK, overridePage{To: reconciler.Status(r.URL.Query().Get("status"))})
}

func (c *Console) showOverride(w http.ResponseWriter, r *http.Request, status int, page overridePage) (err error) {
	if page.To != reconciler.StatusSuccess && page.To != reconciler.StatusFailed {
		return problem(http.StatusBadRequest, "A log can be marked success or failed, and not %s.", quote(string(page.To)))
	}
	if page.logPage, err = c.readForForm(r, page.Wrong != ""); err != nil {
		return err
	}
	page.MaxActor, page.MaxNote = reconciler.MaxActorBytes, reconciler.MaxNoteBytes
	return c.render(w, r, status, "override.html", view{Title: "Override a log", Section: "logs"}, page)
}

func (c *Console) override(w http.ResponseWriter, r *http.Request) error {
	if err := parseForm(r); err != nil {
		return err
	}
	id, err := uuid.Parse(r.PathValue("id"))
	if err != nil {
		return problem(http.StatusBadRequest, "%s is no log’s id.", quote(r.PathValue("id")))
	}
	override := reconciler.Override{
		LogID: id, Status: reconciler.Status(r.PostForm.Get("status")), Actor: strings.TrimSpace(r.PostForm.Get("actor")), Note: strings.TrimSpace(r.PostForm.Get("note")),
	}
	again := overridePage{To: override.Status, Actor: override.Actor, Note: override.Note}
	if wrong := override.Validate(); wrong != nil {
		onlyActor, onlyNote := override, override
		onlyActor.Note, onlyNote.Actor = "", "somebody"
		again.Wrong, again.BadActor, again.BadNote = wrong.Error(), onlyActor.Validate() != nil, onlyNote.Validate() != nil
		return c.showOverride(w, r, http.StatusBadRequest, again)
	}
	if err := c.cfg.Deeds.Override(r.Context(), override); err != nil {
		status := 0
		if status, again.Wrong = c.cfg.Translate(err); status == http.StatusNotFound {
			return err
		}
		return c.showOverride(w, r, status, again)
	}
	http.Redirect(w, r, "/logs/"+id.String()+"?done=override", http.StatusSeeOther)
	return nil
}

// checkPage asks before a check.
type checkPage struct {
	logPage
	Actor, Wrong string
	BadActor     bool
	MaxActor     int
}

func (c *Console) askCheck(w http.ResponseWriter, r *http.Request) error {
	return c.showCheck(w, r, http.StatusOK, checkPage{})
}

func (c *Console) showCheck(w http.ResponseWriter, r *http.Request, status int, page checkPage) (err error) {
	if page.logPage, err = c.readForForm(r, page.Wrong != ""); err != nil {
		return err
	}
	page.MaxActor = reconciler.MaxActorBytes
	return c.render(w, r, status, "check.html", view{Title: "Check a log", Section: "logs"}, page)
}

func (c *Console) check(w http.ResponseWriter, r *http.Request) error {
	if err := parseForm(r); err != nil {
		return err
	}
	id, err := uuid.Parse(r.PathValue("id"))
	if err != nil {
		return problem(http.StatusBadRequest, "%s is no log’s id.", quote(r.PathValue("id")))
	}
	request := reconciler.CheckRequest{LogID: id, Actor: strings.TrimSpace(r.PostForm.Get("actor"))}
	again := checkPage{Actor: request.Actor}
	if wrong := request.Validate(); wrong != nil {
		again.Wrong, again.BadActor = wrong.Error(), true
		return c.showCheck(w, r, http.StatusBadRequest, again)
	}
	if err := c.cfg.Deeds.Check(r.Context(), request); err != nil {
		status := 0
		if status, again.Wrong = c.cfg.Translate(err); status == http.StatusNotFound {
			return err
		}
		return c.showCheck(w, r, status, again)
	}
	http.Redirect(w, r, "/logs/"+id.String()+"?done=check", http.StatusSeeOther)
	return nil
}
