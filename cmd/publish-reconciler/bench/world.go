package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"publish-reconciler/repo"
	"publish-reconciler/streams"
)

// world is a database and streams that are new.
type world struct {
	cfg      Config
	name     string // of the database
	database string
	natsURL  string
	db       *pgxpool.Pool
	nc       *nats.Conn
	js       jetstream.JetStream
	services []*service
	posts    int           // that there are
	told     time.Duration // see confirm
}

func newWorld(ctx context.Context, cfg Config, name string) (_ *world, err error) {
	w := &world{cfg: cfg, name: name, natsURL: cfg.NATS.URL()}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close(ctx))
		}
	}()
	if err := cfg.Postgres.CreateDatabase(ctx, name); err != nil {
		return nil, err
	}
	w.database = cfg.Postgres.URL(name)
	if _, err := repo.Migrate(ctx, w.database); err != nil {
		return nil, err
	}
	if w.db, err = pgxpool.New(ctx, w.database); err != nil {
		return nil, err
	}
	return w, w.connect(ctx, 1)
}

// connect makes the streams anew at the world's NATS.
func (w *world) connect(ctx context.Context, replicas int) (err error) {
	if w.nc, err = nats.Connect(w.natsURL); err != nil {
		return err
	}
	if w.js, err = jetstream.New(w.nc, jetstream.WithPublishAsyncMaxPending(publishAhead)); err != nil {
		return err
	}
	return streams.Ensure(ctx, w.js, streams.Config{Replicas: replicas})
}

// publishAhead is how many messages are on their way at once, half of what JetStream takes by default.
const publishAhead = 2000

func (w *world) close(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	for _, s := range w.services {
		err = errors.Join(err, s.stop())
	}
	if w.js != nil {
		for _, stream := range streams.Streams(1) {
			err = errors.Join(err, w.js.DeleteStream(ctx, stream.Name))
		}
	}
	if w.nc != nil {
		w.nc.Close()
	}
	if w.db != nil {
		w.db.Close()
		err = errors.Join(err, w.drop(ctx))
	}
	return err
}

// drop is for the lines that follow: autovacuum would look after what is left.
func (w *world) drop(ctx context.Context) error {
	return w.asAdmin(ctx, `DROP DATABASE `+w.name+` WITH (FORCE)`)
}

