package streams

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// apiTimeout limits every single call of JetStream's API, as nats.go does by default.
	apiTimeout = 5 * time.Second

	// ensureRounds bounds how often Ensure looks again: after it changed something, after another replica
	// was quicker, after nobody answered. One to create, one to see that all is well, the rest for races.
	ensureRounds = 5

	// codeSubjectOverlap is JetStream's error code for a subject that another stream has.
	codeSubjectOverlap jetstream.ErrorCode = 10065
)

// Config says how the streams are kept.
type Config struct {
	// Replicas is the number of servers that keep each stream: 1, or 3 on a cluster. Zero means 1.
	Replicas int
}

func (c Config) replicas() (int, error) {
	switch c.Replicas {
	case 0:
		return 1, nil
	case 1, 3:
		return c.Replicas, nil
	}
	return 0, fmt.Errorf("stream replicas is %d: it must be 1 or 3", c.Replicas)
}

// Ensure creates the streams and consumers that are missing and updates what differs, and is content
// with what is there already: it sets only what [Streams] and [Consumers] promise, leaves every other
// setting to the administrator, and never shrinks anything. It never deletes. Several replicas may call
// it at once.
//
// What JetStream can't change in place is returned as [*MismatchError] with Fixed set, all of them at once and
// before anything was changed. What the server refuses is returned too, after all the rest was done. It
// begins with [CheckServer]. Every call to the server is limited to five seconds, or to ctx; where nobody
// answers it looks again, five times at most.
func Ensure(ctx context.Context, js jetstream.JetStream, cfg Config) error {
	var left error
	for range ensureRounds {
		plan, err := inspect(ctx, js, cfg)
		if unanswered(ctx, err) {
			left = err
			continue
		}
		if err != nil {
			return err
		}
		mismatches := plan.mismatches()
		if len(mismatches) == 0 {
			return nil
		}
		if err := join(mismatches, func(m *MismatchError) bool { return m.Fixed }); err != nil {
			return err
		}
		left = join(mismatches, func(*MismatchError) bool { return true })
		if err := plan.apply(ctx, js); unanswered(ctx, err) {
			left = err
		} else if err != nil {
			return err
		}
	}
	return fmt.Errorf("streams are not as they must be after %d rounds: %w", ensureRounds, left)
}

// unanswered tells whether a call alone ran out of time. On a cluster nobody answers for a stream between
// its creation, perhaps by another replica, and the election of its leader.
func unanswered(ctx context.Context, err error) bool {
	return errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil
}

// Verify changes nothing. It returns nil when all streams and consumers are there as [Ensure] would leave
// them, else every [*MismatchError], joined. It begins with [CheckServer]. Every call to the server is limited
// to five seconds, or to ctx.
func Verify(ctx context.Context, js jetstream.JetStream, cfg Config) error {
	plan, err := inspect(ctx, js, cfg)
	if err != nil {
		return err
	}
	return join(plan.mismatches(), func(*MismatchError) bool { return true })
}

func join(mismatches []*MismatchError, wanted func(*MismatchError) bool) error {
	var faults []error
	for _, m := range mismatches {
		if wanted(m) {
			faults = append(faults, m)
		}
	}
	return errors.Join(faults...)
}

// plan is what is to be done so that the server has what the definitions promise.
type plan struct {
	streams   []streamPlan
	consumers []consumerPlan
}

type streamPlan struct {
	create     bool
	config     jetstream.StreamConfig
	mismatches []*MismatchError
}

type consumerPlan struct {
	create     bool
	stream     string
	config     jetstream.ConsumerConfig
	mismatches []*MismatchError
}

func (p *plan) mismatches() []*MismatchError {
	var all []*MismatchError
	for _, s := range p.streams {
		all = append(all, s.mismatches...)
	}
	for _, c := range p.consumers {
		all = append(all, c.mismatches...)
	}
	return all
}

// inspect compares the server with the definitions and changes nothing.
func inspect(ctx context.Context, js jetstream.JetStream, cfg Config) (*plan, error) {
	replicas, err := cfg.replicas()
	if err != nil {
		return nil, err
	}
	if err := CheckServer(ctx, js); err != nil {
		return nil, err
	}
	var p plan
	for _, want := range Streams(replicas) {
		s, err := inspectStream(ctx, js, want)
		if err != nil {
			return nil, err
		}
		p.streams = append(p.streams, s)
	}
	for _, want := range Consumers() {
		c, err := inspectConsumer(ctx, js, want, replicas)
		if err != nil {
			return nil, err
		}
		p.consumers = append(p.consumers, c)
	}
	return &p, nil
}

