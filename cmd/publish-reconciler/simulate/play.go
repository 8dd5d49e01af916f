package simulate

import (
	"container/heap"
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// batchSize is how many steps are done at once: rows of one statement, messages on the way together.
	batchSize = 500
	// maxInHand bounds the logs whose story is not told to its end, and so the memory: at 5,000 logs a second
	// some 30,000 wait for their checks. While more do, none begins.
	maxInHand = 50_000
	// lookEvery is how often Postgres is looked at for what is waited for, at most; a look that takes long is
	// taken less often, so that it never keeps Postgres from more than a fifth of its time.
	lookEvery = 250 * time.Millisecond
	// tellEvery is how often progress is told.
	tellEvery = 100 * time.Millisecond
)

// actor is a log whose story is not told to its end.
type actor struct {
	log  Log
	step int
	due  time.Time
}

// wait is what the log waits for now.
func (a *actor) wait() Wait {
	if a.step == len(a.log.Steps) {
		return forEnd
	}
	return a.log.Steps[a.step].Wait
}

// stage is what Play keeps track of. It belongs to one goroutine; the hands that do things only see batches.
type stage struct {
	*Simulation
	began time.Time

	next                     int // the log that begins next
	ended                    int
	timed                    actors         // wait for their time
	inserts                  []*actor       // wait for a hand
	sends                    []*actor       // wait for a hand
	inHand                   int            // are being done
	waiting                  map[int]*actor // wait for what the service does
	looking                  bool           // a look is under way
	lookAt                   time.Time      // of the next look
	doInsert, doSend, doLook chan []*actor
	done                     chan []*actor
	seen                     chan []*actor
}

// Play tells the story to its end: every step is stored, every log is as it must be, and no message is left.
// Steps are repeated while NATS or Postgres is away. A [*StalledError] tells that nothing moved any more.
func (s *Simulation) Play(ctx context.Context) error {
	began := time.Now()
	defer func() { s.took = time.Since(began) }()
	s.move()
	if err := s.findEnds(ctx); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	st := &stage{
		Simulation: s, began: time.Now(), waiting: make(map[int]*actor),
		doInsert: make(chan []*actor), doSend: make(chan []*actor), doLook: make(chan []*actor),
		done: make(chan []*actor), seen: make(chan []*actor),
	}
	// Two hands each: while one waits for an answer, the other prepares its batch.
	for range 2 {
		group.Go(func() error { return hand(ctx, st.doInsert, st.done, s.insert) })
		group.Go(func() error { return hand(ctx, st.doSend, st.done, s.send) })
	}
	group.Go(func() error { return hand(ctx, st.doLook, st.seen, s.look) })
	group.Go(func() error {
		defer st.dismiss()
		if err := st.conduct(ctx); err != nil {
			return err
		}
		return s.drain(ctx)
	})
	return group.Wait()
}

