package repo_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"publish-reconciler/reconciler"
	"publish-reconciler/repo"
)

func (w *world) view(id uuid.UUID) reconciler.View {
	w.Helper()
	view, err := w.store.View(w.Context(), id)
	if err != nil {
		w.Fatal(err)
	}
	return view
}

// list returns the external_post_id of each log of a page, and whether there are more.
func (w *world) list(filter reconciler.Filter) (posts []string, more bool) {
	w.Helper()
	rows, more, err := w.store.List(w.Context(), filter)
	if err != nil {
		w.Fatalf("list %+v: %v", filter, err)
	}
	posts = []string{}
	for _, row := range rows {
		posts = append(posts, *row.ExternalPostID)
	}
	return posts, more
}

// tell writes a ledger event, age ago.
func (w *world) tell(log uuid.UUID, eventType, metadata string, age time.Duration) uuid.UUID {
	w.Helper()
	id := uuid.Must(uuid.NewV7())
	w.exec(`INSERT INTO ledger_events (id, timestamp, event_type, severity, entity_type, entity_id, metadata)
	        VALUES ($1, now() - $5::interval, $2, 'warn', 'publish_log', $3, $4::jsonb)`, id, eventType, log.String(), metadata, age)
	return id
}

var listedAt = time.Date(2024, 1, 15, 10, 30, 0, 0, time.UTC)

// listed inserts a log that was created n minutes after listedAt.
func (w *world) listed(n int, platform, status, metadata string) uuid.UUID {
	w.Helper()
	id := uuid.Must(uuid.NewV7())
	w.exec(`INSERT INTO publish_logs (id, platform, status, external_post_id, extra_metadata, created_at)
	        VALUES ($1, $2, $3, $4, $5::jsonb, $6)`,
		id, platform, status, fmt.Sprintf("post_%d", n), metadata, listedAt.Add(time.Duration(n)*time.Minute))
	return id
}

func TestViewOfARow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(`INSERT INTO publish_logs VALUES ('00000000-0000-7000-8000-000000000001', '00000000-0000-7000-8000-000000000002',
		'instagram', '00000000-0000-7000-8000-000000000003', 'failed', 'ig_1', 'https://instagram.com/p/1', 'Video too long',
		'2024-01-15 10:30:00Z', '2024-01-15 10:31:00Z', 1, 3, '2024-01-15 10:32:00Z',
		'{"reconciliation_reason": "webhook_rejected"}', '2024-01-15 10:33:00Z', '2024-01-15 10:34:00Z')`)
	at := func(n int) *time.Time { return new(listedAt.Add(time.Duration(n) * time.Minute)) }
	want := reconciler.Row{
		ID:       uuid.MustParse("00000000-0000-7000-8000-000000000001"),
		ClipID:   new("00000000-0000-7000-8000-000000000002"),
		Platform: "instagram", SocialAccountID: new("00000000-0000-7000-8000-000000000003"),
		Status: reconciler.StatusFailed, ExternalPostID: new("ig_1"), ExternalURL: new("https://instagram.com/p/1"),
		ErrorMessage: new("Video too long"), RequestedAt: at(0), PublishedAt: at(1), RetryCount: 1, MaxRetries: 3,
		LastRetryAt: at(2), ExtraMetadata: json.RawMessage(`{"reconciliation_reason": "webhook_rejected"}`),
		CreatedAt: at(3), UpdatedAt: at(4), Reason: reconciler.ReasonWebhookRejected,
	}

	view := w.view(want.ID)
	equal(t, "row", view.Row, want)
	equal(t, "history", view.History, []reconciler.HistoryEvent{})
	if age := one[time.Time](w, `SELECT now()`).Sub(view.Now); age < 0 || age > soon {
		t.Errorf("now is %s, %s ago", view.Now, age)
	}
	equal(t, "zone", view.Now.Location().String(), "UTC")

	rows, more, err := w.store.List(t.Context(), reconciler.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "listed", rows, []reconciler.Row{want})
	equal(t, "more", more, false)
}