func inspectStream(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig) (streamPlan, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	found, err := js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return streamPlan{create: true, config: want, mismatches: []*MismatchError{{Stream: want.Name}}}, nil
	}
	if err != nil {
		return streamPlan{}, fmt.Errorf("look up stream %s: %w", want.Name, err)
	}
	merged, mismatches := mergeStream(found.CachedInfo().Config, want)
	return streamPlan{config: merged, mismatches: mismatches}, nil
}

func inspectConsumer(ctx context.Context, js jetstream.JetStream, want ConsumerDefinition, replicas int) (consumerPlan, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	name := want.Config.Durable
	found, err := js.Consumer(ctx, want.Stream, name)
	if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
		return consumerPlan{create: true, stream: want.Stream, config: want.Config, mismatches: []*MismatchError{{Stream: want.Stream, Consumer: name}}}, nil
	}
	if errors.Is(err, jetstream.ErrNotPullConsumer) {
		push := &MismatchError{Stream: want.Stream, Consumer: name, Setting: "deliver_subject", Found: "set", Want: "unset, as a pull consumer has it", Fixed: true}
		return consumerPlan{stream: want.Stream, config: want.Config, mismatches: []*MismatchError{push}}, nil
	}
	if err != nil {
		return consumerPlan{}, fmt.Errorf("look up consumer %s of stream %s: %w", name, want.Stream, err)
	}
	merged, mismatches := mergeConsumer(want.Stream, found.CachedInfo().Config, want.Config, replicas)
	return consumerPlan{stream: want.Stream, config: merged, mismatches: mismatches}, nil
}

// apply does all it can and returns what the server refused. A race that another replica won is no
// refusal: the next round finds what it left.
func (p *plan) apply(ctx context.Context, js jetstream.JetStream) error {
	var faults []error
	failed := make(map[string]bool)
	for _, s := range p.streams {
		if err := s.apply(ctx, js); err != nil {
			failed[s.config.Name] = true
			faults = append(faults, err)
		}
	}
	for _, c := range p.consumers {
		if failed[c.stream] {
			continue
		}
		if err := c.apply(ctx, js); err != nil {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

func (s *streamPlan) apply(ctx context.Context, js jetstream.JetStream) error {
	if len(s.mismatches) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	operation, err := "update", error(nil)
	if s.create {
		operation = "create"
		_, err = js.CreateStream(ctx, s.config)
	} else {
		_, err = js.UpdateStream(ctx, s.config)
	}
	var refusal *jetstream.APIError
	switch {
	case err == nil, errors.Is(err, jetstream.ErrStreamNameAlreadyInUse), errors.Is(err, jetstream.ErrStreamNotFound):
		return nil
	case errors.As(err, &refusal) && refusal.ErrorCode == codeSubjectOverlap:
		return overlap(ctx, js, s.config, err)
	}
	return fmt.Errorf("%s stream %s: %w", operation, s.config.Name, err)
}

// overlap names the streams that hold subjects which this one needs.
func overlap(ctx context.Context, js jetstream.JetStream, config jetstream.StreamConfig, err error) error {
	var faults []error
	for _, subject := range config.Subjects {
		names := js.StreamNames(ctx, jetstream.WithStreamListSubject(subject))
		for name := range names.Name() {
			if name != config.Name {
				faults = append(faults, &MismatchError{
					Stream: config.Name, Setting: "subject " + subject, Found: "taken by stream " + name, Want: "its own", Fixed: true,
				})
			}
		}
	}
	if len(faults) == 0 { // it went away meanwhile, or its name may not be read
		return fmt.Errorf("subjects of stream %s: %w", config.Name, err)
	}
	return errors.Join(faults...)
}

func (c *consumerPlan) apply(ctx context.Context, js jetstream.JetStream) error {
	if len(c.mismatches) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	operation, err := "update", error(nil)
	if c.create {
		operation = "create"
		_, err = js.CreateConsumer(ctx, c.stream, c.config)
	} else {
		_, err = js.UpdateConsumer(ctx, c.stream, c.config)
	}
	switch {
	case err == nil, errors.Is(err, jetstream.ErrConsumerExists), errors.Is(err, jetstream.ErrConsumerDoesNotExist), errors.Is(err, jetstream.ErrStreamNotFound):
		return nil
	}
	return fmt.Errorf("%s consumer %s of stream %s: %w", operation, c.config.Durable, c.stream, err)
}
