package bench

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"publish-reconciler/streams"
	"publish-reconciler/streams/streamstest"
)

// warmLogs is how many logs are reconciled before anything is measured.
const warmLogs = 3000

// perSecond is a speed that must be reached.
func perSecond(line, what string, n int, took time.Duration, target float64) Figure {
	return Figure{Line: line, What: what, Value: float64(n) / took.Seconds(), Unit: "logs/s", Target: target}
}

// webhooks measures the backlog, without outcome events and with them.
func webhooks(ctx context.Context, w *world) ([]Figure, error) {
	n := w.scale(100_000, 10_000)
	headline, err := w.backlog(ctx, "webhooks", "backlog of webhooks → success", n, "--events=off")
	if err != nil {
		return nil, err
	}
	headline.Target = 20_000
	withEvents, err := w.backlog(ctx, "webhooks", "the same with outcome events", n)
	if err != nil {
		return nil, err
	}
	withEvents.Target = 15_000
	withEvents.Limits = []Limit{{Name: "the line above", Value: headline.Value, Target: 0.75}}
	stream, err := w.js.Stream(ctx, streams.StreamEvents)
	if err != nil {
		return nil, err
	}
	if events := stream.CachedInfo().State.Msgs; events != uint64(warmLogs+n) {
		return nil, fmt.Errorf("%d events are told, must be %d", events, warmLogs+n)
	}
	all := perSecond("webhooks", "the same, until all events are told", n, w.told, 0)
	err = w.limits(ctx, &headline)
	return []Figure{headline, withEvents, all}, err
}

// backlog measures webhooks, each of which closes its log, with a service of its own. Nothing is left of what
// was measured before.
func (w *world) backlog(ctx context.Context, line, what string, n int, flags ...string) (figure Figure, err error) {
	if err := w.exec(ctx, `TRUNCATE publish_logs, ledger_events`); err != nil {
		return figure, err
	}
	s, err := w.start(ctx, flags...)
	if err != nil {
		return figure, err
	}
	if _, err := w.confirm(ctx, warmLogs); err != nil {
		return figure, err
	}
	took, err := w.confirm(ctx, n)
	if err != nil {
		return figure, err
	}
	return perSecond(line, what, n, took, 0), errors.Join(s.stop(), w.ends(ctx, warmLogs+n, "success", "webhook_confirmed"))
}

// confirm has webhooks about n new posts wait for the service, and returns how long it takes from the first of them that
// it is given to its last acknowledgement. W.told is how long it takes until all outcome events are told.
func (w *world) confirm(ctx context.Context, n int) (time.Duration, error) {
	goOn, err := w.pause(ctx, streams.StreamWebhooks, streams.ConsumerWebhooks)
	if err != nil {
		return 0, err
	}
	from, err := w.insert(ctx, n, "processing", 0)
	if err != nil {
		return 0, err
	}
	if err := w.publish(n, func(i int) *nats.Msg { return webhook(from + i) }); err != nil {
		return 0, err
	}
	began, err := goOn()
	if err != nil {
		return 0, err
	}
	if err := w.drained(ctx, streams.StreamWebhooks, streams.ConsumerWebhooks); err != nil {
		return 0, err
	}
	took := time.Since(began)
	if err := w.until(ctx, "all events are told", func() (bool, error) {
		var left bool
		err := w.db.QueryRow(ctx, `SELECT EXISTS (SELECT FROM publish_outbox)`).Scan(&left)
		return !left, err
	}); err != nil {
		return 0, err
	}
	w.told = time.Since(began)
	return took, nil
}

// checks measures delayed checks that become due in the same second, from then on. Nobody said anything about
// their logs, and they have no patience.
func checks(ctx context.Context, w *world) ([]Figure, error) {
	n := w.scale(100_000, 10_000)
	if _, err := w.start(ctx, "--events=off"); err != nil {
		return nil, err
	}
	due := func(n int) (time.Duration, error) {
		if _, err := w.insert(ctx, n, "processing", time.Minute); err != nil {
			return 0, err
		}
		ids, err := w.ids(ctx, "processing")
		if err != nil {
			return 0, err
		}
		at := time.Now().Add(2*time.Second + time.Duration(n)*100*time.Microsecond) // once they are stored
		patience := time.Duration(0)
		if err := w.publish(n, func(i int) *nats.Msg {
			return streams.CheckSchedule(streams.Check{LogID: uuid.MustParse(ids[i]), Timeout: &patience}, at)
		}); err != nil {
			return 0, err
		}
		if late := time.Since(at); late > 0 {
			return 0, fmt.Errorf("they were due %s before the last of them was stored", late)
		}
		if err := w.checked(ctx); err != nil {
			return 0, err
		}
		return time.Since(at), nil
	}
	if _, err := due(warmLogs); err != nil {
		return nil, err
	}
	took, err := due(n)
	if err == nil {
		err = w.ends(ctx, warmLogs+n, "failed", "webhook_timeout")
	}
	if err != nil {
		return nil, err
	}
	figure := perSecond("checks", "delayed checks due at once → failed", n, took, 15_000)
	err = w.limit(ctx, &figure, oneStatementName, 0, n, w.oneStatement(failed))
	return []Figure{figure}, err
}