func TestViewOfAHistory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.publish("tiktok", "same", "processing", time.Hour)
	other := w.publish("tiktok", "other", "processing", time.Hour)
	// Of two at the same time the larger id is the later.
	late := w.tell(id, "publish_reconciled", `{"reason": "webhook_timeout"}`, time.Minute)
	early := w.tell(id, "publish_webhook_received", `{"webhook_status": "in_review"}`, time.Hour)
	w.exec(`UPDATE ledger_events SET timestamp = date_trunc('minute', timestamp)`)
	w.exec(`INSERT INTO ledger_events SELECT '00000000-0000-7000-8000-000000000001', timestamp, 'publish_reconcile_skipped', 'info',
		'publish_log', entity_id, '{}' FROM ledger_events WHERE id = $1`, late)
	w.tell(other, "publish_reconciled", `{}`, 0)
	w.exec(`INSERT INTO ledger_events (event_type, entity_type, entity_id) VALUES ('clip_made', 'clip', $1)`, id.String())

	history := w.view(id).History
	var ids []uuid.UUID
	for _, event := range history {
		ids = append(ids, event.ID)
	}
	equal(t, "ids", ids, []uuid.UUID{early, uuid.MustParse("00000000-0000-7000-8000-000000000001"), late})
	equal(t, "the first event", history[0], reconciler.HistoryEvent{
		ID: early, Timestamp: one[time.Time](w, `SELECT timestamp FROM ledger_events WHERE id = $1`, early).UTC(),
		Type: reconciler.EventWebhookReceived, Severity: reconciler.SeverityWarn, Metadata: json.RawMessage(`{"webhook_status": "in_review"}`),
	})
}

func TestViewKeepsTheNewestOfALongHistory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.publish("tiktok", "x", "processing", 0)
	w.exec(`INSERT INTO ledger_events (timestamp, event_type, entity_type, entity_id, metadata)
	        SELECT now() - n * interval '1 second', 'publish_webhook_received', 'publish_log', $1, jsonb_build_object('n', n)
	          FROM generate_series(1, 1200) n`, id.String())
	history := w.view(id).History
	equal(t, "events", len(history), 1000)
	equal(t, "the first", string(history[0].Metadata), `{"n": 1000}`)
	equal(t, "the last", string(history[999].Metadata), `{"n": 1}`)
}

func TestViewCountsTheParkedWebhooksOfThePost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, none := w.publish("tiktok", "x", "processing", 0), w.publish("tiktok", "y", "processing", 0)
	w.exec(`INSERT INTO parked_webhooks SELECT gen_random_uuid(), platform, 'x', '{}', now()
	        FROM unnest(ARRAY['tiktok', 'tiktok', 'instagram']) platform`)
	equal(t, "parked", w.view(id).Parked, 2)
	equal(t, "parked for another post", w.view(none).Parked, 0)
}

func TestViewOfNoLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish("tiktok", "x", "processing", 0)
	for range 2 { // the connection stays fit for use
		if _, err := w.store.View(t.Context(), uuid.New()); !errors.Is(err, reconciler.ErrNotFound) {
			t.Errorf("error %v, want ErrNotFound", err)
		}
	}
	equal(t, "connections", len(w.backends(`true`)), 1)
}

func TestViewIsOfOneMoment(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.publish("tiktok", "x", "processing", 0)
	// Whoever reads the ledger waits, while the log is closed.
	release := w.hold(`LOCK TABLE ledger_events IN ACCESS EXCLUSIVE MODE`)
	defer release()
	done := make(chan reconciler.View)
	go func() {
		view, err := w.store.View(t.Context(), id)
		if err != nil {
			t.Error(err)
		}
		done <- view
	}()
	w.waiting(1)
	w.exec(`INSERT INTO parked_webhooks VALUES (gen_random_uuid(), 'tiktok', 'x', '{}', now())`)
	release()
	equal(t, "parked meanwhile", (<-done).Parked, 0)
}

