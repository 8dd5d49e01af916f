package consumer

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"golang.org/x/time/rate"

	"publish-reconciler/reconciler"
	"publish-reconciler/streams"
)

// Defaults of [ProbeConfig].
const (
	DefaultProbeTimeout = 2 * time.Second
	DefaultProbeRate    = 10 // a second
)

const (
	// quietFor is how long a platform is not asked after nobody listened: a large sweep must not wait, and
	// who begins to listen must not be missed for long.
	quietFor = 3 * time.Second
	// maxUnanswered is after how many time-outs in a row a platform is left alone for as long: one that hangs
	// must not hold up the checks of all others.
	maxUnanswered = 10
	// queueFor is how far ahead postponed probes are lined up; what has no place in the line is found by a
	// later sweep.
	queueFor = time.Minute
	// maxRemembered bounds what is remembered of single logs and platforms, in entries; past it everything is
	// forgotten, and asked anew.
	maxRemembered = 20_000
)

// ProbeConfig says how platforms are asked. Zero values take the defaults.
type ProbeConfig struct {
	// Timeout is how long an answer may take.
	Timeout time.Duration
	// Rate is how many logs of one platform are asked about in a second. It is this process's alone.
	Rate   float64
	Logger *slog.Logger
}

// Prober asks whoever listens on publish.probe.<platform> what became of posts. Make one with [NewProber]; its
// methods may be called at the same time.
type Prober struct {
	nc  *nats.Conn
	cfg ProbeConfig

	mu        sync.Mutex
	platforms map[string]*listener
	answers   map[uuid.UUID]remembered // of subjects that may be remembered
	lined     map[uuid.UUID]time.Time  // when there is room for a postponed one
}

var _ reconciler.Prober = (*Prober)(nil)

// listener is what is known of who answers for a platform.
type listener struct {
	limit *rate.Limiter
	// heard tells that somebody was there when last asked; quiet is until when nobody is asked.
	heard bool
	quiet time.Time
	// unanswered counts the last probes that ran into the time-out.
	unanswered int
	// next is when the line of postponed probes ends.
	next time.Time
}

type remembered struct {
	probe     reconciler.Probe
	post      reconciler.Post
	updatedAt time.Time // the log's when it was asked about
	until     time.Time
}

// NewProber returns a prober on a connection.
func NewProber(nc *nats.Conn, cfg ProbeConfig) *Prober {
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultProbeTimeout
	}
	if cfg.Rate == 0 {
		cfg.Rate = DefaultProbeRate
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Prober{
		nc: nc, cfg: cfg,
		platforms: make(map[string]*listener),
		answers:   make(map[uuid.UUID]remembered),
		lined:     make(map[uuid.UUID]time.Time),
	}
}

// Listens tells whether it is worth asking: not for three seconds after nobody listened. While NATS is away it
// is: see [Prober.Probe].
func (p *Prober) Listens(platform string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	known, there := p.platforms[platform]
	return !there || !time.Now().Before(known.quiet) || !p.nc.IsConnected()
}

// Probe asks about all subjects at the same time, as far as each platform's rate has room. The others are
// postponed, and all are while NATS is away: a webhook may wait there. So are those that may have been lost on
// the way to NATS. It takes the time-out; twice that where it has to find out first whether somebody listens,
// and again where NATS does not answer.
func (p *Prober) Probe(ctx context.Context, subjects []reconciler.Subject) []reconciler.Probe {
	probes := make([]reconciler.Probe, len(subjects))
	if !p.nc.IsConnected() {
		for i := range probes {
			probes[i].Result = reconciler.ProbePostponed
		}
		return probes
	}
	open := make(map[string][]int)
	for i, subject := range subjects {
		known := false
		if probes[i], known = p.recall(subject); !known {
			open[subject.Post.Platform] = append(open[subject.Post.Platform], i)
		}
	}
	var asking sync.WaitGroup
	for platform, places := range open {
		asking.Go(func() {
			if !p.heard(platform) && p.Listens(platform) {
				// Perhaps nobody is there, and then nothing is metered.
				probes[places[0]] = p.ask(ctx, subjects[places[0]])
				places = places[1:]
			}
			for _, i := range places {
				room := false
				if probes[i], room = p.room(subjects[i]); room {
					asking.Go(func() { probes[i] = p.ask(ctx, subjects[i]) })
				}
			}
		})
	}
	asking.Wait()
	return probes
}

// heard tells whether somebody answers for the platform, as far as is known.
func (p *Prober) heard(platform string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.listener(platform).heard
}

// listener is what is known of a platform. The lock is the caller's.
func (p *Prober) listener(platform string) *listener {
	known, there := p.platforms[platform]
	if !there {
		if len(p.platforms) >= maxRemembered {
			clear(p.platforms)
		}
		known = &listener{limit: rate.NewLimiter(rate.Limit(p.cfg.Rate), max(1, int(p.cfg.Rate)))}
		p.platforms[platform] = known
	}
	return known
}

