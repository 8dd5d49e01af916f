package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"publish-reconciler/consumer"
	"publish-reconciler/streams"
)

const (
	// queueWatch lies between the two looks at the queues.
	queueWatch = 3 * time.Second
	// queueNoise is how many messages may wait without a word: two batches, that somebody is about to fetch.
	queueNoise = 1000
	// pingWait is how long replicas may take to answer a ping.
	pingWait = time.Second
	// nearlyFull is the share of a limit from which on it is told, in per cent.
	nearlyFull = 80
	// overdueTick is by how much a schedule may be late: a millisecond is usual.
	overdueTick = time.Minute
)

// natsDoctor looks at NATS and JetStream, and changes nothing there.
type natsDoctor struct {
	findings
	cfg config
	nc  *nats.Conn
	js  jetstream.JetStream
	// may is what the user may do: everything, where that can't be told.
	may streams.Permissions
}

func lookAtNATS(ctx context.Context, cfg config, access natsAccess) findings {
	d := natsDoctor{cfg: cfg}
	var err error
	if d.nc, err = connectWithin(ctx, access); err != nil {
		d.wrong("nats", "%s: start it, or mend the address", err)
		return d.findings
	}
	defer d.nc.Close()
	if d.js, err = jetstream.New(d.nc); err != nil {
		d.wrong("nats", "%s", err)
		return d.findings
	}
	if !d.lookAtServer(ctx) {
		return d.findings
	}
	began := time.Now()
	before := d.queues(ctx)
	d.lookAtPermissions(ctx)
	d.lookAtClock(ctx, "nats clock", d.now)
	d.lookAtStorage(ctx)
	d.lookAtStreams(ctx)
	d.lookAtTicks(ctx)
	d.lookAtLetters(ctx)
	d.lookAtService(ctx)
	select {
	case <-time.After(time.Until(began.Add(queueWatch))):
	case <-ctx.Done():
	}
	d.lookAtQueues(before, d.queues(ctx), time.Since(began))
	return d.findings
}

// connectWithin gives up when ctx ends: nats.go has two seconds for each of the servers, however many there are.
func connectWithin(ctx context.Context, access natsAccess) (*nats.Conn, error) {
	type result struct {
		nc  *nats.Conn
		err error
	}
	connected := make(chan result, 1)
	go func() {
		nc, err := access.connect(nats.CustomInboxPrefix(streams.ServiceInboxPrefix))
		connected <- result{nc, err}
	}()
	select {
	case r := <-connected:
		return r.nc, r.err
	case <-ctx.Done():
		return nil, fmt.Errorf("no NATS server answers in time at %s (--nats-url, NATS_URL)", redactNATS(access.NATSURL))
	}
}

// lookAtServer tells whether there is any use in looking further.
func (d *natsDoctor) lookAtServer(ctx context.Context) (goOn bool) {
	ctx, cancel := context.WithTimeout(ctx, doctorPatience)
	defer cancel()
	err := streams.CheckServer(ctx, d.js)
	var old *streams.VersionError
	switch {
	case err == nil:
		d.ok("nats", "connected to %s, version %s, with JetStream and its message schedules", redactNATS(d.nc.ConnectedUrl()), d.nc.ConnectedServerVersion())
		return true
	case errors.As(err, &old):
		d.wrong("nats", "%s: upgrade it", err)
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled):
		d.wrong("nats", "%s", err) // it says what to do
	case errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		d.wrong("nats", "%s: enable it for the account", err)
	case errors.Is(d.nc.LastError(), nats.ErrPermissionViolation):
		d.wrong("nats", "%s: let doctor be the user that the service is, and grant him that", d.nc.LastError())
	default:
		d.wrong("nats", "%s: see that JetStream has a leader, and that the user may ask on $JS.API.>", err)
	}
	return false
}

func (d *natsDoctor) lookAtPermissions(ctx context.Context) {
	const check = "nats permissions"
	ctx, cancel := context.WithTimeout(ctx, doctorPatience)
	defer cancel()
	var err error
	if d.may, err = streams.AskPermissions(ctx, d.nc); err != nil {
		d.warn(check, "%s: let the user ask that, and doctor can tell what else he may not do", err)
		return
	}
	use := streams.Use{Manage: d.cfg.manageStreams, Events: d.cfg.events}
	if missing := d.may.Missing(use); len(missing) > 0 {
		d.wrong(check, "the user may not %s: grant it to him", strings.Join(missing, ", "))
		return
	}
	use.Page = d.cfg.console == consoleOn
	if missing := d.may.Missing(use); len(missing) > 0 {
		d.warn(check, "the user may do what the service needs, but not %s: grant it to him if operators are to check logs and see to dead letters on the page", strings.Join(missing, ", "))
		return
	}
	d.ok(check, "the user may do on all subjects what the service does")
}