// TestViewsOfPublishersRows: of their own table only the ids are sure, and times may be of the other type.
func TestViewsOfPublishersRows(t *testing.T) {
	t.Parallel()
	w := emptyWorld(t)
	w.exec(`CREATE TABLE publish_logs (id uuid PRIMARY KEY, clip_id bigint, platform varchar(40), social_account_id varchar(40),
		status varchar(20), external_post_id varchar(80), external_url varchar(200), error_message varchar(200),
		requested_at timestamp, published_at timestamptz, retry_count smallint, max_retries bigint, last_retry_at timestamptz,
		extra_metadata jsonb, created_at timestamp, updated_at timestamptz)`)
	w.exec(`CREATE TABLE ledger_events ("timestamp" timestamptz, id uuid, event_type varchar(80), severity varchar(8),
		entity_type varchar(20), entity_id varchar(64), metadata jsonb)`)
	w.url = withParam(w.url, "timezone=UTC")
	w.migrate()
	w.store = openStore(t, repo.Config{URL: w.url})
	id := func(n int) uuid.UUID { return uuid.UUID{15: byte(n)} }
	w.exec(`INSERT INTO publish_logs VALUES
		($1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
		($2, 7, 'tiktok', 'ana', 'failed', 'x', '', '', '2024-01-15 10:30:00', NULL, 1, 2, NULL, '[1]', '2024-01-15 10:30:00', '20240-01-15 10:30:00Z'),
		($3, NULL, 'tiktok', NULL, 'archived', NULL, NULL, NULL, 'infinity', 'infinity', 0, 0, '-infinity', 'null', '-infinity', '0044-03-15 BC'),
		($4, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)`,
		id(1), id(2), id(3), id(4))
	w.exec(`INSERT INTO ledger_events (entity_type, entity_id) VALUES ('publish_log', $1)`, id(1).String())

	empty := json.RawMessage(`{}`)
	want := map[uuid.UUID]reconciler.Row{
		id(1): {ID: id(1), ExtraMetadata: empty},
		id(2): {
			ID: id(2), ClipID: new("7"), Platform: "tiktok", SocialAccountID: new("ana"), Status: "failed",
			ExternalPostID: new("x"), ExternalURL: new(""), ErrorMessage: new(""), RequestedAt: new(listedAt), RetryCount: 1,
			MaxRetries: 2, ExtraMetadata: json.RawMessage(`[1]`), CreatedAt: new(listedAt),
		},
		id(3): {ID: id(3), Platform: "tiktok", Status: "archived", ExtraMetadata: json.RawMessage(`null`)},
		id(4): {ID: id(4), ExtraMetadata: empty},
	}
	for id, row := range want {
		view := w.view(id)
		equal(t, "row", view.Row, row)
		if _, err := json.Marshal(view); err != nil {
			t.Error(err)
		}
	}
	equal(t, "an event of nulls", w.view(id(1)).History, []reconciler.HistoryEvent{{Metadata: empty}})

	var listed []uuid.UUID
	var before uuid.UUID
	for more := true; more; before = listed[len(listed)-1] {
		var rows []reconciler.Row
		var err error
		if rows, more, err = w.store.List(t.Context(), reconciler.Filter{BeforeID: before, Limit: 1}); err != nil {
			t.Fatal(err)
		}
		equal(t, "listed", rows, []reconciler.Row{want[rows[0].ID]})
		listed = append(listed, rows[0].ID)
	}
	equal(t, "the order", listed, []uuid.UUID{id(2), id(4), id(3), id(1)})
	rows, _, err := w.store.List(t.Context(), reconciler.Filter{Before: listedAt, Status: "archived"})
	if err != nil || len(rows) != 1 || rows[0].ID != id(3) {
		t.Errorf("archived: %v, %v", rows, err)
	}
}

func TestListPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	// Three of each minute, so that pages end between logs of the same time.
	for i := range 30 {
		w.listed(i/3, "instagram", "success", "{}")
	}
	want := column[uuid.UUID](w, `SELECT id FROM publish_logs ORDER BY created_at DESC, id DESC`)
	stores := map[string]*repo.Store{
		"by index":        w.store,
		"without indexes": openStore(t, repo.Config{URL: withParam(w.url, "enable_indexscan=off&enable_bitmapscan=off")}),
	}
	for how, store := range stores {
		for _, limit := range []int{1, 2, 7, 30, 31} {
			var got []uuid.UUID
			filter, pages := reconciler.Filter{Limit: limit}, 0
			for more := true; more; pages++ {
				rows, further, err := store.List(t.Context(), filter)
				if err != nil {
					t.Fatal(err)
				}
				for _, row := range rows {
					got = append(got, row.ID)
				}
				more, filter.BeforeID = further, got[len(got)-1]
				if pages == 1 {
					w.listed(60, "instagram", "success", "{}") // what is new moves no page
				}
			}
			w.exec(`DELETE FROM publish_logs WHERE external_post_id = 'post_60'`)
			equal(t, fmt.Sprintf("ids by %d, %s", limit, how), got, want)
			equal(t, fmt.Sprintf("pages of %d, %s", limit, how), pages, (30+limit-1)/limit)
		}
	}
	rows, more, err := w.store.List(t.Context(), reconciler.Filter{Before: listedAt.Add(2 * time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "before a moment", len(rows), 6)
	equal(t, "more", more, false)
	last := want[len(want)-1]
	rows, more, err = w.store.List(t.Context(), reconciler.Filter{BeforeID: last})
	if err != nil || len(rows) > 0 || more {
		t.Errorf("beyond the last: %v, %t, %v", rows, more, err)
	}
}

func TestListLimits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publishMany(reconciler.MaxListed+1, 0)
	for limit, want := range map[int]int{0: reconciler.DefaultListed, -1: reconciler.DefaultListed, 1: 1, 500: 500, 501: 500, 1 << 40: 500} {
		posts, more := w.list(reconciler.Filter{Limit: limit})
		equal(t, fmt.Sprintf("limit %d", limit), len(posts), want)
		equal(t, fmt.Sprintf("more than %d", limit), more, true)
	}
}

func TestListFilters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(`ALTER TABLE publish_logs DROP CONSTRAINT publish_logs_status_check`)
	w.listed(1, "tiktok", "pending", `{}`)
	skipped := w.listed(2, "tiktok", "processing", `{"reconciliation_reason": "of old"}`)
	w.tell(skipped, "publish_reconciled", `{"reason": "webhook_timeout"}`, time.Hour)
	w.tell(skipped, "publish_reconcile_skipped", `{"reason": "webhook_unclear"}`, time.Minute)
	w.tell(skipped, "publish_webhook_received", `{"reason": "already_final"}`, 0)
	held := w.listed(3, "instagram", "processing", `{}`)
	w.tell(held, "publish_reconcile_skipped", `{"reason": "platform_hold"}`, time.Minute)
	retry := w.listed(4, "instagram", "retry", `{}`)
	w.tell(retry, "publish_reconciled", `{"reason": "retry_before_fail"}`, time.Minute)
	asked := w.listed(5, "instagram", "retry", `{}`)
	w.tell(asked, "publish_reconciled", `{"reason": "retry_before_fail"}`, time.Hour)
	w.tell(asked, "publish_deadline_extended", `{"reason": "probe_unclear"}`, time.Minute)
	timedOut := w.listed(6, "tiktok", "failed", `{"reconciliation_reason": "webhook_timeout"}`)
	w.tell(timedOut, "publish_reconcile_skipped", `{"reason": "webhook_unclear"}`, time.Minute)
	w.listed(7, "youtube", "success", `{"reconciliation_reason": "webhook_confirmed"}`)
	w.listed(8, "youtube", "archived", `["reconciliation_reason"]`)
	w.listed(9, "youtube", "processing", `{}`)

	tests := map[string]struct {
		filter reconciler.Filter
		want   string
	}{
		"all":                      {reconciler.Filter{}, "9 8 7 6 5 4 3 2 1"},
		"pending":                  {reconciler.Filter{Status: "pending"}, "1"},
		"processing":               {reconciler.Filter{Status: "processing"}, "9 3 2"},
		"retry":                    {reconciler.Filter{Status: "retry"}, "5 4"},
		"success":                  {reconciler.Filter{Status: "success"}, "7"},
		"failed":                   {reconciler.Filter{Status: "failed"}, "6"},
		"a status of others":       {reconciler.Filter{Status: "archived"}, "8"},
		"a status that nobody has": {reconciler.Filter{Status: "' OR true"}, ""},
		"a platform":               {reconciler.Filter{Platform: "tiktok"}, "6 2 1"},
		"skipped":                  {reconciler.Filter{Reason: "webhook_unclear"}, "2"},
		"held":                     {reconciler.Filter{Reason: "platform_hold"}, "3"},
		"retried":                  {reconciler.Filter{Reason: "retry_before_fail"}, "4"},
		"asked again":              {reconciler.Filter{Reason: "probe_unclear"}, "5"},
		"failed by timeout":        {reconciler.Filter{Reason: "webhook_timeout"}, "6"},
		"what was":                 {reconciler.Filter{Reason: "of old"}, ""},
		"all at once": {reconciler.Filter{
			Status: "processing", Platform: "tiktok", Reason: "webhook_unclear", Before: listedAt.Add(time.Hour), BeforeID: held, Limit: 1,
		}, "2"},
		"two beginnings": {reconciler.Filter{Before: listedAt.Add(3 * time.Minute), BeforeID: timedOut}, "2 1"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			posts, more := w.list(tt.filter)
			got := strings.ReplaceAll(strings.Join(posts, " "), "post_", "")
			equal(t, "posts", got, tt.want)
			equal(t, "more", more, false)
		})
	}
}

