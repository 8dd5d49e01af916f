package consumer_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"publish-reconciler/streams"
)

// badRows are rows as nobody should have written them: what is set in an open log that is silent for long.
var badRows = map[string]string{
	"metadata is an array":       `extra_metadata = '[{"webhook_status":"published"}]'`,
	"metadata is null":           `extra_metadata = NULL`,
	"metadata is JSON's null":    `extra_metadata = 'null'`,
	"metadata is text":           `extra_metadata = '"webhook_received"'`,
	"metadata is a number":       `extra_metadata = '1e400'`,
	"metadata is true":           `extra_metadata = 'true'`,
	"own keys of wrong types":    `extra_metadata = '{"webhook_received":"yes","webhook_status":{"a":1},"webhook_timestamp":[],"reconciled":"no","reconciled_at":5,"probe_status":[]}'`,
	"times that are none":        `extra_metadata = '{"webhook_received":true,"webhook_status":"in_review","webhook_timestamp":"yesterday","probe_timestamp":"tomorrow"}'`,
	"times out of range":         `extra_metadata = '{"webhook_received":true,"webhook_timestamp":"999999-01-01T00:00:00Z"}'`,
	"a number of 100,000 digits": `extra_metadata = ('{"n":1e100000}')::jsonb`,
	"metadata is deep":           `extra_metadata = (repeat('{"a":[', 1500) || repeat(']}', 1500))::jsonb`,
	"metadata is 5 MB":           `extra_metadata = jsonb_build_object('a', repeat('x', 5000000))`,
	"error is 5 MB":              `error_message = repeat('x', 5000000)`,
	"no post":                    `external_post_id = NULL`,
	"empty post":                 `external_post_id = ''`,
	"empty platform":             `platform = ''`,
	"platform with all there is": `platform = E'a.b *>\t\u0001ü'`,
	"long platform":              `platform = repeat('p', 2000)`,
	"nulls":                      `retry_count = NULL, max_retries = NULL, created_at = NULL, requested_at = NULL`,
	"negative retries":           `retry_count = -5, max_retries = -1`,
	"most retries":               `retry_count = 2147483647, max_retries = 2147483647`,
	"updated before all times":   `updated_at = '-infinity'`,
	"updated after all times":    `updated_at = 'infinity'`,
	"updated in a far year":      `updated_at = '294276-01-01'`,
	"updated before Christ":      `updated_at = '4000-01-01 BC'`,
	"created at no time":         `created_at = 'infinity', requested_at = '-infinity', published_at = 'infinity', last_retry_at = '-infinity'`,
	"finished, and open":         `published_at = now(), external_url = 'https://x'`,
}

// One bad row harms no other: whatever it is that comes for all of them.
func TestBadRowsBetweenGoodOnes(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		trigger func(w *world, posts map[string]uuid.UUID)
		want    string
		open    []string // the bad ones that stay so
	}{
		"webhooks": {func(w *world, posts map[string]uuid.UUID) {
			for post := range posts {
				w.send(webhooks, published(post))
			}
		}, "success", []string{"no post", "empty post", "empty platform", "long platform", "platform with all there is"}},
		"checks": {func(w *world, posts map[string]uuid.UUID) {
			for _, id := range posts {
				w.send(streams.CheckSubject(id), `{"timeout_minutes":0}`)
			}
		}, "failed", []string{"times that are none", "times out of range", "updated in a far year"}},
		"sweep": {func(w *world, _ map[string]uuid.UUID) { w.send(streams.SubjectSweep, "") }, "failed", []string{
			"times that are none", "times out of range", "updated in a far year",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			// As a table that was there before the service may have it.
			w.exec(`ALTER TABLE publish_logs ALTER extra_metadata DROP NOT NULL, ALTER retry_count DROP NOT NULL, ALTER max_retries DROP NOT NULL, ALTER created_at DROP NOT NULL, ALTER requested_at DROP NOT NULL`)
			posts, good := make(map[string]uuid.UUID), make(map[string]uuid.UUID)
			bad := make(map[string]uuid.UUID)
			add := func(post string) uuid.UUID {
				posts[post] = w.insertLog(post, "processing", time.Hour)
				return posts[post]
			}
			good["first"] = add("good")
			for row, set := range badRows {
				bad[row] = add(row)
				w.exec(`UPDATE publish_logs SET `+set+` WHERE id = $1`, bad[row])
				good[row] = add("good " + row)
			}
			r := w.start()
			tt.trigger(w, posts)
			for row, id := range good {
				w.until("the row behind the one with "+row+" is settled", func() bool { return w.status(id) == tt.want })
			}
			w.settled(streams.ConsumerWebhooks)
			w.settled(streams.ConsumerChecks)
			got, want := make(map[string]string), make(map[string]string)
			for row := range bad {
				want[row] = tt.want
			}
			for _, row := range tt.open {
				want[row] = "processing"
			}
			becomes(w, "the bad rows", want, func() map[string]string {
				for row, id := range bad {
					got[row] = w.status(id)
				}
				return got
			})
			if lost := r.logs.with("level=ERROR"); len(lost) > 0 {
				t.Errorf("%s", strings.Join(lost, "\n"))
			}
		})
	}
}
