package console

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"publish-reconciler/reconciler"
	"publish-reconciler/repo"
	"publish-reconciler/streams"
)

// slowLogs never come to an end with a list.
type slowLogs struct{ Logs }

func (slowLogs) List(ctx context.Context, _ map[string]string) ([]reconciler.Row, bool, error) {
	<-ctx.Done()
	return nil, false, ctx.Err()
}

func (slowLogs) Parked(ctx context.Context, _ repo.ParkedPage) ([]repo.Parked, bool, error) {
	return make([]repo.Parked, 2), true, ctx.Err()
}

type oneLetter struct{ Letters }

func (oneLetter) List(ctx context.Context, _ streams.LetterFilter, _ uint64, _ int) ([]streams.Letter, uint64, error) {
	return make([]streams.Letter, 1), 0, ctx.Err()
}

// A backlog that takes too long to read hides nothing else.
func TestAttentionInALargeBacklog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := New(Config{Facts: struct{ Facts }{}, Logs: slowLogs{}, Letters: oneLetter{}, Translate: func(err error) (int, string) { return 503, err.Error() }})
		start := time.Now()
		page, err := c.attention.get(t.Context())
		if err != nil || len(page.Parked) != 2 || !page.MoreParked || len(page.Letters) != 1 || page.ParkedTrouble+page.LetterTrouble != "" {
			t.Errorf("%+v: %v", page, err)
		}
		if page.LogTrouble == "" || time.Since(start) != lookTime {
			t.Errorf("the logs are known after %s: %+v", time.Since(start), page)
		}
	})
}

// What changes while somebody looks is looked at anew, and nobody who changes it waits.
func TestCachedForgets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		looks := 0
		c := newCached(time.Hour, func(context.Context) int {
			looks++
			time.Sleep(time.Second)
			return looks
		})
		go func() { _, _ = c.get(t.Context()) }()
		synctest.Wait()
		start := time.Now()
		c.forget()
		if time.Since(start) != 0 {
			t.Error("it waits for who looks")
		}
		for range 2 {
			if got, err := c.get(t.Context()); got != 2 || err != nil {
				t.Errorf("it is what look %d found: %v", got, err)
			}
		}
	})
}
