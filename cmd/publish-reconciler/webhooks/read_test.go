package webhooks

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"publish-reconciler/streams"
)

// understood is a message as the service decodes it, without its raw part, and that part.
func understood(t testing.TB, platform string, event Event) (map[string]any, raw) {
	t.Helper()
	if _, err := streams.DecodeWebhook("publish.webhook."+platform, event.Body); err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	var kept struct{ Raw raw }
	if err := json.Unmarshal(event.Body, &fields); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(event.Body, &kept); err != nil {
		t.Fatal(err)
	}
	if fields["event_id"] != event.ID {
		t.Errorf("event_id is %v, and the message's id %q", fields["event_id"], event.ID)
	}
	delete(fields, "raw")
	delete(fields, "event_id")
	return fields, kept.Raw
}

func read(t testing.TB, platform, body string) Batch {
	t.Helper()
	batch, err := Read(platform, "application/json", []byte(body))
	if err != nil || !batch.Own {
		t.Fatalf("%+v, %v in %s", batch, err, body)
	}
	return batch
}

func TestBodiesThatAreTakenAsTheyAre(t *testing.T) {
	t.Parallel()
	for _, platform := range []string{TikTok, Instagram, YouTube, "mastodon"} {
		for _, body := range []string{
			`{"external_post_id":"1","status":"published"}`,
			`{"external_post_id":"1","event":"post.publish.complete","content":"{}"}`,
			`{"external_post_id":"1","entry":[]}`,
			`{}`, `[]`, `null`, ``, `{`, `"x"`, `{"status":"published"}`, "\xff",
		} {
			if batch, err := Read(platform, "", []byte(body)); err != nil || batch.Own || batch.Events != nil {
				t.Errorf("%s of %s: %+v, %v", body, platform, batch, err)
			}
		}
	}
	for platform, body := range map[string]string{TikTok: instagramComments, Instagram: tiktokComplete, "mastodon": youtubeVideo} {
		if batch, err := Read(platform, "", []byte(body)); err != nil || batch.Own {
			t.Errorf("another's body on %s: %+v, %v", platform, batch, err)
		}
	}
}

func TestBrokenBodies(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 1025)
	for name, test := range map[string]struct{ platform, body, want string }{
		"TikTok, no content":           {TikTok, `{"event":"post.publish.complete"}`, `content of "post.publish.complete" is not a string: it must be a JSON object as a string`},
		"TikTok, content is an object": {TikTok, `{"event":"post.publish.complete","content":{}}`, `content of "post.publish.complete" is not a string`},
		"TikTok, content is not JSON":  {TikTok, `{"event":"post.publish.complete","content":"{"}`, `content of "post.publish.complete" is not a JSON object: unexpected EOF`},
		"TikTok, content goes on":      {TikTok, `{"event":"post.publish.complete","content":"{}{}"}`, `content of "post.publish.complete" is not a JSON object: it goes on after its first JSON value`},
		"TikTok, no post":              {TikTok, `{"event":"post.publish.complete","content":"{}"}`, `content of "post.publish.complete" has no publish_id: it must be a string of 1 to 1024 bytes`},
		"TikTok, long post":            {TikTok, `{"event":"post.publish.complete","content":"{\"publish_id\":\"` + long + `\"}"}`, `publish_id of "post.publish.complete": external_post_id "xxx`},
		"TikTok, NUL":                  {TikTok, `{"event":"post.publish.complete","content":"{\"publish_id\":\"a\\u0000\"}"}`, `must be 1 to 1024 bytes without NUL`},
		"TikTok, not UTF-8":            {TikTok, "{\"event\":\"\xff\"}", `the body is not UTF-8`},
		"Instagram, entry":             {Instagram, `{"entry":1}`, `entry must be an array of objects`},
		"Instagram, entry's":           {Instagram, `{"entry":[{},2]}`, `entry 2 must be an object with an array of changes`},
		"Instagram, changes":           {Instagram, `{"entry":[{"changes":{}}]}`, `entry 1 must be an object with an array of changes`},
		"Instagram, a change":          {Instagram, `{"entry":[{"changes":[1]}]}`, `a change of entry 1 is not an object`},
		"Instagram, long medium":       {Instagram, `{"entry":[{"changes":[{"field":"story_insights","value":{"media_id":"` + long + `"}}]}]}`, `media id of "story_insights": external_post_id`},
		"YouTube, no feed":             {YouTube, `<html/>`, `the body is not an Atom feed: it is a "html": it must be a feed of http://www.w3.org/2005/Atom`},
		"YouTube, no namespace":        {YouTube, `<feed/>`, `the body is not an Atom feed: it is a "feed"`},
		"YouTube, cut":                 {YouTube, youtubeVideo[:200], `the body is not an Atom feed: XML syntax error`},
		"YouTube, nothing":             {YouTube, `<?xml version="1.0"?>`, `the body is not an Atom feed: EOF`},
		"YouTube, a document type":     {YouTube, `<!DOCTYPE feed [<!ENTITY a "b">]>` + youtubeVideo, `the body is not an Atom feed: it has a document type`},
		"YouTube, an entity":           {YouTube, strings.Replace(youtubeVideo, "VIDEO_ID", "&a;", 1), `invalid character entity &a;`},
		"YouTube, another encoding":    {YouTube, `<?xml version="1.0" encoding="iso-8859-1"?>` + youtubeVideo, `encoding "iso-8859-1" declared`},
		"YouTube, deep":                {YouTube, strings.Repeat("<a>", 33), `its elements lie more than 32 deep in each other`},
		"YouTube, no video":            {YouTube, `<feed xmlns="http://www.w3.org/2005/Atom"><entry/></feed>`, `an entry has no yt:videoId: it must be a string of 1 to 1024 bytes`},
		"YouTube, long video":          {YouTube, strings.ReplaceAll(youtubeVideo, "VIDEO_ID", long), `yt:videoId: external_post_id`},
		"YouTube, odd tombstone":       {YouTube, strings.Replace(youtubeDeleted, "yt:video:", "yt:channel:", 1), `a deleted-entry refers to "yt:channel:VIDEO_ID": it must be yt:video:VIDEO_ID`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			batch, err := Read(test.platform, "", []byte(test.body))
			if err == nil || !strings.Contains(err.Error(), test.want) || len(batch.Events) > 0 || len(err.Error()) > 400 {
				t.Errorf("%+v, %v; want %s", batch, err, test.want)
			}
		})
	}
}