// hand does batches until there are no more.
func hand(ctx context.Context, batches <-chan []*actor, done chan<- []*actor, do func(context.Context, []*actor) ([]*actor, error)) error {
	for batch := range batches {
		result, err := do(ctx, batch)
		if err != nil {
			return err
		}
		select {
		case done <- result:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func (st *stage) dismiss() {
	close(st.doInsert)
	close(st.doSend)
	close(st.doLook)
}

// conduct has every step done in its time, until all logs have ended.
func (st *stage) conduct(ctx context.Context) error {
	tick := time.NewTimer(0)
	defer tick.Stop()
	var told time.Time
	for st.ended < st.story.Len() {
		st.begin()
		if time.Since(told) >= tellEvery {
			told = time.Now()
			st.tell()
		}
		tick.Reset(st.untilNext())
		inserts, insertC := offer(st.inserts, st.doInsert, batchSize)
		sends, sendC := offer(st.sends, st.doSend, batchSize)
		looks, lookC := st.looks()
		select {
		case insertC <- inserts:
			st.inserts = st.inserts[len(inserts):]
			st.inHand += len(inserts)
		case sendC <- sends:
			st.sends = st.sends[len(sends):]
			st.inHand += len(sends)
		case lookC <- looks:
			st.looking, st.lookAt = true, time.Now()
		case batch := <-st.done:
			st.inHand -= len(batch)
			st.move()
			for _, a := range batch {
				a.step++
				st.proceed(a)
			}
		case batch := <-st.seen:
			st.looking = false
			st.lookAt = time.Now().Add(max(lookEvery, 4*time.Since(st.lookAt)))
			for _, a := range batch {
				st.meet(a)
			}
		case <-tick.C:
			if st.inHand+len(st.waiting) == 0 {
				st.move() // nothing is late: it is not yet time
			}
			if err := st.stalled(st.awaited()); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	st.tell()
	return nil
}

// offer is a batch for whoever takes it; no channel where there is none, which nobody takes from.
func offer(queue []*actor, to chan []*actor, most int) ([]*actor, chan<- []*actor) {
	if len(queue) == 0 {
		return nil, nil
	}
	return queue[:min(len(queue), most)], to
}

// begin takes on the logs whose time has come, and lines up the steps whose time has come.
func (st *stage) begin() {
	now := time.Now()
	for st.next < st.story.Len() && st.next-st.ended < maxInHand {
		log := st.story.Log(st.next)
		if st.began.Add(log.Start).After(now) {
			break
		}
		st.next++
		st.begun.Store(int64(st.next))
		st.proceed(&actor{log: log})
	}
	for len(st.timed) > 0 && !st.timed[0].due.After(now) {
		st.lineUp(heap.Pop(&st.timed).(*actor))
	}
}

// proceed has a log go on to its present step.
func (st *stage) proceed(a *actor) {
	if a.wait() != "" {
		st.waiting[a.log.Index] = a
		return
	}
	st.schedule(a)
}

// schedule has a step done in its time.
func (st *stage) schedule(a *actor) {
	if a.due = st.began.Add(a.log.Start + a.log.Steps[a.step].After); a.due.After(time.Now()) {
		heap.Push(&st.timed, a)
		return
	}
	st.lineUp(a)
}

func (st *stage) lineUp(a *actor) {
	if a.log.Steps[a.step].Do == Insert {
		st.inserts = append(st.inserts, a)
	} else {
		st.sends = append(st.sends, a)
	}
}

// meet has a log go on that has what it waited for.
func (st *stage) meet(a *actor) {
	delete(st.waiting, a.log.Index)
	st.move()
	if a.step == len(a.log.Steps) {
		st.ended++
		return
	}
	st.schedule(a)
}

// looks is what to look at in Postgres, once it is time.
func (st *stage) looks() ([]*actor, chan<- []*actor) {
	if st.looking || len(st.waiting) == 0 || time.Now().Before(st.lookAt) {
		return nil, nil
	}
	all := make([]*actor, 0, len(st.waiting))
	for _, a := range st.waiting {
		all = append(all, a)
	}
	return all, st.doLook
}

// untilNext is when something is to be done that nobody else starts.
func (st *stage) untilNext() time.Duration {
	next := time.Now().Add(tellEvery)
	if len(st.timed) > 0 && st.timed[0].due.Before(next) {
		next = st.timed[0].due
	}
	if st.next < st.story.Len() && st.next-st.ended < maxInHand {
		if start := st.began.Add(time.Duration(float64(st.next) / st.cfg.Plan.Rate * float64(time.Second))); start.Before(next) {
			next = start
		}
	}
	// Steps come in crowds: a hundred times a second is often enough to line them up.
	return max(time.Until(next), 10*time.Millisecond)
}

// awaited tells what is waited for.
func (st *stage) awaited() string {
	counts := make(map[Wait]int)
	for _, a := range st.waiting {
		counts[a.wait()]++
	}
	return fmt.Sprintf("%d rows and messages to be stored, %d webhooks to be parked, %d logs to fail, %d unclear webhooks to be recorded, %d logs to be as they must",
		st.inHand+len(st.inserts)+len(st.sends), counts[ForParked], counts[ForFailed], counts[ForReviewed], counts[forEnd])
}

func (st *stage) tell() {
	st.cfg.Progress(Progress{Logs: st.story.Len(), Done: st.ended, Phase: fmt.Sprintf("playing, %d begun", st.next)})
}

// actors is a heap, the earliest first.
type actors []*actor

func (h actors) Len() int           { return len(h) }
func (h actors) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h actors) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *actors) Push(x any)        { *h = append(*h, x.(*actor)) }
func (h *actors) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
