package repo_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"publish-reconciler/reconciler"
)

func TestWhatDecideSees(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.publish("instagram", "ig_1", "retry", time.Hour)
	w.exec(`UPDATE publish_logs SET external_url = 'https://x.example/', retry_count = 2, max_retries = 5,
	               extra_metadata = '{"webhook_received": true, "views": 12}', updated_at = '2024-01-15 10:30:00Z'`)
	byID := w.lock(logIDs(id))
	byPost := w.lock(reconciler.Keys{Posts: []reconciler.Post{
		{Platform: "instagram", ExternalPostID: "ig_1"},
		{Platform: "tiktok", ExternalPostID: "ig_1"},
	}})
	for name, locked := range map[string]reconciler.Locked{"by id": byID, "by post": byPost} {
		if len(locked.Logs) != 1 {
			t.Fatalf("%s: %d logs, want 1", name, len(locked.Logs))
		}
		got := locked.Logs[0]
		equal(t, name+": number", got.Metadata["views"], any(json.Number("12")))
		got.Metadata, got.UpdatedAt = nil, got.UpdatedAt.UTC()
		equal(t, name, got, reconciler.LockedLog{Log: reconciler.Log{
			ID: id, Post: reconciler.Post{Platform: "instagram", ExternalPostID: "ig_1"},
			Status: reconciler.StatusRetry, ExternalURL: "https://x.example/", RetryCount: 2, MaxRetries: 5,
			UpdatedAt: time.Date(2024, 1, 15, 10, 30, 0, 0, time.UTC),
		}})
	}
}

func TestNowIsTheTransactions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.publish("instagram", "ig_1", "processing", time.Hour)
	var now time.Time
	w.transact(logIDs(id), func(locked reconciler.Locked) reconciler.Changes {
		now = locked.Now
		return reconciler.Changes{
			Rows:   []reconciler.RowChange{{LogID: id, Status: "retry", Published: true, Retried: true}},
			Ledger: []reconciler.Event{{ID: uuid.New(), LogID: id, Type: "t", Severity: "info"}},
		}
	})
	for _, sql := range []string{
		`SELECT updated_at FROM publish_logs`, `SELECT published_at FROM publish_logs`,
		`SELECT last_retry_at FROM publish_logs`, `SELECT timestamp FROM ledger_events`,
	} {
		if at := one[time.Time](w, sql); !at.Equal(now) {
			t.Errorf("%s is %s, Locked.Now was %s", sql, at, now)
		}
	}
	after, err := w.store.Now(t.Context())
	if err != nil || after.Before(now) || after.Sub(now) > time.Minute {
		t.Errorf("now is %s, %v; it was %s", after, err, now)
	}
}

func TestNothingDecidedWritesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.publish("instagram", "ig_1", "processing", time.Hour)
	other := w.publish("instagram", "ig_2", "processing", time.Hour)
	before, otherBefore := w.version(id), w.version(other)
	w.lock(logIDs(id, other))
	equal(t, "version", w.version(id), before)
	w.transact(logIDs(id, other), write(reconciler.RowChange{LogID: other, Status: "failed"}))
	equal(t, "version beside one that changed", w.version(id), before)
	if w.version(other) == otherBefore {
		t.Error("the other one did not change")
	}
}

