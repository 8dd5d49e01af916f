package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"publish-reconciler/streams"
)

// deadCommands work on JetStream itself: dead letters can be read and replayed while the service is down.
type deadCommands struct {
	List   deadListCommand   `cmd:"" help:"Dead letters, newest first."`
	Show   deadShowCommand   `cmd:"" help:"One dead letter: why it died, its headers and its payload."`
	Replay deadReplayCommand `cmd:"" help:"Put dead letters back on the subjects they came from, each of them once."`
	Drop   deadDropCommand   `cmd:"" help:"Delete dead letters."`
}

const (
	defaultLetters = 50
	maxLetters     = 500
)

// letters connects to the server and does something with the dead letters there.
func (s natsAccess) letters(ctx context.Context, do func(context.Context, *streams.Letters) error) error {
	return s.with(ctx, func(ctx context.Context, nc *nats.Conn) error {
		letters, err := openLetters(ctx, nc)
		if err != nil {
			return err
		}
		return do(ctx, letters)
	})
}

func openLetters(ctx context.Context, nc *nats.Conn) (*streams.Letters, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	letters, err := streams.OpenLetters(ctx, js)
	if mismatch, ok := errors.AsType[*streams.MismatchError](err); ok {
		return nil, fmt.Errorf("%w: has the service (publish-reconciler run) ever been here?", mismatch)
	}
	return letters, err
}

// letterFlags choose letters by what they say. A value that is given and empty, such as a variable that a script
// forgot to set, is a fault: it must not mean all.
type letterFlags struct {
	Kind   *string `name:"kind" values:"webhook,check,sweep" help:"Only what was a webhook, a check or a sweep."`
	Reason *string `name:"reason" help:"Only what died for this reason, such as malformed_json, as dead list has it."`
	Since  *string `name:"since" help:"Only what died within a time such as 1h, or since one such as 2024-01-15T10:30:00Z."`
}

func (f letterFlags) given() bool { return f.Kind != nil || f.Reason != nil || f.Since != nil }

// filter tells every fault.
func (f letterFlags) filter() (filter streams.LetterFilter, err error) {
	var faults []error
	if f.Kind != nil {
		filter.Kind = streams.Kind(*f.Kind)
		switch filter.Kind {
		case streams.KindWebhook, streams.KindCheck, streams.KindSweep:
		default:
			faults = append(faults, fmt.Errorf("--kind is %s: it must be webhook, check or sweep", quote(*f.Kind)))
		}
	}
	if f.Reason != nil {
		if filter.Reason = streams.Reason(*f.Reason); !isWord(*f.Reason, maxReasonBytes) {
			faults = append(faults, fmt.Errorf("--reason is %s: it must be one word of 1 to %d bytes, such as malformed_json", quote(*f.Reason), maxReasonBytes))
		}
	}
	if f.Since != nil {
		age, notAge := time.ParseDuration(*f.Since)
		at, notTime := time.Parse(time.RFC3339, *f.Since)
		switch {
		case notTime == nil:
			filter.Since = at
		case notAge == nil && age > 0:
			filter.Since = time.Now().Add(-age)
		default:
			faults = append(faults, fmt.Errorf("--since is %s: it must be a time ago such as 1h, or a time such as 2024-01-15T10:30:00Z", quote(*f.Since)))
		}
	}
	return filter, errors.Join(faults...)
}

type deadListCommand struct {
	natsAccess  `embed:""`
	letterFlags `embed:""`
	Before      string `name:"before" help:"Only letters before the one of this sequence, as dead list has it: the next page."`
	Limit       string `name:"limit" default:"${dead_limit}" help:"How many: 1 to 500."`
	JSON        bool   `name:"json" help:"Print them as JSON."`
}

func (c *deadListCommand) run(ctx context.Context, out output) error {
	filter, err := c.filter()
	limit, notNumber := strconv.Atoi(c.Limit)
	if notNumber != nil || limit < 1 || limit > maxLetters {
		err = errors.Join(err, fmt.Errorf("--limit is %s: it must be a whole number from 1 to %d", quote(c.Limit), maxLetters))
	}
	before := uint64(0)
	if c.Before != "" {
		var wrong error
		before, wrong = parseSequence(c.Before)
		err = errors.Join(err, wrong)
	}
	if err != nil {
		return usageError{err}
	}
	var page []streams.Letter
	var next uint64
	err = c.letters(ctx, func(ctx context.Context, letters *streams.Letters) (err error) {
		page, next, err = letters.List(ctx, filter, before, limit)
		return err
	})
	if err != nil {
		return err
	}
	if c.JSON {
		return printLettersJSON(out.stdout, page, next)
	}
	printLetters(out.stdout, page)
	if next != 0 { // where it does not spoil what is piped
		fmt.Fprintf(out.stderr, "there are more: the same with --before %d\n", next)
	}
	return nil
}

