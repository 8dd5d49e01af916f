package streams_test

import (
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"publish-reconciler/streams"
)

// setups are servers with all streams: one, and a cluster, where others answer, and later.
var setups = map[string]func(testing.TB) jetstream.JetStream{"one server": setup, "three servers": setupCluster}

// Many at once are each its own: those that can't be replayed, that are gone, that were stored before or are named
// twice hold up none of the others.
func TestReplayAll(t *testing.T) {
	t.Parallel()
	for name, setup := range setups {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			js := setup(t)
			const n = 220
			publishLetters(t, js, n) // webhooks and checks by turns
			letters, r := open(t, js), replayer(t, js)
			const before, gone, forged = 21, 42, n + 1
			if _, err := r.Store(t.Context(), before); err != nil {
				t.Fatal(err)
			}
			if err := letters.Drop(t.Context(), gone); err != nil {
				t.Fatal(err)
			}
			publishLetter(t, js, letterOf(streams.KindWebhook, "publish.api.override", streams.ReasonRefused, ""))
			sequences := []uint64{1} // twice
			for i := range n + 1 {
				sequences = append(sequences, uint64(i+1))
			}
			stored, ones := 0, 0
			for i, result := range r.ReplayAll(t.Context(), sequences) {
				var refusal *streams.ReplayError
				switch ok := result.Err == nil && !result.Before; {
				case result.Sequence != sequences[i]:
					t.Errorf("the result of %d is of %d", sequences[i], result.Sequence)
				case result.Sequence == before && (result.Err != nil || !result.Before),
					result.Sequence == gone && !errors.Is(result.Err, streams.ErrLetterNotFound),
					result.Sequence == forged && !errors.As(result.Err, &refusal):
					t.Errorf("%+v", result)
				case result.Sequence == 1:
					if ok {
						ones++
					}
				case result.Sequence != before && result.Sequence != gone && result.Sequence != forged && !ok:
					t.Errorf("%+v", result)
				case ok:
					stored++
				}
			}
			if stored != n-3 || ones != 1 {
				t.Errorf("%d were stored, and the first one %d times", stored, ones)
			}
			came := make(map[string]int)
			for kind, messages := range map[streams.Kind]int{streams.KindWebhook: n / 2, streams.KindCheck: n/2 - 1} {
				for range messages {
					came[string(arrived(t, js, kind).Data())]++
				}
			}
			for i := range n {
				if body := strconv.Itoa(i); i+1 != gone && came[body] != 1 {
					t.Errorf("%s came %d times", body, came[body])
				}
			}
			nothingArrives(t, js)
			if left := count(t, js, streams.StreamDead, ">"); left != 1 {
				t.Errorf("%d letters are left", left)
			}
		})
	}
}

// Whoever is late finds a claim, a message id or a letter that is gone; nobody gives up for it.
func TestReplayTwiceAtOnce(t *testing.T) {
	t.Parallel()
	for name, setup := range setups {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			js := setup(t)
			const each, operators = 20, 6
			var letters []streams.Letter
			for i := range each {
				letters = append(letters,
					buried(t, js, streams.KindWebhook, "publish.webhook.tiktok", strconv.Itoa(i)),
					buried(t, js, streams.KindCheck, "publish.check.x", strconv.Itoa(i)))
			}
			var running sync.WaitGroup
			var stored atomic.Int32
			for range operators {
				r := replayer(t, js)
				running.Go(func() {
					for _, letter := range letters {
						before, err := r.Replay(t.Context(), letter.Sequence)
						if err != nil && !errors.Is(err, streams.ErrLetterNotFound) {
							t.Error(err)
						}
						if err == nil && !before {
							stored.Add(1)
						}
					}
				})
			}
			running.Wait()
			if n := stored.Load(); n != 2*each {
				t.Errorf("%d letters were stored", n)
			}
			for _, kind := range []streams.Kind{streams.KindWebhook, streams.KindCheck} {
				came := make(map[string]int)
				for range each {
					came[string(arrived(t, js, kind).Data())]++
				}
				if len(came) != each {
					t.Errorf("%s: %v", kind, came)
				}
			}
			nothingArrives(t, js)
			if n := count(t, js, streams.StreamDead, ">"); n != 0 {
				t.Errorf("%d letters are left", n)
			}
		})
	}
}

// Several who are cut off before the letters' end leave each letter in doubt, and its original stored once.
func TestReplayTwiceAtOnceCutOff(t *testing.T) {
	t.Parallel()
	for name, setup := range setups {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			js := setup(t)
			const letters, operators = 60, 6
			publishLetters(t, js, letters)
			var running sync.WaitGroup
			for range operators {
				r := replayer(t, js)
				running.Go(func() {
					for i := range letters {
						if _, err := r.Store(t.Context(), uint64(i+1)); err != nil {
							t.Error(err)
						}
					}
				})
			}
			running.Wait()
			shrinkWindow(t, js)
			for i := range letters {
				_ = refusedReplay(t, js, streams.Letter{Sequence: uint64(i + 1)}, "cut off")
			}
			for stream, subject := range map[string]string{streams.StreamWebhooks: "publish.webhook.*", streams.StreamChecks: "publish.check.*"} {
				if n := count(t, js, stream, subject); n != letters/2 {
					t.Errorf("%d messages on %s", n, subject)
				}
			}
		})
	}
}

func TestDropAll(t *testing.T) {
	t.Parallel()
	js := setup(t)
	publishLetters(t, js, 3)
	for i, result := range open(t, js).DropAll(t.Context(), []uint64{3, 9, 1}) {
		if result.Sequence != []uint64{3, 9, 1}[i] || errors.Is(result.Err, streams.ErrLetterNotFound) != (i == 1) || i != 1 && result.Err != nil {
			t.Errorf("%+v", result)
		}
	}
	if left := count(t, js, streams.StreamDead, ">"); left != 1 {
		t.Errorf("%d letters are left", left)
	}
}
