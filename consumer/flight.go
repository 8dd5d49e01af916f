package consumer

import (
	"cmp"
	"context"
	"sync"
)

// jobsInFlight is how many batches of one consumer are worked on at the same time: while Postgres has one in hand,
// the next is decided here.
const jobsInFlight = 2

// job is a batch to be worked on.
type job struct {
	// keys are what the batch is about. No two batches that are about the same thing are in flight at once, so
	// that messages about it are decided in the order in which they came.
	keys map[any]bool
	// do reconciles the batch and settles every message of it. Its error is why some have to come again. Stopping
	// ends when the service is asked to stop; working, later, when it has to.
	do func(stopping, working context.Context) error
}

// flight is the jobs of one consumer that are being done.
type flight struct {
	mu     sync.Mutex
	landed *sync.Cond // a job is done
	jobs   int
	keys   map[any]bool
	err    error // of the first job that failed
}

func newFlight() *flight {
	f := &flight{keys: make(map[any]bool)}
	f.landed = sync.NewCond(&f.mu)
	return f
}

// start begins a job as soon as there is room for it and nothing in flight is about the same. Where a job has
// failed it begins no more, and returns that one's error.
func (f *flight) start(j job, do func(job) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.err == nil && (f.jobs == jobsInFlight || f.meets(j)) {
		f.landed.Wait()
	}
	if f.err != nil {
		return f.err
	}
	f.jobs++
	for key := range j.keys {
		f.keys[key] = true
	}
	go func() {
		err := do(j)
		f.mu.Lock()
		defer f.mu.Unlock()
		f.jobs--
		for key := range j.keys {
			delete(f.keys, key)
		}
		f.err = cmp.Or(f.err, err)
		f.landed.Broadcast()
	}()
	return nil
}

func (f *flight) meets(j job) bool {
	for key := range j.keys {
		if f.keys[key] {
			return true
		}
	}
	return false
}

// land waits for the jobs in flight, and returns the error of the first that failed.
func (f *flight) land() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.jobs > 0 {
		f.landed.Wait()
	}
	return f.err
}

// idle tells whether nothing is in flight, and nothing has failed.
func (f *flight) idle() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.jobs == 0 && f.err == nil
}

// failed is the error of the first job that failed.
func (f *flight) failed() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}
