package console

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"publish-reconciler/streams"
)

const (
	letterRows = 50
	maxReason  = 64
)

// letterForm is a choice of letters, as an address or a form says it.
type letterForm struct {
	Kind, Reason, Since string
	// Sequence is one letter; empty: the filter's. Through bounds the filter to what was counted.
	Sequence, Through string
	Again             bool
}

func readLetterForm(q url.Values) letterForm {
	return letterForm{
		Kind: q.Get("kind"), Reason: q.Get("reason"), Since: q.Get("since"),
		Sequence: q.Get("seq"), Through: q.Get("through"), Again: q.Get("again") == "yes",
	}
}

// Filtered tells whether it leaves something out.
func (f letterForm) Filtered() bool { return f.Kind+f.Reason+f.Since != "" }

var sinces = map[string]time.Duration{"1h": time.Hour, "24h": 24 * time.Hour, "168h": 7 * 24 * time.Hour}

func (f letterForm) choice() (LetterChoice, error) {
	choice := LetterChoice{Filter: streams.LetterFilter{Kind: streams.Kind(f.Kind), Reason: streams.Reason(f.Reason)}, Again: f.Again}
	if f.Kind != "" && !slices.Contains(kinds, choice.Filter.Kind) {
		return choice, problem(http.StatusBadRequest, "kind is %s: it must be webhook, check or sweep.", quote(f.Kind))
	}
	if len(f.Reason) > maxReason {
		return choice, problem(http.StatusBadRequest, "reason is %s: it must be one word of at most %d bytes.", quote(f.Reason), maxReason)
	}
	if f.Since != "" {
		ago, known := sinces[f.Since]
		at, wrong := time.Parse(time.RFC3339Nano, f.Since)
		switch {
		case known:
			choice.Filter.Since = time.Now().Add(-ago)
		case wrong == nil:
			choice.Filter.Since = at
		default:
			return choice, problem(http.StatusBadRequest, "since is %s: it must be 1h, 24h, 168h, or a time such as 2024-01-15T10:30:00Z.", quote(f.Since))
		}
	}
	for text, number := range map[string]*uint64{f.Sequence: &choice.Sequence, f.Through: &choice.Filter.Through} {
		if text == "" {
			continue
		}
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil || n == 0 {
			return choice, problem(http.StatusBadRequest, "%s is no letter’s number.", quote(text))
		}
		*number = n
	}
	return choice, nil
}

type lettersPage struct {
	letterForm
	Letters []streams.Letter
	Kinds   []streams.Kind
	Reasons []streams.Reason
	Next    uint64 // zero on the last page
	First   bool
}

var kinds = []streams.Kind{streams.KindWebhook, streams.KindCheck, streams.KindSweep}

var deadReasons = []streams.Reason{
	streams.ReasonMalformedJSON, streams.ReasonNotAnObject, streams.ReasonMissingExternalPostID, streams.ReasonInvalidExternalPostID, streams.ReasonInvalidPlatform,
	streams.ReasonInvalidLogID, streams.ReasonUnknownField, streams.ReasonInvalidValue, streams.ReasonLogNotFound, streams.ReasonRefused,
}

func (c *Console) showLetters(w http.ResponseWriter, r *http.Request) error {
	page := lettersPage{letterForm: readLetterForm(r.URL.Query()), Kinds: kinds, Reasons: deadReasons}
	choice, err := page.choice()
	if err != nil {
		return err
	}
	before := uint64(0)
	if text := r.URL.Query().Get("before"); text != "" {
		if before, err = strconv.ParseUint(text, 10, 64); err != nil {
			return problem(http.StatusBadRequest, "before is %s: it must be a letter’s number.", quote(text))
		}
	}
	page.First = before == 0
	if page.Letters, page.Next, err = c.cfg.Letters.List(r.Context(), choice.Filter, before, letterRows); err != nil {
		return err
	}
	return c.render(w, r, http.StatusOK, "letters.html", view{Title: "Dead letters", Section: "attention"}, page)
}

func (c *Console) showLetter(w http.ResponseWriter, r *http.Request) error {
	sequence, err := strconv.ParseUint(r.PathValue("seq"), 10, 64)
	if err != nil || sequence == 0 {
		return problem(http.StatusBadRequest, "%s is no letter’s number.", quote(r.PathValue("seq")))
	}
	letter, err := c.cfg.Letters.Get(r.Context(), sequence)
	if err != nil {
		return err
	}
	return c.render(w, r, http.StatusOK, "letter.html", view{Title: "Dead letter " + r.PathValue("seq"), Section: "attention"}, letter)
}

// actPage counts before an act, and tells what came of it.
type actPage struct {
	letterForm
	Act   Act
	Count LetterCount
	// Outcome is set once it is done.
	Outcome *LetterOutcome
}

func (c *Console) askAct(act Act) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		page := actPage{letterForm: readLetterForm(r.URL.Query()), Act: act}
		choice, err := page.choice()
		if err != nil {
			return err
		}
		if page.Count, err = c.cfg.Letters.Count(r.Context(), choice); err != nil {
			return err
		}
		if !choice.Filter.Since.IsZero() {
			page.Since = choice.Filter.Since.UTC().Format(time.RFC3339Nano) // as it was counted
		}
		if page.Sequence == "" {
			page.Through = strconv.FormatUint(page.Count.Through, 10)
		}
		return c.showAct(w, r, page)
	}
}

func (c *Console) showAct(w http.ResponseWriter, r *http.Request, page actPage) error {
	title := map[Act]string{Replay: "Replay dead letters", Drop: "Drop dead letters"}[page.Act]
	return c.render(w, r, http.StatusOK, "act.html", view{Title: title, Section: "attention"}, page)
}

// act does it to what was counted. What dies after that is left alone.
func (c *Console) act(act Act) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if err := parseForm(r); err != nil {
			return err
		}
		page := actPage{letterForm: readLetterForm(r.PostForm), Act: act}
		choice, err := page.choice()
		switch {
		case err != nil:
			return err
		case choice.Sequence == 0 && choice.Filter.Through == 0:
			return problem(http.StatusBadRequest, "Which letters? They have to be counted first. Nothing was done.")
		}
		// Many letters take longer than other answers may.
		if err := http.NewResponseController(w).SetWriteDeadline(time.Time{}); err != nil {
			return err
		}
		outcome, err := c.cfg.Letters.Act(r.Context(), act, choice)
		if err != nil {
			return err
		}
		page.Outcome = &outcome
		return c.showAct(w, r, page)
	}
}