func (w *world) asAdmin(ctx context.Context, sql string) error {
	conn, err := pgx.Connect(ctx, w.cfg.Postgres.AdminURL("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx) //nolint:errcheck // what counts is told by the statement
	_, err = conn.Exec(ctx, sql)
	return err
}

// scale is a number of logs: as it is, or a fraction of it where a quick look is wanted.
func (w *world) scale(n, quick int) int {
	if w.cfg.Quick {
		return quick
	}
	return n
}

func (w *world) exec(ctx context.Context, sql string, args ...any) error {
	_, err := w.db.Exec(ctx, sql, args...)
	return err
}

// platforms take turns, as SQL and as what their webhooks say.
const platformSQL = `(ARRAY['instagram', 'tiktok', 'youtube'])[1 + n % 3]`

var platforms = []struct{ name, webhook string }{
	{"instagram", `{"external_post_id":"%s","media_url":"https://instagram.com/p/%[1]s/","status":"published","timestamp":"2024-01-15T10:30:00Z"}`},
	{"tiktok", `{"external_post_id":"%s","task_id":"task_%[1]s","complete":true,"video_url":"https://www.tiktok.com/@user/video/%[1]s"}`},
	{"youtube", `{"external_post_id":"%s","videoId":"%[1]s","publishAt":"2024-01-15T10:30:00Z","status":"published"}`},
}

// insert adds logs of new posts as publishers do, and tidies up. The posts are from, from+1, …
func (w *world) insert(ctx context.Context, n int, status string, age time.Duration) (from int, err error) {
	const lot = 100_000
	from = w.posts
	for end := from + n; w.posts < end; w.posts += min(lot, end-w.posts) {
		err := w.exec(ctx, `
			INSERT INTO publish_logs (clip_id, social_account_id, platform, status, external_post_id, extra_metadata, created_at, updated_at)
			SELECT gen_random_uuid(), gen_random_uuid(), `+platformSQL+`, $3, 'post_' || n, '{"caption":"Look at this"}', now() - $4::interval, now() - $4::interval
			  FROM generate_series($1::int, $1 + $2 - 1) n`, w.posts, min(lot, end-w.posts), status, age)
		if err != nil {
			return from, err
		}
	}
	return from, w.settled(ctx)
}

// settled has Postgres tidy up after many rows were written, so that it doesn't meanwhile.
func (w *world) settled(ctx context.Context) error {
	return w.exec(ctx, `VACUUM (ANALYZE) publish_logs, ledger_events`)
}

// publish stores n messages.
func (w *world) publish(n int, message func(i int) *nats.Msg) error {
	for i := range n {
		if _, err := w.js.PublishMsgAsync(message(i), jetstream.WithStallWait(time.Minute)); err != nil {
			return err
		}
	}
	select {
	case <-w.js.PublishAsyncComplete():
		return nil
	case <-time.After(time.Minute):
		return errors.New("jetstream stores no more messages")
	}
}

// webhook is the message about a post.
func webhook(post int) *nats.Msg {
	platform := platforms[post%len(platforms)]
	msg := nats.NewMsg(streams.WebhookSubject(platform.name))
	msg.Data = fmt.Appendf(nil, platform.webhook, fmt.Sprint("post_", post))
	return msg
}

// ids are those of the logs with a status.
func (w *world) ids(ctx context.Context, status string) ([]string, error) {
	rows, err := w.db.Query(ctx, `SELECT id::text FROM publish_logs WHERE status = $1`, status)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// ends wants that n logs have a status and reason in the end.
func (w *world) ends(ctx context.Context, n int, status, reason string) error {
	var found int
	err := w.db.QueryRow(ctx, `SELECT count(*) FROM publish_logs WHERE status = $1 AND extra_metadata->>'reconciliation_reason' = $2`, status, reason).Scan(&found)
	if err == nil && found != n {
		err = fmt.Errorf("%d logs are %s by %s, must be %d", found, status, reason, n)
	}
	return err
}

// service is a running publish-reconciler.
type service struct {
	cmd   *exec.Cmd
	ended chan struct{}
	took  time.Duration // until it was ready

	mu   sync.Mutex
	said []string
}

// start runs the service and returns once it is ready.
func (w *world) start(ctx context.Context, flags ...string) (*service, error) {
	args := append([]string{
		"run", "--nats-url=" + w.natsURL, "--database-url=" + w.database, "--http-addr=127.0.0.1:0",
		"--log-format=json", "--default-timeout=8760h",
	}, flags...)
	s := &service{cmd: exec.Command(w.cfg.Program, args...), ended: make(chan struct{})} //nolint:noctx // it is stopped by a signal
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	w.services = append(w.services, s)
	ready := make(chan struct{})
	go func() {
		defer close(s.ended)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			s.hear(lines.Text(), ready)
		}
		_ = s.cmd.Wait() // what it said tells why
	}()
	select {
	case <-ready:
		s.took = time.Since(began)
		return s, nil
	case <-s.ended:
		return nil, fmt.Errorf("the service ended: %s", s.words())
	case <-time.After(time.Minute):
		return nil, fmt.Errorf("the service is not ready within a minute: %s", s.words())
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *service) hear(text string, ready chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said = append(s.said, text)
	var said struct{ Msg string }
	if json.Unmarshal([]byte(text), &said) == nil && said.Msg == "ready" {
		close(ready)
	}
}

func (s *service) words() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.said, "\n")
}

func (s *service) stop() error {
	_ = s.cmd.Process.Signal(syscall.SIGTERM) // it fails where it has ended
	select {
	case <-s.ended:
		return nil
	case <-time.After(20 * time.Second):
		return errors.Join(errors.New("the service does not stop"), s.cmd.Process.Kill())
	}
}

// pause has a consumer deliver nothing until the function it returns is called, which returns once it delivers again.
func (w *world) pause(ctx context.Context, stream, consumer string) (goOn func() (time.Time, error), err error) {
	if _, err := w.js.PauseConsumer(ctx, stream, consumer, time.Now().Add(time.Hour)); err != nil {
		return nil, fmt.Errorf("pause %s: %w", consumer, err)
	}
	c, err := w.js.Consumer(ctx, stream, consumer)
	if err != nil {
		return nil, err
	}
	return func() (time.Time, error) {
		before := c.CachedInfo().Delivered.Consumer
		if _, err := w.js.ResumeConsumer(ctx, stream, consumer); err != nil {
			return time.Time{}, err
		}
		err := w.until(ctx, consumer+" is delivered to", func() (bool, error) {
			info, err := c.Info(ctx)
			return err == nil && info.Delivered.Consumer > before, err
		})
		return time.Now(), err
	}, nil
}

// drained returns once a consumer has all messages acknowledged.
func (w *world) drained(ctx context.Context, stream, consumer string) error {
	c, err := w.js.Consumer(ctx, stream, consumer)
	if err != nil {
		return err
	}
	return w.until(ctx, consumer+" is done", func() (bool, error) {
		info, err := c.Info(ctx)
		return err == nil && info.NumPending == 0 && info.NumAckPending == 0, err
	})
}

// until looks often, but not so often that looking counts.
func (*world) until(ctx context.Context, what string, is func() (bool, error)) error {
	const longest = 10 * time.Minute
	for deadline := time.Now().Add(longest); time.Now().Before(deadline); {
		ok, err := is()
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			ok, err = false, nil // a server that has much to do answers late
		}
		if ok || err != nil {
			return err
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return fmt.Errorf("%s: not within %s", what, longest)
}
