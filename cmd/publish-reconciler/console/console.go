package console

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"log/slog"
	"net/http"
	"time"

	"github.com/google/uuid"

	"publish-reconciler/reconciler"
	"publish-reconciler/repo"
	"publish-reconciler/streams"
)

// Config is what the page needs.
type Config struct {
	Facts   Facts
	Logs    Logs
	Deeds   Deeds
	Letters Letters
	// Translate gives an error of these its status, HTTP's, and a line for people.
	Translate func(error) (status int, text string)
	// Token is what a visitor logs in with. Empty: nobody has to, and the page is served to this machine alone.
	Token string
	// ReadOnly leaves out everything that changes something.
	ReadOnly bool
	// Version is the program's.
	Version string
	Logger  *slog.Logger
	// Stop ends what stays open.
	Stop <-chan struct{}
}

// Facts are what the overview shows. Each is asked for once for all visitors, and only while there are some.
type Facts interface {
	// Now is how things stand. What is not known for want of Postgres or NATS is left out of it.
	Now(ctx context.Context) Now
	// Time is the database's.
	Time(ctx context.Context) (time.Time, error)
	// Activity is what became of logs since a moment, in steps from there on.
	Activity(ctx context.Context, since time.Time, step time.Duration) ([]repo.Activity, error)
	// ConfirmTimes is how long platforms took to confirm since a moment.
	ConfirmTimes(ctx context.Context, since time.Time) ([]repo.ConfirmTimes, error)
}

// Logs is what is read of logs. What is not there is [reconciler.ErrNotFound].
type Logs interface {
	// List takes the same filters by the same names as the API's logs.
	List(ctx context.Context, filter map[string]string) (rows []reconciler.Row, more bool, err error)
	Find(ctx context.Context, platform, post string) ([]reconciler.Row, []repo.Parked, error)
	View(ctx context.Context, id uuid.UUID) (reconciler.View, reconciler.Explanation, error)
	Parked(ctx context.Context, page repo.ParkedPage) (parked []repo.Parked, more bool, err error)
}

// Deeds are what an operator has done. Each stands in the ledger.
type Deeds interface {
	Override(ctx context.Context, override reconciler.Override) error
	Check(ctx context.Context, check reconciler.CheckRequest) error
	// Reconcile sweeps at once; minutes is text as somebody typed it.
	Reconcile(ctx context.Context, minutes string) (reconciler.SweepResult, error)
}

// Letters are the dead letters.
type Letters interface {
	List(ctx context.Context, filter streams.LetterFilter, before uint64, limit int) (page []streams.Letter, next uint64, err error)
	Get(ctx context.Context, sequence uint64) (streams.Letter, error)
	// Count counts those that the choice takes, as they are now. What it returns for Through bounds the choice to them.
	Count(ctx context.Context, choice LetterChoice) (LetterCount, error)
	// Act replays or drops them.
	Act(ctx context.Context, act Act, choice LetterChoice) (LetterOutcome, error)
}

// Act is what can be done to dead letters.
type Act string

// The acts.
const (
	Replay Act = "replay"
	Drop   Act = "drop"
)

// LetterChoice is one letter, or all that a filter takes.
type LetterChoice struct {
	Sequence uint64 // zero: by the filter
	Filter   streams.LetterFilter
	// Again replays also what a replay was cut off of.
	Again bool
}

// LetterCount counts letters, by kind and reason.
type LetterCount struct {
	Total   int
	Groups  []LetterGroup
	Through uint64
}

// LetterGroup is a line of a count.
type LetterGroup struct {
	Kind, Reason string
	Letters      int
}

// LetterOutcome is what came of an act, in words.
type LetterOutcome struct {
	Done string
	// Refused are single letters that stay, and why: the first of them.
	Refused []string
	// Trouble is why others stay; empty when none do.
	Trouble string
}

// Console serves the page. Make one with [New].
type Console struct {
	cfg       Config
	key       []byte // signs sessions
	live      *overviews
	attention cached[attention]
}

// New makes a page that looks at nothing before it is visited.
func New(cfg Config) *Console {
	key := hmac.New(sha256.New, []byte(cfg.Token))
	key.Write([]byte("a session of the operator's page"))
	c := &Console{cfg: cfg, key: key.Sum(nil)}
	c.live = newOverviews(c)
	c.attention = newCached(attentionAge, c.lookForAttention)
	return c
}

// Register adds the page's addresses to a mux. Changes are POST requests: whoever serves the mux refuses those of other
// origins, and without a token also what asks for another machine.
func (c *Console) Register(mux *http.ServeMux) {
	for pattern, do := range map[string]handler{
		"GET /{$}":                       c.showOverview,
		"GET /live":                      c.streamOverview,
		"GET /logs":                      c.showLogs,
		"GET /logs/{id}":                 c.showLog,
		"GET /attention":                 c.showAttention,
		"GET /attention/parked":          c.showParked,
		"GET /attention/letters":         c.showLetters,
		"GET /attention/letters/{seq}":   c.showLetter,
		"GET /reconcile":                 c.askReconcile,
		"GET /logs/{id}/override":        c.changing(c.askOverride),
		"POST /logs/{id}/override":       c.changing(c.override),
		"GET /logs/{id}/check":           c.changing(c.askCheck),
		"POST /logs/{id}/check":          c.changing(c.check),
		"GET /attention/letters/replay":  c.changing(c.askAct(Replay)),
		"POST /attention/letters/replay": c.changing(c.act(Replay)),
		"GET /attention/letters/drop":    c.changing(c.askAct(Drop)),
		"POST /attention/letters/drop":   c.changing(c.act(Drop)),
		"POST /reconcile":                c.changing(c.reconcile),
	} {
		mux.Handle(pattern, c.page(c.loggedIn(do)))
	}
	mux.Handle("GET /login", c.page(c.askLogin))
	mux.Handle("POST /login", c.page(c.login))
	mux.Handle("POST /logout", c.page(c.logout))
	mux.Handle("GET /assets/{name}", c.page(c.serveAsset))
}
