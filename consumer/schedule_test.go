package consumer_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"publish-reconciler/consumer"
	"publish-reconciler/reconciler"
	"publish-reconciler/streams"
)

// Deadlines are the database's, schedules the NATS server's: what is between the clocks moves the check.
func TestScheduleWithClocksThatDiffer(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		nats, database time.Duration // ahead of ours
		moved          time.Duration
	}{
		"none differs":                       {0, 0, 0},
		"a small difference is none":         {400 * time.Millisecond, -400 * time.Millisecond, 0},
		"NATS is ahead":                      {time.Hour, 0, time.Hour},
		"NATS is behind":                     {-time.Hour, 0, -time.Hour},
		"the database is ahead":              {0, time.Hour, -time.Hour},
		"the database is behind":             {0, -time.Hour, time.Hour},
		"both are ahead":                     {time.Hour, time.Hour, 0},
		"both are off in the other's favour": {time.Minute, -time.Minute, 2 * time.Minute},
	}
	w := setup(t)
	for name, tt := range tests {
		scheduler := consumer.NewScheduler(w.js)
		scheduler.SetOffset(tt.nats)
		patience := 20 * time.Minute
		now := time.Now().Add(tt.database)
		check := reconciler.Recheck{LogID: uuid.New(), Timeout: &patience, At: now.Add(10 * time.Hour), Now: now}
		if err := scheduler.ScheduleChecks(t.Context(), []reconciler.Recheck{check}); err != nil {
			t.Fatal(err)
		}
		subject := streams.ScheduleCheckSubject(check.LogID)
		moved := w.scheduledAt(subject).Sub(check.At)
		if tt.moved == 0 && moved != 0 || (moved-tt.moved).Abs() > time.Second {
			t.Errorf("%s: moved by %s, want %s", name, moved, tt.moved)
		}
		equal(t, name+": body", string(w.scheduled(subject).Data), `{"timeout_minutes":20}`)
	}
}

// The service's own clock is 26 years off: in a bubble of synctest's it is the first of January 2000. Checks and
// ticks are where the clocks of the database and of NATS want them.
func TestScheduleOnAHostWhoseClockIsOff(t *testing.T) {
	t.Parallel()
	w := setup(t)
	now, patience := time.Now(), 20*time.Minute
	check := reconciler.Recheck{LogID: uuid.New(), Timeout: &patience, At: now.Add(10 * time.Hour), Now: now}
	w.purge(streams.StreamChecks, streams.SubjectScheduleSweep)
	synctest.Test(t, func(t *testing.T) {
		nc, err := w.nats.Connect()
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		scheduler := consumer.NewScheduler(js)
		if err := scheduler.EnsureSweep(t.Context(), time.Hour, time.Hour); err != nil { // as a consumer does when it starts
			t.Fatal(err)
		}
		if err := scheduler.ScheduleChecks(t.Context(), []reconciler.Recheck{check}); err != nil {
			t.Fatal(err)
		}
	})
	for subject, want := range map[string]time.Time{
		streams.ScheduleCheckSubject(check.LogID): check.At,
		streams.SubjectScheduleSweep:              now.Add(time.Hour),
	} {
		if off := w.scheduledAt(subject).Sub(want).Abs(); off > time.Minute {
			t.Errorf("%s is off by %s", subject, off)
		}
	}
}

func TestScheduleThatIsNotStored(t *testing.T) {
	t.Parallel()
	w := setup(t)
	if err := w.js.DeleteStream(t.Context(), streams.StreamChecks); err != nil {
		t.Fatal(err)
	}
	checks := []reconciler.Recheck{{LogID: uuid.New(), At: time.Now(), Now: time.Now()}}
	if err := consumer.NewScheduler(w.js).ScheduleChecks(t.Context(), checks); err == nil {
		t.Error("no error")
	}
}
