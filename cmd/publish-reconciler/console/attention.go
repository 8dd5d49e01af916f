package console

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"publish-reconciler/reconciler"
	"publish-reconciler/repo"
	"publish-reconciler/streams"
)

const (
	// attentionRows is how much of each kind the page shows; the rest is behind a link.
	attentionRows = 10
	attentionAge  = 5 * time.Second
	parkedRows    = 50
)

// attention is what waits for a person.
type attention struct {
	Skipped, Held openLogs
	Parked        []repo.Parked
	Letters       []streams.Letter
	MoreParked    bool
	MoreLetters   bool
	// What is wrong where a list can't be had.
	LogTrouble, ParkedTrouble, LetterTrouble string
}

// openLogs are the newest logs of some kinds.
type openLogs struct {
	Rows []reconciler.Row
	// More are the kinds of which there are others.
	More []openKind
}

// openKind is what a list of logs filters by.
type openKind struct {
	Status reconciler.Status
	Reason reconciler.Reason
}

// These are why a log is skipped or held, as lists know it.
var (
	skippedReasons = []reconciler.Reason{reconciler.ReasonWebhookUnclear, reconciler.ReasonProbeUnclear}
	heldReasons    = []reconciler.Reason{reconciler.ReasonPlatformHold}
)

func (c *Console) lookForAttention(ctx context.Context) (page attention) {
	trouble := func(err error) (text string) {
		if err != nil {
			_, text = c.cfg.Translate(err)
		}
		return text
	}
	// At the same time: with a large backlog the logs take all the time there is.
	var looking sync.WaitGroup
	looking.Go(func() {
		var err error
		if page.Skipped, err = c.openFor(ctx, skippedReasons); err == nil {
			page.Held, err = c.openFor(ctx, heldReasons)
		}
		page.LogTrouble = trouble(err)
	})
	looking.Go(func() {
		var err error
		page.Parked, page.MoreParked, err = c.cfg.Logs.Parked(ctx, repo.ParkedPage{Limit: attentionRows})
		page.ParkedTrouble = trouble(err)
	})
	looking.Go(func() {
		letters, next, err := c.cfg.Letters.List(ctx, streams.LetterFilter{}, 0, attentionRows)
		page.Letters, page.MoreLetters, page.LetterTrouble = letters, next != 0, trouble(err)
	})
	looking.Wait()
	return page
}

// openFor lists open logs for any of some reasons, a few of each kind.
func (c *Console) openFor(ctx context.Context, reasons []reconciler.Reason) (all openLogs, err error) {
	for _, status := range []reconciler.Status{reconciler.StatusProcessing, reconciler.StatusRetry} {
		for _, reason := range reasons {
			rows, more, err := c.cfg.Logs.List(ctx, map[string]string{"status": string(status), "reason": string(reason), "limit": strconv.Itoa(attentionRows)})
			if err != nil {
				return openLogs{}, err
			}
			all.Rows = append(all.Rows, rows...)
			if more {
				all.More = append(all.More, openKind{status, reason})
			}
		}
	}
	return all, nil
}

func (c *Console) showAttention(w http.ResponseWriter, r *http.Request) error {
	page, err := c.attention.get(r.Context())
	if err != nil {
		return err
	}
	return c.render(w, r, http.StatusOK, "attention.html", view{Title: "Needs attention", Section: "attention"}, page)
}

// parkedPage is a page of parked webhooks, oldest first.
type parkedPage struct {
	Parked []repo.Parked
	Next   string // empty on the last page
	First  bool
}

func (c *Console) showParked(w http.ResponseWriter, r *http.Request) error {
	after := r.URL.Query().Get("after")
	wanted := repo.ParkedPage{Limit: parkedRows}
	if after != "" {
		at, id, _ := strings.Cut(after, "_")
		var wrongTime, wrongID error
		wanted.After, wrongTime = time.Parse(time.RFC3339Nano, at)
		wanted.AfterID, wrongID = uuid.Parse(id)
		if wrongTime != nil || wrongID != nil {
			return problem(http.StatusBadRequest, "after is %s: it must be where a page before it ended.", quote(after))
		}
	}
	parked, more, err := c.cfg.Logs.Parked(r.Context(), wanted)
	if err != nil {
		return err
	}
	page := parkedPage{Parked: parked, First: after == ""}
	if more {
		last := parked[len(parked)-1]
		page.Next = last.ReceivedAt.UTC().Format(time.RFC3339Nano) + "_" + last.ID.String()
	}
	return c.render(w, r, http.StatusOK, "parked.html", view{Title: "Parked webhooks", Section: "attention"}, page)
}

// reconcilePage asks, and answers.
type reconcilePage struct {
	Minutes, Wrong string
	Result         *reconciler.SweepResult
	Took           time.Duration
}

func (c *Console) askReconcile(w http.ResponseWriter, r *http.Request) error {
	return c.showReconcile(w, r, http.StatusOK, reconcilePage{Minutes: "10"})
}

func (c *Console) showReconcile(w http.ResponseWriter, r *http.Request, status int, page reconcilePage) error {
	return c.render(w, r, status, "reconcile.html", view{Title: "Reconcile now", Section: "reconcile"}, page)
}

func (c *Console) reconcile(w http.ResponseWriter, r *http.Request) error {
	if err := parseForm(r); err != nil {
		return err
	}
	// A large backlog takes longer than other answers may.
	if err := http.NewResponseController(w).SetWriteDeadline(time.Time{}); err != nil {
		return err
	}
	page := reconcilePage{Minutes: strings.TrimSpace(r.PostForm.Get("since_minutes"))}
	start := time.Now()
	result, err := c.cfg.Deeds.Reconcile(r.Context(), page.Minutes)
	if err != nil {
		status, text := c.cfg.Translate(err)
		page.Wrong = text
		return c.showReconcile(w, r, status, page)
	}
	page.Result, page.Took = &result, time.Since(start)
	return c.showReconcile(w, r, http.StatusOK, page)
}
