package webhooks

import "testing"

// Of Meta's "Webhook Notification Examples" (https://developers.facebook.com/docs/instagram-platform/webhooks/examples)
// and "Webhooks for Instagram" (https://developers.facebook.com/docs/instagram-api/guides/webhooks).
const (
	instagramStory    = `{"field":"story_insights","value":{"media_id":"18023345989012587","exits":1,"replies":0,"reach":17,"taps_forward":12,"taps_back":0,"impressions":28}}`
	instagramComment  = `{"field":"comments","value":{"id":"17919697626119712","from":{"id":"232323232","username":"somebody"},"text":"Nice <b>one</b>","media":{"id":"18172143295349192","media_product_type":"FEED"}}}`
	instagramInsights = `{"entry":[{"changes":[` + instagramStory + `],"id":"17841405309211844","time":1547687043}],"object":"instagram"}`
	instagramComments = `{"object":"instagram","entry":[{"id":"17841474524784050","time":1755779280,"changes":[` + instagramComment + `]}]}`
)

var (
	wantStory = map[string]any{
		"external_post_id": "18023345989012587", "status": "published", "event": "story_insights",
		"account_id": "17841405309211844",
	}
	wantComment = map[string]any{
		"external_post_id": "18172143295349192", "status": "published", "event": "comments", "media_product_type": "FEED",
		"account_id": "17841474524784050",
	}
)

func TestInstagram(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]map[string]any{instagramInsights: wantStory, instagramComments: wantComment} {
		batch := read(t, Instagram, body)
		if len(batch.Events) != 1 || batch.Ignored != 0 {
			t.Fatalf("%+v", batch)
		}
		fields, kept := understood(t, Instagram, batch.Events[0])
		same(t, "message", fields, want)
		same(t, "raw", kept, raw{"application/json", body})
	}
}

func TestInstagramBatch(t *testing.T) {
	t.Parallel()
	again := `{"field":"comments","value":{"id":"2","media":{"id":18172143295349192}}}`
	inEntry := `{"id":"5","time":1755779280,"field":"live_comments","value":{"id":"3","media":{"id":"77"}}}`
	batch := read(t, Instagram, `{"object":"instagram","entry":[
		{"id":"17841474524784050","time":1755779280,"changes":[`+instagramComment+`,`+again+`,{"field":"mentions","value":{"media_id":"1","comment_id":"2"}},{"field":"comments","value":{}},{}]},
		{"id":"17841405309211844","time":1547687043,"changes":[ `+instagramStory+` ]},
		`+inEntry+`,
		{"id":"5","time":1569262486134,"messaging":[{"sender":{"id":"1"},"message":{"mid":"m","text":"hello"}}]}]}`)
	if len(batch.Events) != 3 || batch.Ignored != 4 {
		t.Fatalf("%d messages, %d ignored", len(batch.Events), batch.Ignored)
	}
	for i, want := range []struct {
		fields map[string]any
		body   string
	}{
		{wantComment, instagramComment},
		{wantStory, instagramStory},
		{map[string]any{"external_post_id": "77", "status": "published", "event": "live_comments", "account_id": "5"}, inEntry},
	} {
		fields, kept := understood(t, Instagram, batch.Events[i])
		same(t, "message", fields, want.fields)
		same(t, "raw", kept, raw{"application/json", want.body})
	}
	if batch := read(t, Instagram, `{"object":"instagram","entry":[]}`); len(batch.Events) != 0 {
		t.Errorf("%+v", batch)
	}
}