// checked returns once no check is left, due or not: nothing but the schedules of the next sweep and prune.
func (w *world) checked(ctx context.Context) error {
	return w.until(ctx, "all checks are done", func() (bool, error) {
		stream, err := w.js.Stream(ctx, streams.StreamChecks)
		return err == nil && stream.CachedInfo().State.Msgs <= 2, err
	})
}

// finalChecks measures checks that find their logs closed, as most do.
func finalChecks(ctx context.Context, w *world) ([]Figure, error) {
	n := w.scale(200_000, 10_000)
	if _, err := w.start(ctx, "--events=off"); err != nil {
		return nil, err
	}
	if _, err := w.insert(ctx, n, "success", time.Minute); err != nil {
		return nil, err
	}
	ids, err := w.ids(ctx, "success")
	if err != nil {
		return nil, err
	}
	check := func(ids []string) (time.Duration, error) {
		goOn, err := w.pause(ctx, streams.StreamChecks, streams.ConsumerChecks)
		if err != nil {
			return 0, err
		}
		if err := w.publish(len(ids), func(i int) *nats.Msg { return nats.NewMsg("publish.check." + ids[i]) }); err != nil {
			return 0, err
		}
		began, err := goOn()
		if err != nil {
			return 0, err
		}
		if err := w.drained(ctx, streams.StreamChecks, streams.ConsumerChecks); err != nil {
			return 0, err
		}
		return time.Since(began), nil
	}
	if _, err := check(ids[:warmLogs]); err != nil {
		return nil, err
	}
	took, err := check(ids)
	if err != nil {
		return nil, err
	}
	return []Figure{perSecond("final", "checks on logs that are final already", n, took, 40_000)}, nil
}