// recall is the answer that stands for a subject: the log was asked about, and was not updated since.
func (p *Prober) recall(subject reconciler.Subject) (reconciler.Probe, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	known, there := p.answers[subject.LogID]
	stands := there && subject.Remember > 0 && known.post == subject.Post && known.updatedAt.Equal(subject.UpdatedAt) && time.Now().Before(known.until)
	return known.probe, stands
}

// room tells whether the platform's rate has room for one more probe; else it returns the postponed one, with
// the time until there is room. A log keeps its place in the line, and is told it once.
func (p *Prober) room(subject reconciler.Subject) (reconciler.Probe, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	known := p.listener(subject.Post.Platform)
	if now.Before(known.quiet) {
		return reconciler.Probe{Result: reconciler.ProbeNoResponder}, false
	}
	postponed := reconciler.Probe{Result: reconciler.ProbePostponed}
	if at, lined := p.lined[subject.LogID]; lined && now.Before(at) {
		return postponed, false
	}
	delete(p.lined, subject.LogID)
	if subject.Again && known.limit.TokensAt(now) < 2 {
		return postponed, false // room for one is kept for a log that was never asked about
	}
	if known.limit.AllowN(now, 1) {
		return reconciler.Probe{}, true
	}
	if known.next.Before(now) {
		known.next = now
	}
	at := known.next.Add(time.Duration(float64(time.Second) / p.cfg.Rate))
	if at.Sub(now) <= queueFor {
		known.next = at
		postponed.Wait = at.Sub(now)
		if len(p.lined) >= maxRemembered {
			clear(p.lined)
		}
		p.lined[subject.LogID] = at
	}
	return postponed, false
}

// ask sends one request and waits for its answer.
func (p *Prober) ask(ctx context.Context, subject reconciler.Subject) reconciler.Probe {
	request := streams.ProbeRequest{LogID: subject.LogID, ExternalPostID: subject.Post.ExternalPostID, Platform: subject.Post.Platform}
	asked, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	reconnects := p.nc.Stats().Reconnects
	reply, err := p.nc.RequestWithContext(asked, streams.ProbeSubject(subject.Post.Platform), request.Body())
	if err != nil && !errors.Is(err, nats.ErrNoResponders) && !p.stood(ctx, reconnects) {
		return reconciler.Probe{Result: reconciler.ProbePostponed}
	}
	probe := p.read(ctx, request, reply, err)
	p.learn(ctx, subject, probe)
	return probe
}

// stood tells whether the connection stands as it did after so many reconnects. What was sent or answered on
// one that broke, or behind which nobody is any more, may be lost, and then the silence is not the platform's.
func (p *Prober) stood(ctx context.Context, reconnects uint64) bool {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	return p.nc.FlushWithContext(ctx) == nil && p.nc.Stats().Reconnects == reconnects
}

func (p *Prober) read(ctx context.Context, request streams.ProbeRequest, reply *nats.Msg, err error) reconciler.Probe {
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return reconciler.Probe{Result: reconciler.ProbeNoResponder}
	case err != nil:
		return reconciler.Probe{Result: reconciler.ProbeNoAnswer}
	}
	fields, err := streams.DecodeProbe(request, reply.Data)
	if failure := reply.Header.Get(micro.ErrorHeader); failure != "" {
		err = errors.New(failure)
	}
	if err != nil {
		p.cfg.Logger.DebugContext(ctx, "probe's answer is broken", "log_id", request.LogID, "platform", request.Platform, "err", err)
		return reconciler.Probe{Result: reconciler.ProbeBroken}
	}
	return reconciler.Probe{Result: reconciler.ProbeAnswered, Evidence: reconciler.ReadProbe(reconciler.Storable(fields))}
}

// learn remembers what a probe told of the platform and of the log.
func (p *Prober) learn(ctx context.Context, subject reconciler.Subject, probe reconciler.Probe) {
	p.mu.Lock()
	defer p.mu.Unlock()
	known := p.listener(subject.Post.Platform)
	heard := probe.Result != reconciler.ProbeNoResponder
	switch {
	case heard && !known.heard:
		p.cfg.Logger.InfoContext(ctx, "platform can be probed", "platform", subject.Post.Platform)
	case !heard && known.heard:
		p.cfg.Logger.InfoContext(ctx, "nobody listens to a platform's probes any more", "platform", subject.Post.Platform)
	}
	known.heard = heard
	if known.unanswered++; heard && probe.Result != reconciler.ProbeNoAnswer {
		known.unanswered = 0
	}
	if !heard || known.unanswered >= maxUnanswered {
		known.unanswered = 0
		known.quiet = time.Now().Add(quietFor)
	}
	if !heard {
		return
	}
	if subject.Remember > 0 {
		if len(p.answers) >= maxRemembered {
			clear(p.answers)
		}
		p.answers[subject.LogID] = remembered{probe, subject.Post, subject.UpdatedAt, time.Now().Add(subject.Remember)}
	}
}
