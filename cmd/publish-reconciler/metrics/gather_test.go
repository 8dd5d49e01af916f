package metrics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func TestGatherer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const interval = 15 * time.Second
		var mu sync.Mutex // for these
		gathered, takes, err := 0, time.Duration(0), error(nil)
		set := func(d time.Duration, failure error) {
			mu.Lock()
			defer mu.Unlock()
			takes, err = d, failure
		}
		count := func() int {
			mu.Lock()
			defer mu.Unlock()
			return gathered
		}
		g := &gatherer{counts: true, gather: func(context.Context) ([]prometheus.Metric, error) {
			mu.Lock()
			gathered++
			pause, failure := takes, err
			mu.Unlock()
			time.Sleep(pause)
			return []prometheus.Metric{gauge(deadDesc, 1)}, failure
		}}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			g.run(ctx, interval, slog.New(slog.DiscardHandler))
		}()
		defer func() {
			cancel()
			<-done
		}()
		shown := func() int {
			ch := make(chan prometheus.Metric, 1)
			g.Collect(ch)
			return len(ch)
		}
		// passes has time pass, and wants so many more gathers, and then so many gauges.
		passes := func(what string, d time.Duration, gathers, gauges int) {
			t.Helper()
			before := count()
			time.Sleep(d)
			synctest.Wait()
			if count()-before != gathers || shown() != gauges {
				t.Errorf("%s: %d gathers and %d gauges, want %d and %d", what, count()-before, shown(), gathers, gauges)
			}
		}
		if shown() != 0 {
			t.Error("shown before the first gather")
		}
		passes("at once", 0, 1, 1)
		for range 1000 {
			shown()
		}
		passes("scrapes gather nothing", interval-1, 0, 1)
		passes("the next", 1, 1, 1)

		set(0, errors.New("away"))
		passes("it fails, and is tried again sooner", interval+interval/5, 2, 1)
		passes("until it is stale", 4*interval-interval-interval/5, 14, 0)
		set(0, nil)
		passes("it succeeds", interval/5, 1, 1)

		const slow = 6 * time.Second // and so the pause is a minute
		set(slow, nil)
		passes("a slow one", interval, 1, 1)
		passes("is done", slow, 0, 1)
		passes("and not repeated", time.Minute-1, 0, 1)
		passes("before ten times its time is over", 1, 1, 1)

		set(slow, errors.New("no answer"))
		passes("it is done", slow, 0, 1)
		passes("the next fails slowly", time.Minute+slow, 1, 1)
		passes("and is not repeated sooner than a slow one", time.Minute-1, 0, 1)
		passes("but then", 1, 1, 1)
	})
}

func TestPlatforms(t *testing.T) {
	t.Parallel()
	p := newPlatforms([]string{"own"})
	var wg sync.WaitGroup
	labels := make([]map[string]bool, 8)
	for i := range labels {
		labels[i] = make(map[string]bool)
		wg.Go(func() {
			for n := range 1000 {
				labels[i][p.label(fmt.Sprint("platform", (n+i*100)%1000))] = true
			}
		})
	}
	wg.Wait()
	all := make(map[string]bool)
	for _, some := range labels {
		for label := range some {
			all[label] = true
		}
	}
	if len(all) != maxSeen+1 || !all[otherPlatform] {
		t.Errorf("%d labels: %v", len(all), all)
	}
	for name, want := range map[string]string{"own": "own", "": otherPlatform, "\xff": otherPlatform} {
		if got := p.label(name); got != want {
			t.Errorf("%q is %q, want %q", name, got, want)
		}
	}
}
