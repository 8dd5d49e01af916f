package simulate

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"publish-reconciler/streams"
)

// headerLog names the log in all of the run's webhooks: a dead letter keeps its original's headers, and a
// broken body may name nothing.
const headerLog = "Simulated-Log"

// insertSQL has the columns that publishers' own tables have too. A row that is there already was inserted by
// an attempt that was not answered.
const insertSQL = `
INSERT INTO publish_logs (id, platform, status, external_post_id, external_url, extra_metadata)
SELECT l.id, l.platform, 'processing', l.post, nullif(l.url, ''), l.metadata
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::jsonb[]) AS l(id, platform, post, url, metadata)
    ON CONFLICT (id) DO NOTHING`

// insert stores the rows as publishers do.
func (s *Simulation) insert(ctx context.Context, batch []*actor) ([]*actor, error) {
	ids := make([]uuid.UUID, len(batch))
	platforms, posts := make([]string, len(batch)), make([]string, len(batch))
	urls, metadata := make([]string, len(batch)), make([]string, len(batch))
	for i, a := range batch {
		ids[i] = s.cfg.Run.logID(a.log.Index)
		platforms[i], posts[i] = a.log.Platform, s.cfg.Run.post(a.log)
		urls[i] = s.cfg.Run.fill(a.log.OwnURL, a.log)
		text, err := json.Marshal(s.ownMetadata(a.log))
		if err != nil {
			return nil, err
		}
		metadata[i] = string(text)
	}
	return batch, s.persist(ctx, fmt.Sprintf("insert %d logs", len(batch)), func(ctx context.Context) error {
		_, err := s.cfg.DB.Exec(ctx, insertSQL, ids, platforms, posts, urls, metadata)
		return err
	})
}

// ownMetadata is what the publisher keeps in the row, which nobody else may touch.
func (s *Simulation) ownMetadata(log Log) map[string]any {
	return map[string]any{"simulated_run": int64(s.cfg.Run), "caption": fmt.Sprintf("№ %d “%s”", log.Index, log.Kind)}
}

// message is what a step publishes.
func (s *Simulation) message(a *actor) *nats.Msg {
	id := s.cfg.Run.logID(a.log.Index)
	step := a.log.Steps[a.step]
	if step.Do == Schedule {
		timeout := s.cfg.Plan.Timeout
		return streams.CheckSchedule(streams.Check{LogID: id, Timeout: &timeout}, time.Now().Add(timeout))
	}
	msg := nats.NewMsg(streams.WebhookSubject(a.log.Platform))
	msg.Data = []byte(s.cfg.Run.fill(step.Body, a.log))
	msg.Header.Set(headerLog, id.String())
	if step.Do == Broken {
		// Stored once, though an attempt was not answered: it is one dead letter.
		msg.Header.Set(nats.MsgIdHdr, "broken-"+id.String())
	}
	return msg
}

// send has JetStream store the messages; what is not stored is sent again. A webhook may be stored twice then,
// as it may by ingestors who do the same.
func (s *Simulation) send(ctx context.Context, batch []*actor) ([]*actor, error) {
	unsent := batch
	return batch, s.persist(ctx, fmt.Sprintf("publish %d messages", len(batch)), func(ctx context.Context) error {
		futures := make([]jetstream.PubAckFuture, 0, len(unsent))
		var failed []*actor
		var trouble error
		for i, a := range unsent {
			future, err := s.cfg.JS.PublishMsgAsync(s.message(a))
			if err != nil {
				failed, trouble = append(failed, unsent[i:]...), err
				break
			}
			futures = append(futures, future)
		}
		for i, future := range futures {
			select {
			case ack := <-future.Ok():
				s.stored(ack)
			case err := <-future.Err():
				failed, trouble = append(failed, unsent[i]), fmt.Errorf("%s: %w", future.Msg().Subject, err)
			case <-ctx.Done():
				failed, trouble = append(failed, unsent[i]), context.Cause(ctx)
			}
		}
		unsent = failed
		return trouble
	})
}

// stored remembers how far the webhooks' stream has to be acknowledged.
func (s *Simulation) stored(ack *jetstream.PubAck) {
	if ack.Stream != streams.StreamWebhooks {
		return
	}
	for {
		last := s.webhooks.Load()
		if ack.Sequence <= last || s.webhooks.CompareAndSwap(last, ack.Sequence) {
			return
		}
	}
}
