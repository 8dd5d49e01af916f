package webhooks

import (
	"strings"
	"testing"
)

// The envelope is the example of TikTok's "Webhook Events" (https://developers.tiktok.com/doc/webhooks-events), the
// events and their values are of "Content Posting webhooks"
// (https://developers.tiktok.com/doc/content-posting-api-reference-get-video-status).
const (
	tiktokComplete = `{
    "client_key": "bwo2m45353a6k85",
    "event": "post.publish.complete",
    "create_time": 1615338610,
    "user_openid": "act.example12345Example12345Example",
    "content": "{\"publish_id\":\"v_pub_url~v2.123456789\",\"publish_type\":\"DIRECT_POST\"}"
}`
	tiktokFailed = `{"client_key":"bwo2m45353a6k85","event":"post.publish.failed","create_time":1615338610123,"user_openid":"act.x",` +
		`"content":"{\"publish_id\":\"v_pub_url~v2.123456789\",\"reason\":\"picture_size_check_failed\",\"publish_type\":\"INBOX_SHARE\"}"}`
	tiktokRemoved = `{"client_key": "bwo2m45353a6k85", "event": "authorization.removed", "create_time": 1615338610,
    "user_openid": "act.example12345Example12345Example", "content": "{\"reason\": 1 }"}`
)

// tiktok is a notice about publish_id p.
func tiktok(event, createTime, more string) string {
	content := strings.ReplaceAll(`{"publish_id":"p"`+more+`}`, `"`, `\"`)
	return `{"client_key":"k","event":"post.publish.` + event + `","create_time":` + createTime + `,"user_openid":"o","content":"` + content + `"}`
}

func TestTikTok(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		body string
		want map[string]any
	}{
		"complete": {tiktokComplete, map[string]any{
			"external_post_id": "v_pub_url~v2.123456789", "status": "published", "event": "post.publish.complete",
			"publish_id": "v_pub_url~v2.123456789", "publish_type": "DIRECT_POST", "user_openid": "act.example12345Example12345Example",
			"timestamp": "2021-03-10T01:10:10Z",
		}},
		"failed": {tiktokFailed, map[string]any{
			"external_post_id": "v_pub_url~v2.123456789", "status": "failed", "event": "post.publish.failed", "fail_reason": "picture_size_check_failed",
			"publish_id": "v_pub_url~v2.123456789", "publish_type": "INBOX_SHARE", "user_openid": "act.x", "timestamp": "2021-03-10T01:10:10.123Z",
		}},
		"publicly available": {tiktok("publicly_available", "1", `,"post_id":7123456789012345678`), map[string]any{
			"external_post_id": "p", "status": "published", "event": "post.publish.publicly_available", "post_id": "7123456789012345678",
			"publish_id": "p", "user_openid": "o", "timestamp": "1970-01-01T00:00:01Z",
		}},
		"delivered to an inbox": {tiktok("inbox_delivered", `"1"`, `,"reason":"none"`), map[string]any{
			"external_post_id": "p", "status": "inbox_delivered", "event": "post.publish.inbox_delivered",
			"publish_id": "p", "user_openid": "o", "timestamp": "1970-01-01T00:00:01Z",
		}},
		"no longer available": {tiktok("no_longer_publicaly_available", "null", `,"post_id":"7"`), map[string]any{ //nolint:misspell // TikTok writes it so
			"external_post_id": "p", "status": "removed", "event": "post.publish.no_longer_publicaly_available", //nolint:misspell // TikTok writes it so
			"post_id": "7", "publish_id": "p", "user_openid": "o",
		}},
		"an event of another day": {tiktok("reviewed", "-5", ``), map[string]any{
			"external_post_id": "p", "status": "reviewed", "event": "post.publish.reviewed", "publish_id": "p", "user_openid": "o",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			batch := read(t, TikTok, test.body)
			if len(batch.Events) != 1 || batch.Ignored != 0 {
				t.Fatalf("%+v", batch)
			}
			fields, kept := understood(t, TikTok, batch.Events[0])
			same(t, "message", fields, test.want)
			same(t, "raw", kept, raw{"application/json", test.body})
			printable(t, batch.Events[0].ID)
		})
	}
	for _, body := range []string{tiktokRemoved, `{"event":"video.publish.completed"}`, `{"event":"post.publish."}`, `{"event":1}`, `{"event":null}`} {
		if batch := read(t, TikTok, body); len(batch.Events) != 0 || batch.Ignored != 1 {
			t.Errorf("%s: %+v", body, batch)
		}
	}
}

// One publish_id can have several events, and several posts.
func TestTikTokTellsEventsApart(t *testing.T) {
	t.Parallel()
	id := func(body string) string { return read(t, TikTok, body).Events[0].ID }
	ids := map[string]string{}
	for _, body := range []string{
		tiktok("complete", "1615338610", ``),
		tiktok("complete", "1615338611", ``), // a second post of the same draft
		tiktok("publicly_available", "1615338610", `,"post_id":"1"`),
		tiktok("publicly_available", "1615338610", `,"post_id":"2"`),
		tiktok("no_longer_publicaly_available", "1615338610", `,"post_id":"1"`), //nolint:misspell // TikTok writes it so
		tiktok("publicly_available", "1615338999", `,"post_id":"1"`),            // and back again
		tiktok("failed", "1615338610", ``),
		tiktok("complete", "1615338610001", ``),
	} {
		if other, twice := ids[id(body)]; twice {
			t.Errorf("%s and %s are the same", body, other)
		}
		ids[id(body)] = body
	}
	if a, b := id(tiktok("complete", "1615338610", ``)), id(tiktok("complete", "1615338610000", ``)); a != b {
		t.Errorf("in seconds %s, in milliseconds %s", a, b)
	}
	if a, b := id(tiktok("complete", "1", ``)), id(strings.Replace(tiktok("complete", `"1"`, ``), `"k"`, `"other"`, 1)); a != b {
		t.Errorf("delivered again %s, before %s", b, a)
	}
}