// now is the server's clock.
func (d *natsDoctor) now(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, doctorPatience)
	defer cancel()
	for _, name := range []string{streams.StreamChecks, streams.StreamWebhooks, streams.StreamDead, streams.StreamEvents} {
		stream, err := d.js.Stream(ctx, name)
		if err == nil {
			return stream.CachedInfo().TimeStamp, nil
		}
		if !errors.Is(err, jetstream.ErrStreamNotFound) {
			return time.Time{}, err
		}
	}
	return time.Time{}, errors.New("there is no stream to ask for it")
}

// lookAtStorage compares what lies there with the limits of the account and of the streams.
func (d *natsDoctor) lookAtStorage(ctx context.Context) {
	const check = "nats storage"
	ctx, cancel := context.WithTimeout(ctx, doctorPatience)
	defer cancel()
	account, err := d.js.AccountInfo(ctx)
	if err != nil {
		d.warn(check, "the account's limits can't be told: let the user ask on $JS.API.INFO (%s)", err)
		return
	}
	type share struct {
		what      string
		used, max int64
	}
	var shares []share
	add := func(of string, t jetstream.Tier) {
		shares = append(shares, share{"the account's storage" + of, int64(t.Store), t.Limits.MaxStore},
			share{"the account's streams" + of, int64(t.Streams), int64(t.Limits.MaxStreams)},
			share{"the account's consumers" + of, int64(t.Consumers), int64(t.Limits.MaxConsumers)})
	}
	add("", account.Tier)
	// An account with a tier for each number of replicas, R1 or R3, has no other limits.
	for _, name := range slices.Sorted(maps.Keys(account.Tiers)) {
		add(" in tier "+name, account.Tiers[name])
	}
	for _, s := range streams.Streams(d.cfg.streamReplicas) {
		stream, err := d.js.Stream(ctx, s.Name)
		if err != nil {
			continue // that is told of the streams
		}
		info := stream.CachedInfo()
		shares = append(shares, share{"the bytes of stream " + s.Name, int64(info.State.Bytes), info.Config.MaxBytes},
			share{"the messages of stream " + s.Name, int64(info.State.Msgs), info.Config.MaxMsgs})
	}
	var full []string
	for _, s := range shares {
		if s.max > 0 && s.used*100/s.max >= nearlyFull {
			full = append(full, fmt.Sprintf("%s (%d of %d)", s.what, s.used, s.max))
		}
	}
	if len(full) > 0 {
		d.warn(check, "nearly used up: %s: raise the limit before messages are refused, or dropped", strings.Join(full, ", "))
		return
	}
	d.ok(check, "%.1f MiB in files, far from every limit", float64(account.Store)/(1<<20))
}

// lookAtStreams tells of every setting that is not as it must be.
func (d *natsDoctor) lookAtStreams(ctx context.Context) {
	const check = "streams"
	ctx, cancel := context.WithTimeout(ctx, doctorPatience)
	defer cancel()
	err := streams.Verify(ctx, d.js, streams.Config{Replicas: d.cfg.streamReplicas})
	if err == nil {
		d.ok(check, "all streams and consumers are as the service needs them")
		return
	}
	all := []error{err}
	if joined, ok := errors.AsType[interface {
		error
		Unwrap() []error
	}](err); ok {
		all = joined.Unwrap()
	}
	for _, err := range all {
		mismatch, ok := errors.AsType[*streams.MismatchError](err)
		switch {
		case !ok:
			d.wrong(check, "%s: see that JetStream has a leader, and that the user may ask about streams and consumers", err)
		case mismatch.Fixed:
			d.wrong(check, "%s", err) // it says what to do
		case d.cfg.manageStreams:
			d.wrong(check, "%s: the service mends it when it starts, so restart one replica", err)
		default:
			d.wrong(check, "%s: an administrator has to mend it, since MANAGE_STREAMS is false", err)
		}
	}
}

// lookAtTicks wants the next sweep and the next prune to come by themselves.
func (d *natsDoctor) lookAtTicks(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, doctorPatience)
	defer cancel()
	mends := "a replica schedules one within " + short(d.cfg.sweepInterval) + " (SWEEP_INTERVAL): see that one runs"
	scheduler := consumer.NewScheduler(d.js)
	next, err := scheduler.NextSweep(ctx)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return // that is told of the streams
	case err != nil:
		d.wrong("sweep", "%s", err)
	case !next.Running && next.At.IsZero():
		d.wrong("sweep", "none is pending, and %s", mends)
	case next.Running:
		d.ok("sweep", "one has fired, and is under way or waits for a replica")
	default:
		d.lookAtTick("sweep", next.At, scheduler.Now(), inWords(&next))
	}
	stream, err := d.js.Stream(ctx, streams.StreamChecks)
	if err != nil {
		return // that is told of the streams
	}
	pending, err := stream.GetLastMsgForSubject(ctx, streams.SubjectSchedulePrune)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		d.warn("prune", "none is pending, unless one is under way; %s", mends)
		return
	}
	if err != nil {
		d.wrong("prune", "the pending one can't be read: %s", err)
		return
	}
	at, _ := streams.ScheduledAt(pending.Header)
	d.lookAtTick("prune", at, scheduler.Now(), moment(&at))
}