func TestMetadataIsMerged(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		found any
		want  string
	}{
		"null":             {nil, `{"a": 1, "n": null}`},
		"null of JSON":     {"null", `{"a": 1, "n": null}`},
		"array":            {`["webhook_received"]`, `{"a": 1, "n": null}`},
		"string":           {`"webhook_received"`, `{"a": 1, "n": null}`},
		"number":           {`7`, `{"a": 1, "n": null}`},
		"keys of others":   {`{"b": {"c": [2]}}`, `{"a": 1, "b": {"c": [2]}, "n": null}`},
		"the same key":     {`{"a": {"b": 2}, "n": 3}`, `{"a": 1, "n": null}`},
		"evidence already": {`{"webhook_received": true}`, `{"a": 1, "n": null, "webhook_received": true}`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.exec(`ALTER TABLE publish_logs ALTER COLUMN extra_metadata DROP NOT NULL`)
			id := w.publish("instagram", "ig_1", "processing", time.Hour)
			w.exec(`UPDATE publish_logs SET extra_metadata = $1::text::jsonb`, tt.found)
			w.transact(logIDs(id), func(locked reconciler.Locked) reconciler.Changes {
				if got := locked.Logs[0].Metadata; len(got) > 0 && name != "evidence already" {
					t.Errorf("decide sees %v", got)
				}
				return reconciler.Changes{Rows: []reconciler.RowChange{{
					LogID: id, Status: "processing", Metadata: map[string]any{"a": 1, "n": nil},
				}}}
			})
			equal(t, "metadata", w.row(id).Metadata, object(t, tt.want))
		})
	}
}

func TestRowChanges(t *testing.T) {
	t.Parallel()
	text := func(s string) *string { return &s }
	before := row{Status: "processing", URL: "https://old.example/", Error: "old", Published: false, Retries: 1, Metadata: map[string]any{}}
	with := func(change func(*row)) row {
		r := before
		change(&r)
		return r
	}
	tests := map[string]struct {
		prepare string
		change  reconciler.RowChange
		want    row
	}{
		"status alone": {``, reconciler.RowChange{Status: "retry"}, with(func(r *row) { r.Status = "retry" })},
		"success": {
			``,
			reconciler.RowChange{Status: "success", Error: text(""), Published: true, ExternalURL: "https://new.example/"},
			with(func(r *row) { r.Status, r.Error, r.Published = "success", "", true }),
		},
		"success fills an empty url": {
			`UPDATE publish_logs SET external_url = ''`,
			reconciler.RowChange{Status: "success", ExternalURL: "https://new.example/"},
			with(func(r *row) { r.Status, r.URL = "success", "https://new.example/" }),
		},
		"success fills a url that is null": {
			`UPDATE publish_logs SET external_url = NULL`,
			reconciler.RowChange{Status: "success", ExternalURL: "https://new.example/"},
			with(func(r *row) { r.Status, r.URL = "success", "https://new.example/" }),
		},
		"success without a url": {
			`UPDATE publish_logs SET external_url = NULL`,
			reconciler.RowChange{Status: "success"},
			with(func(r *row) { r.Status, r.URL = "success", "" }),
		},
		"failure": {
			``,
			reconciler.RowChange{Status: "failed", Error: text("No webhook")},
			with(func(r *row) { r.Status, r.Error = "failed", "No webhook" }),
		},
		"retry": {
			``,
			reconciler.RowChange{Status: "retry", Retried: true, RetryCount: 2},
			with(func(r *row) { r.Status, r.Retries, r.Retried = "retry", 2, true }),
		},
		"a retry count that is not to be written": {
			``,
			reconciler.RowChange{Status: "retry", RetryCount: 9},
			with(func(r *row) { r.Status = "retry" }),
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			id := w.publish("instagram", "ig_1", "processing", time.Hour)
			neighbour := w.publish("instagram", "ig_2", "processing", time.Hour)
			untouched := w.version(neighbour)
			w.exec(`UPDATE publish_logs SET external_url = 'https://old.example/', error_message = 'old', retry_count = 1 WHERE id = $1`, id)
			if tt.prepare != "" {
				w.exec(tt.prepare+` WHERE id = $1`, id)
			}
			old := w.version(id)
			tt.change.LogID = id
			w.transact(logIDs(id), write(tt.change))
			equal(t, "row", w.row(id), tt.want)
			if w.version(id) == old {
				t.Error("updated_at is as before")
			}
			equal(t, "neighbour", w.version(neighbour), untouched)
		})
	}
	t.Run("success clears the error with null", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		id := w.publish("instagram", "ig_1", "processing", time.Hour)
		w.transact(logIDs(id), write(reconciler.RowChange{LogID: id, Status: "success", Error: text("")}))
		equal(t, "null", one[bool](w, `SELECT error_message IS NULL FROM publish_logs`), true)
	})
}