func TestListTellsTheReason(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	open := w.listed(1, "tiktok", "processing", `{"reconciliation_reason": "of old"}`)
	w.tell(open, "publish_reconcile_skipped", `{"reason": "webhook_unclear"}`, time.Minute)
	w.listed(2, "tiktok", "success", `{"reconciliation_reason": "webhook_late"}`)
	w.listed(3, "tiktok", "processing", `{"reconciliation_reason": "of old"}`)
	rows, _, err := w.store.List(t.Context(), reconciler.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	var reasons []reconciler.Reason
	for _, row := range rows {
		reasons = append(reasons, row.Reason)
	}
	equal(t, "reasons", reasons, []reconciler.Reason{"", reconciler.ReasonWebhookLate, reconciler.ReasonWebhookUnclear})
	equal(t, "in a view", w.view(open).Reason, reconciler.ReasonWebhookUnclear)
}

func TestListBeforeALogThatIsNotThere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish("tiktok", "x", "processing", 0)
	_, _, err := w.store.List(t.Context(), reconciler.Filter{BeforeID: uuid.New()})
	if !errors.Is(err, reconciler.ErrNotFound) {
		t.Errorf("error %v, want ErrNotFound", err)
	}
}

func TestListRefusesWhatPostgresCannotHold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, filter := range []reconciler.Filter{{Platform: "\x00"}, {Reason: "\xff"}, {Status: "\x00"}} {
		if _, _, err := w.store.List(t.Context(), filter); !errors.Is(err, reconciler.ErrRefused) {
			t.Errorf("%s: error %v, want ErrRefused", strconv.Quote(fmt.Sprint(filter)), err)
		}
	}
}

func TestReadingHasATimeLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.publish("tiktok", "x", "processing", 0)
	store := openStore(t, repo.Config{URL: withParam(w.url, "lock_timeout="+soon.String()), Timeout: 200 * time.Millisecond})
	defer w.hold(`LOCK TABLE ledger_events IN ACCESS EXCLUSIVE MODE`)()
	_, viewErr := store.View(t.Context(), id)
	_, _, listErr := store.List(t.Context(), reconciler.Filter{})
	got := []string{fmt.Sprint(viewErr), fmt.Sprint(listErr)}
	equal(t, "errors", got, []string{
		"read a log and its history: no answer from postgres within 200ms", "list logs: no answer from postgres within 200ms",
	})
}

func TestMigrateRefusesTimesThatAreNone(t *testing.T) {
	t.Parallel()
	w := emptyWorld(t)
	w.exec(`CREATE TABLE publish_logs (id uuid PRIMARY KEY, platform text, status text, created_at bigint DEFAULT 0, requested_at text DEFAULT '')`)
	err := migrate(t.Context(), w.url)
	const want = "existing tables do not fit: publish_logs.created_at is bigint, must be timestamp with time zone; " +
		"publish_logs.requested_at is text, must be timestamp with time zone"
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v\nwant %s", err, want)
	}
	equal(t, "indexes", slices.Contains(w.indexes("publish_logs"), "publish_logs_created_idx"), false)
}