// lookAtTick wants a tick that is pending not to be overdue. Now is by the clock of NATS, as at is.
func (f *findings) lookAtTick(check string, at, now time.Time, words string) {
	if now.Sub(at) > overdueTick {
		f.wrong(check, "it was due at %s and did not fire: look after the NATS server, whose message schedules don't work", moment(&at))
		return
	}
	f.ok(check, "the next one: %s", words)
}

func (d *natsDoctor) lookAtLetters(ctx context.Context) {
	const check = "dead letters"
	ctx, cancel := context.WithTimeout(ctx, doctorPatience)
	defer cancel()
	stream, err := d.js.Stream(ctx, streams.StreamDead)
	if err != nil {
		return // that is told of the streams
	}
	if n := stream.CachedInfo().State.Msgs; n > 0 {
		d.warn(check, "%s: see why with publish-reconciler dead list, then replay or drop them", counted(n, "message could not be processed", "messages could not be processed"))
		return
	}
	d.ok(check, "none")
}

// lookAtService pings the replicas.
func (d *natsDoctor) lookAtService(ctx context.Context) {
	const check = "service"
	subject, err := micro.ControlSubject(micro.PingVerb, serviceName, "")
	if err == nil && !d.may.Publish.Allows(subject) {
		d.warn(check, "its replicas can't be asked: let the user publish to %s", subject)
		return
	}
	replicas := 0
	if err == nil {
		replicas, err = d.ping(ctx, subject)
	}
	switch {
	case err != nil && ctx.Err() != nil:
		d.warn(check, "not looked at: the time for all was up")
	case err != nil:
		d.wrong(check, "its replicas can't be asked: %s", err)
	case replicas == 0:
		d.wrong(check, "nobody answers: start it with publish-reconciler run")
	default:
		d.ok(check, "%s", counted(replicas, "replica answers", "replicas answer"))
	}
}

// ping counts the replicas that answer in time. The error is that of ctx where ctx ended before.
func (d *natsDoctor) ping(ctx context.Context, subject string) (replicas int, err error) {
	answers, err := d.nc.SubscribeSync(d.nc.NewInbox())
	if err != nil {
		return 0, err
	}
	defer answers.Unsubscribe() //nolint:errcheck // it fails where the connection is closed, and all is over
	if err := d.nc.PublishRequest(subject, answers.Subject, nil); err != nil {
		return 0, err
	}
	within, cancel := context.WithTimeout(ctx, pingWait)
	defer cancel()
	for {
		answer, err := answers.NextMsgWithContext(within)
		switch {
		case errors.Is(err, nats.ErrNoResponders), within.Err() != nil:
			return replicas, ctx.Err()
		case err != nil:
			return replicas, err
		case answer.Header.Get(micro.ErrorCodeHeader) == "":
			replicas++
		}
	}
}

// queue is a consumer at one moment.
type queue struct {
	pending   uint64
	delivered uint64
}

// queues are the durable consumers that are there, by name.
func (d *natsDoctor) queues(ctx context.Context) map[string]queue {
	ctx, cancel := context.WithTimeout(ctx, doctorPatience)
	defer cancel()
	found := make(map[string]queue)
	for _, c := range streams.Consumers() {
		if consumer, err := d.js.Consumer(ctx, c.Stream, c.Config.Durable); err == nil {
			info := consumer.CachedInfo()
			found[c.Config.Durable] = queue{info.NumPending, info.Delivered.Consumer}
		}
	}
	return found
}

// lookAtQueues tells whether what waits becomes more or less.
func (d *natsDoctor) lookAtQueues(before, after map[string]queue, between time.Duration) {
	for _, c := range streams.Consumers() {
		name := c.Config.Durable
		was, seen := before[name]
		is, stillThere := after[name]
		if !seen || !stillThere {
			continue // that is told of the streams
		}
		check := "queue " + name
		change := (float64(is.pending) - float64(was.pending)) / between.Seconds()
		wait := counted(is.pending, "message waits", "messages wait")
		switch {
		case is.pending == 0:
			d.ok(check, "nothing waits")
		case is.delivered == was.delivered && is.pending >= was.pending && was.pending > 0:
			d.warn(check, "%s and nobody takes them: see whether the service runs, and what its log says", wait)
		case is.pending > was.pending && is.pending >= queueNoise:
			d.warn(check, "%s, %.0f more a second: add replicas if it goes on", wait, change)
		default:
			d.ok(check, "%s, %+.0f a second", wait, change)
		}
	}
}