func parked(post string, text string, received time.Time) reconciler.ParkedWebhook {
	return reconciler.ParkedWebhook{
		ID:         uuid.NewSHA1(uuid.Nil, []byte(post+text)),
		Post:       reconciler.Post{Platform: "instagram", ExternalPostID: post},
		Fields:     map[string]any{"text": text},
		ReceivedAt: received.UTC(),
	}
}

func TestParkedWebhooks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	at := time.Date(2024, 1, 15, 10, 30, 0, 0, time.UTC)
	third, first, second := parked("ig_1", "third", at.Add(2*time.Second)), parked("ig_1", "first", at), parked("ig_1", "second", at.Add(time.Second))
	stranger := parked("ig_2", "other post", at)
	all := []reconciler.ParkedWebhook{third, first, second, stranger}
	for range 2 {
		w.transact(logIDs(), decided(reconciler.Changes{Park: all}))
	}
	w.transact(logIDs(), decided(reconciler.Changes{Park: []reconciler.ParkedWebhook{first, first}}))
	equal(t, "parked", one[int](w, `SELECT count(*) FROM parked_webhooks`), 4)

	named := w.publish("instagram", "ig_1", "processing", 0)
	sibling := w.publish("instagram", "ig_1", "success", 0)
	w.publish("tiktok", "ig_1", "processing", 0)
	alone := w.publish("instagram", "ig_3", "processing", 0)
	w.publish("instagram", "ig_3", "processing", 0)

	locked := w.lock(logIDs(alone, named))
	equal(t, "locked with the siblings of a post that has something parked", lockedIDs(locked), []uuid.UUID{named, sibling, alone})
	for i, want := range [][]reconciler.ParkedWebhook{{first, second, third}, {first, second, third}, nil} {
		got := slices.Clone(locked.Logs[i].Parked)
		for j := range got {
			got[j].ReceivedAt = got[j].ReceivedAt.UTC()
		}
		equal(t, "parked, oldest first", got, want)
	}

	w.transact(logIDs(named), decided(reconciler.Changes{Unpark: []uuid.UUID{first.ID, third.ID, uuid.New()}}))
	equal(t, "left", column[uuid.UUID](w, `SELECT id FROM parked_webhooks ORDER BY received_at, external_post_id`),
		[]uuid.UUID{stranger.ID, second.ID})
}

func TestPagingParkedWebhooks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	want := map[uuid.UUID]bool{}
	webhooks := make([]reconciler.ParkedWebhook, 0, 25)
	for i := range 25 {
		post := "ig_" + string(rune('a'+i))
		webhooks = append(webhooks, parked(post, "x", time.Now()))
		if i%2 == 0 { // every other one still has no log
			want[w.publish("instagram", post, "processing", 0)] = true
			want[w.publish("instagram", post, "success", 0)] = true
		}
	}
	webhooks = append(webhooks, parked("ig_a", "once more", time.Now()), parked("ig_a", "and again", time.Now()))
	w.transact(logIDs(), decided(reconciler.Changes{Park: webhooks}))

	logs, _, err := w.store.ParkedLogs(t.Context(), uuid.Nil, 100)
	if err != nil || len(logs) != len(want) {
		t.Errorf("%d logs in one page, %v; want each of %d once", len(logs), err, len(want))
	}
	got, pages := map[uuid.UUID]bool{}, 0
	for after := uuid.Nil; pages < 10; pages++ {
		logs, last, err := w.store.ParkedLogs(t.Context(), after, 10)
		if err != nil {
			t.Fatal(err)
		}
		if last == uuid.Nil {
			equal(t, "logs beyond the end", logs, []uuid.UUID(nil))
			break
		}
		for _, id := range logs {
			got[id] = true
		}
		after = last
	}
	equal(t, "pages", pages, 3)
	equal(t, "logs", got, want)
}
