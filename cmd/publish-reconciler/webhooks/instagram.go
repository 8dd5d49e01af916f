package webhooks

import (
	"encoding/json"
	"fmt"
)

// instagramMedia is where the fields that are about a medium of the app's own user name it. Meta sends nothing when a
// medium is published; but who comments on one, or has seen a story to its end, proves that it is out: "Webhooks" and
// "Webhook Notification Examples" in https://developers.facebook.com/docs/instagram-platform/webhooks. A mention may be
// on anybody's medium, and a message is about none.
var instagramMedia = map[string]func(value object) string{
	"comments":       func(value object) string { return value.object("media").text("id") },
	"live_comments":  func(value object) string { return value.object("media").text("id") },
	"story_insights": func(value object) string { return value.text("media_id") },
}

// change is one update, of which a batch may hold many.
type change struct {
	fields  object
	account string // whose it is
	text    string
}

// readInstagram reads Meta's notifications, up to 1,000 updates of many accounts in one body. The identity is the medium
// and the field, not the single comment, and nothing of the comment is in the message: what the service hears is the same
// each time, and a post with thousands of comments must not fill the stream, nor the table of parked webhooks.
func readInstagram(kept raw) (Batch, error) {
	changes, others, err := changesOf(kept.Body)
	if err != nil {
		return Batch{}, err
	}
	batch := Batch{Ignored: others}
	for _, c := range changes {
		if len(changes) > 1 { // each message keeps its own part, so that a batch does not multiply
			kept.Body = c.text
		}
		name, value := c.fields.text("field"), c.fields.object("value")
		media, known := instagramMedia[name]
		if !known || media(value) == "" {
			batch.Ignored++
			continue
		}
		post := media(value)
		event, err := newEvent(Instagram, post, statusPublished, identity(Instagram, name, post), kept,
			field{"event", name},
			field{"media_product_type", value.object("media").text("media_product_type")},
			field{"account_id", c.account},
		)
		if err != nil {
			return Batch{}, fmt.Errorf("media id of %s: %w", quote(name), err)
		}
		batch.add(event)
	}
	return batch, nil
}

// changesOf also counts the entries that hold none, such as messages.
func changesOf(body string) (changes []change, others int, err error) {
	var notice struct {
		Entry []json.RawMessage `json:"entry"`
	}
	if err := json.Unmarshal([]byte(body), &notice); err != nil {
		return nil, 0, fmt.Errorf("entry must be an array of objects: %w", err)
	}
	for i, text := range notice.Entry {
		var entry struct {
			Changes []json.RawMessage `json:"changes"`
		}
		fields, err := parseObject(text)
		if err == nil {
			err = json.Unmarshal(text, &entry)
		}
		if err != nil {
			return nil, 0, fmt.Errorf("entry %d must be an object with an array of changes: %w", i+1, err)
		}
		if fields.text("field") != "" { // apps with Instagram Login may have the change in the entry itself
			entry.Changes = append(entry.Changes, text)
		}
		if len(entry.Changes) == 0 {
			others++
		}
		for _, text := range entry.Changes {
			c, err := parseObject(text)
			if err != nil {
				return nil, 0, fmt.Errorf("a change of entry %d is not an object: %w", i+1, err)
			}
			changes = append(changes, change{c, fields.text("id"), string(text)})
		}
	}
	return changes, others, nil
}