func TestIdentity(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, parts := range [][]string{
		{"a", "b", "c"},
		{"a", "b:c"},
		{"a:b", "c"},
		{"a", "b%3Ac"},
		{"a", "b", "", "c"},
		{"a", "", "b", "c"},
		{"a", strings.Repeat("x", 300)},
		{"a", strings.Repeat("x", 301)},
		{"a", "\r\nNats-Expected-Stream: x"},
		{"a", "ä"},
	} {
		name := fmt.Sprintf("%.40q", parts)
		id := identity(parts...)
		if other, twice := seen[id]; twice {
			t.Errorf("%s and %s are both %s", name, other, id)
		}
		seen[id] = name
		printable(t, id)
	}
}

// printable wants an identity that any header can carry.
func printable(t testing.TB, id string) {
	t.Helper()
	if id == "" || len(id) > maxID || strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' }) {
		t.Errorf("an identity is %q", id)
	}
}

func TestMoment(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{
		0: "", -1: "", 1e14: "", 1: "1970-01-01T00:00:01Z", 1615338610: "2021-03-10T01:10:10Z", 1615338610_123: "2021-03-10T01:10:10.123Z",
		99_999_999_999: "5138-11-16T09:46:39Z", 100_000_000_000: "1973-03-03T09:46:40Z",
	} {
		at, ok := moment(n)
		got := ""
		if ok {
			got = at.Format("2006-01-02T15:04:05.999Z07:00")
		}
		if got != want {
			t.Errorf("%d is %s, want %s", n, got, want)
		}
	}
}

// A body as large as the door takes them fits into a message of NATS (1 MiB), whatever is in it.
func TestLargeBodies(t *testing.T) {
	t.Parallel()
	const most = 256 << 10
	fill := func(body string, with string) string {
		return strings.Replace(body, "FILL", strings.Repeat(with, (most-len(body))/len(with)), 1)
	}
	for name, test := range map[string]struct{ platform, body string }{
		"quotes":    {TikTok, fill(strings.Replace(tiktokComplete, "{", `{"more":"FILL",`, 1), `\"`)},
		"lines":     {TikTok, fill(strings.Replace(tiktokComplete, "{", `{FILL`, 1), "\n")},
		"brackets":  {YouTube, fill(strings.Replace(youtubeVideo, "Video title", `<![CDATA[FILL]]>`, 1), "<")},
		"changes":   {Instagram, fill(`{"entry":[{"changes":[FILL{}]}]}`, `{"field":"story_insights","value":{"media_id":"1"}},`)},
		"changes 2": {Instagram, `{"entry":[{"changes":[` + strings.Join(numbered(4000, `{"field":"story_insights","value":{"media_id":%d}}`), ",") + `]}]}`},
	} {
		batch := read(t, test.platform, test.body)
		total := 0
		for _, event := range batch.Events {
			total += len(event.Body)
		}
		if len(batch.Events) == 0 || total > 1<<20 && name != "changes 2" || total > 2<<20 {
			t.Errorf("%s: %d messages with %d bytes", name, len(batch.Events), total)
		}
	}
}

func numbered(n int, format string) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf(format, i+1)
	}
	return all
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}