// parseSequence reads a letter's sequence, which begins at 1.
func parseSequence(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%s is no letter's sequence: it must be a whole number from 1, as dead list has it", quote(s))
	}
	return n, nil
}

type deadShowCommand struct {
	natsAccess `embed:""`
	Sequence   string `arg:"" name:"seq" help:"The letter's sequence."`
	JSON       bool   `name:"json" help:"Print it as JSON."`
	Raw        bool   `name:"raw" help:"Write nothing but the payload, byte for byte."`
}

func (c *deadShowCommand) run(ctx context.Context, out output) error {
	sequence, err := parseSequence(c.Sequence)
	if err == nil && c.JSON && c.Raw {
		err = errors.New("--json and --raw can't be had together")
	}
	if err != nil {
		return usageError{err}
	}
	var letter streams.Letter
	err = c.letters(ctx, func(ctx context.Context, letters *streams.Letters) (err error) {
		letter, err = letters.Get(ctx, sequence)
		return err
	})
	switch {
	case err != nil:
		return err
	case c.JSON:
		return printLetterJSON(out.stdout, letter)
	case c.Raw:
		_, err = out.stdout.Write(letter.Body)
		return err
	}
	printLetter(out.stdout, letter)
	return nil
}

// letterChoice are the letters to act on: some by their sequences, some by what they say, or all.
type letterChoice struct {
	natsAccess  `embed:""`
	letterFlags `embed:""`
	Sequences   []string `arg:"" optional:"" name:"seq" help:"The letters' sequences."`
	All         bool     `name:"all" help:"All letters."`
	Yes         bool     `name:"yes" help:"Do it without asking."`
}

// read returns the sequences, or else the filter.
func (c letterChoice) read() (sequences []uint64, filter streams.LetterFilter, err error) {
	filter, err = c.filter()
	seen := make(map[uint64]bool)
	for _, s := range c.Sequences {
		sequence, wrong := parseSequence(s)
		err = errors.Join(err, wrong)
		if !seen[sequence] {
			seen[sequence] = true
			sequences = append(sequences, sequence)
		}
	}
	ways := 0
	for _, way := range []bool{len(c.Sequences) > 0, c.given(), c.All} {
		if way {
			ways++
		}
	}
	if err == nil && ways != 1 {
		err = errors.New("which letters? Name their sequences, or filters (--kind, --reason, --since), or --all")
		if ways > 1 {
			err = fmt.Errorf("%w, and one of the three only", err)
		}
	}
	if err != nil {
		return nil, filter, usageError{err}
	}
	return sequences, filter, nil
}

// actHelp is what replay and drop have in common.
const actHelp = `Name letters by their sequences, as dead list has them, or by filters, all of which have to hold, or all of them by
--all. It counts them by kind and reason and asks before it does anything, unless --yes is given.`

// Help tells how letters are chosen.
func (deadDropCommand) Help() string { return actHelp }

// Help tells how letters are chosen, and of doubts.
func (deadReplayCommand) Help() string {
	return actHelp + `

A letter is replayed once. Where a replay was cut off, such as by a crash, the same command finishes it within a
minute. After that it can't be told any more whether the original was put back: such letters stay until they are
dropped, or replayed with --again, which may be the second time. To process a webhook or a check twice changes
nothing by itself.`
}

type deadReplayCommand struct {
	letterChoice `embed:""`
	Again        bool `name:"again" help:"Also those of which a replay was cut off, so that this may be the second time."`
}

func (c *deadReplayCommand) run(ctx context.Context, out output) error {
	return c.act(ctx, out, replaying(c.Again))
}

func replaying(again bool) deed {
	return deed{ask: "Replay", done: "replayed", prepare: func(ctx context.Context, letters *streams.Letters) (step, error) {
		r, err := letters.Replayer(ctx, again)
		if err != nil {
			return nil, err
		}
		return r.ReplayAll, nil
	}}
}

type deadDropCommand struct {
	letterChoice `embed:""`
}

func (c *deadDropCommand) run(ctx context.Context, out output) error {
	return c.act(ctx, out, dropping)
}

var dropping = deed{ask: "Drop", done: "dropped", prepare: func(_ context.Context, letters *streams.Letters) (step, error) {
	return letters.DropAll, nil
}}

// plural is "1 letter" or "12 letters".
func plural(n int) string {
	if n == 1 {
		return "1 letter"
	}
	return strconv.Itoa(n) + " letters"
}
