package webhooks

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// tiktokEvents begin the names of the Content Posting API's events.
const tiktokEvents = "post.publish."

// tiktokStatuses are what the events say, by the rest of their names: "Content Posting webhooks" in
// https://developers.tiktok.com/doc/content-posting-api-reference-get-video-status, its spelling included. What is not
// here, such as inbox_delivered (the user has a draft to finish), is told by its own name, which is unclear.
var tiktokStatuses = map[string]string{
	"complete":                      statusPublished,
	"publicly_available":            statusPublished,
	"failed":                        statusFailed,
	"no_longer_publicaly_available": statusRemoved, //nolint:misspell // TikTok writes it so
	"no_longer_publicly_available":  statusRemoved, // should they ever mend it
}

// readTikTok reads {client_key, event, create_time, user_openid, content}, where content is a JSON string: "Webhook
// Structure" in https://developers.tiktok.com/doc/webhooks-events.
//
// The post is known by its publish_id, which the publisher got when it began. One publish_id can have several events, and
// several posts: all of what tells them apart is in the identity. A post_id is kept, and never names the log.
func readTikTok(kept raw) (Batch, error) {
	notice, err := parseObject([]byte(kept.Body))
	if err != nil {
		return Batch{}, fmt.Errorf("the body is not a JSON object: %w", err)
	}
	event := notice.text("event")
	name, ours := strings.CutPrefix(event, tiktokEvents)
	if !ours || name == "" {
		return Batch{Ignored: 1}, nil // such as authorization.removed
	}
	text, isString := notice["content"].(string)
	if !isString {
		return Batch{}, fmt.Errorf("content of %s is not a string: it must be a JSON object as a string", quote(event))
	}
	content, err := parseObject([]byte(text))
	if err != nil {
		return Batch{}, fmt.Errorf("content of %s is not a JSON object: %w", quote(event), err)
	}
	publishID := content.text("publish_id")
	if publishID == "" {
		return Batch{}, missing("content of "+quote(event), "publish_id")
	}
	created, at := notice.text("create_time"), ""
	if t, ok := moment(notice.number("create_time")); ok {
		// A retry in the other unit is the same event.
		created, at = strconv.FormatInt(t.UnixMilli(), 10), t.Format(time.RFC3339Nano)
	}
	status, known := tiktokStatuses[name]
	if !known {
		status = name
	}
	// A reason of anything but a failure is nobody's error.
	reason := ""
	if status == statusFailed {
		reason = content.text("reason")
	}
	e, err := newEvent(TikTok, publishID, status, identity(TikTok, event, publishID, content.text("post_id"), created), kept,
		field{"event", event},
		field{"fail_reason", reason},
		field{"publish_id", publishID},
		field{"publish_type", content.text("publish_type")},
		field{"post_id", content.text("post_id")},
		field{"user_openid", notice.text("user_openid")},
		field{"timestamp", at},
	)
	if err != nil {
		return Batch{}, fmt.Errorf("publish_id of %s: %w", quote(event), err)
	}
	return Batch{Events: []Event{e}}, nil
}