// sweep measures one sweep of stale logs that nobody sent a message about.
func sweep(ctx context.Context, w *world) ([]Figure, error) {
	n := w.scale(1_000_000, 20_000)
	s, err := w.start(ctx, "--events=off")
	if err != nil {
		return nil, err
	}
	if _, err := w.sweep(ctx, warmLogs); err != nil {
		return nil, err
	}
	took, err := w.sweep(ctx, n)
	if err != nil {
		return nil, err
	}
	swept, err := stats(s.cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	if err := w.ends(ctx, warmLogs+n, "failed", "webhook_timeout"); err != nil {
		return nil, err
	}
	what := fmt.Sprintf("sweep of %d stale logs", n)
	figure := perSecond("sweep", what, n, took, 20_000)
	err = w.limit(ctx, &figure, oneStatementName, 0, w.scale(100_000, 10_000), w.oneStatement(failed))
	return []Figure{
		figure,
		{Line: "sweep", What: what + ", memory at most", Value: swept.peak, Unit: "MiB", Target: 128, Most: true},
	}, err
}

// sweep has n logs go stale, and returns how long a sweep of them takes.
func (w *world) sweep(ctx context.Context, n int) (time.Duration, error) {
	if _, err := w.insert(ctx, n, "processing", time.Hour); err != nil {
		return 0, err
	}
	began := time.Now()
	if _, err := w.js.Publish(ctx, streams.SubjectSweep, []byte(`{"since_minutes":30}`)); err != nil {
		return 0, err
	}
	if err := w.drained(ctx, streams.StreamChecks, streams.ConsumerSweeper); err != nil {
		return 0, err
	}
	return time.Since(began), nil
}

// sweepLarge measures how much longer a sweep of a few logs takes in a large table than in a small one.
func sweepLarge(ctx context.Context, w *world) ([]Figure, error) {
	const stale, sweeps = 1000, 5
	small, large := w.scale(100_000, 10_000), w.scale(5_000_000, 100_000)
	if _, err := w.start(ctx, "--events=off"); err != nil {
		return nil, err
	}
	swept := 0
	typical := func(size int) (float64, error) {
		if _, err := w.insert(ctx, size-w.posts, "success", time.Hour); err != nil {
			return 0, err
		}
		// Else the disk is still busy with the large table.
		if err := w.asAdmin(ctx, `CHECKPOINT`); err != nil {
			return 0, err
		}
		var times []float64
		for range sweeps {
			took, err := w.sweep(ctx, stale)
			if err != nil {
				return 0, err
			}
			swept += stale
			times = append(times, took.Seconds())
		}
		if err := w.ends(ctx, swept, "failed", "webhook_timeout"); err != nil {
			return 0, err
		}
		return median(times), nil
	}
	before, err := typical(small)
	if err != nil {
		return nil, err
	}
	after, err := typical(large)
	if err != nil {
		return nil, err
	}
	what := fmt.Sprintf("sweep of %d stale logs in a table of %d rows (%.1f ms), by that of %d (%.1f ms)", stale, large, 1000*after, small, 1000*before)
	return []Figure{{Line: "sweep-large", What: what, Value: after / before, Unit: "×", Target: 1.3, Most: true}}, nil
}

// pruneUnderLoad measures what is left of the speed while old ledger events are deleted.
func pruneUnderLoad(ctx context.Context, w *world) ([]Figure, error) {
	n, old := w.scale(100_000, 10_000), w.scale(1_000_000, 50_000)
	if _, err := w.start(ctx, "--events=off"); err != nil {
		return nil, err
	}
	if err := w.exec(ctx, `
		INSERT INTO ledger_events (timestamp, event_type, entity_type, entity_id, metadata)
		SELECT now() - interval '1 year', 'publish_reconciled', 'publish_log', gen_random_uuid()::text, $2::jsonb
		  FROM generate_series(1, $1::int)`, old, reconciledMetadata); err != nil {
		return nil, err
	}
	if _, err := w.confirm(ctx, warmLogs); err != nil {
		return nil, err
	}
	before, err := w.confirm(ctx, n)
	if err != nil {
		return nil, err
	}
	prune := exec.CommandContext(ctx, w.cfg.Program, "prune", "--database-url="+w.database, "--ledger-retention=30d")
	var said strings.Builder
	prune.Stderr = &said
	began := time.Now()
	if err := prune.Start(); err != nil {
		return nil, err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = prune.Wait() // it is stopped
	}()
	beside, err := w.confirm(ctx, n)
	pruned := time.Since(began)
	select {
	case <-ended:
		err = errors.Join(err, fmt.Errorf("it ended before its time: %s", said.String()))
	default:
		err = errors.Join(err, prune.Process.Signal(syscall.SIGINT))
		<-ended
	}
	if err != nil {
		return nil, err
	}
	after, err := w.confirm(ctx, n) // the table grows meanwhile
	if err != nil {
		return nil, err
	}
	var left int
	if err := w.db.QueryRow(ctx, `SELECT count(*) FROM ledger_events WHERE timestamp < now() - interval '30 days'`).Scan(&left); err != nil {
		return nil, err
	}
	if left == old {
		return nil, errors.New("nothing was deleted")
	}
	what := fmt.Sprintf("speed while old events are deleted (%.0f/s), by that before and after", float64(old-left)/pruned.Seconds())
	return []Figure{{Line: "prune", What: what, Value: (before + after).Seconds() / 2 / beside.Seconds(), Unit: "×", Target: 0.9}}, nil
}

// clusterOfThree measures the backlog where three NATS servers keep each stream, all on this machine.
func clusterOfThree(ctx context.Context, w *world) ([]Figure, error) {
	cluster, err := streamstest.StartCluster(ctx)
	if err != nil {
		return nil, err
	}
	defer cluster.Stop()
	defer func() { w.js = nil }() // its streams go with the servers
	w.nc.Close()
	w.natsURL = cluster.URL()
	if err := w.connect(ctx, 3); err != nil {
		return nil, fmt.Errorf("connect to the cluster: %w", err)
	}
	n := w.scale(100_000, 10_000)
	figure, err := w.backlog(ctx, "cluster", "backlog of webhooks → success, streams on three servers of one machine", n, "--events=off", "--stream-replicas=3")
	if err != nil {
		return nil, err
	}
	err = w.limit(ctx, &figure, fetchAndAckName, 0, n, w.fetchAndAck)
	return []Figure{figure}, err
}
