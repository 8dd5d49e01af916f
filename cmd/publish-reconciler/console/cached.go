package console

import (
	"context"
	"sync/atomic"
	"time"
)

// cached is what many visitors share. Whoever finds it too old looks anew, while the others wait for that; where nobody
// visits nobody looks.
type cached[T any] struct {
	look func(context.Context) T
	age  time.Duration
	// forgotten has the next visitor look anew.
	forgotten *atomic.Bool
	// turn holds what was found; whoever has taken it out may look.
	turn chan found[T]
}

type found[T any] struct {
	value T
	at    time.Time
	took  time.Duration
}

const (
	// lookTime limits one look. Those who look have limits of their own, too.
	lookTime = 10 * time.Second
	// rest is how many times longer than a look took its result is good for, so that a tenth of one connection's time goes
	// into looking; but never more than slowest times the age.
	rest, slowest = 10, 4
)

func newCached[T any](age time.Duration, look func(context.Context) T) cached[T] {
	c := cached[T]{look: look, age: age, forgotten: new(atomic.Bool), turn: make(chan found[T], 1)}
	c.turn <- found[T]{}
	return c
}

// get returns what is known, at most the age old, or up to four times as old where a look takes long. The error is ctx's.
func (c cached[T]) get(ctx context.Context) (T, error) {
	select {
	case last := <-c.turn:
		defer func() { c.turn <- last }()
		if c.forgotten.Swap(false) || last.at.IsZero() || time.Since(last.at) >= max(c.age, min(rest*last.took, slowest*c.age)) {
			// It is for the others too, who are still there when this visitor has gone.
			looking, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookTime)
			defer cancel()
			start := time.Now()
			last.value = c.look(looking)
			last.at = time.Now()
			last.took = last.at.Sub(start)
		}
		return last.value, nil
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

// forget has the next visitor look anew, also when somebody is looking right now.
func (c cached[T]) forget() { c.forgotten.Store(true) }
