package webhooks

import (
	"strings"
	"testing"
)

// The example of "Subscribe to Push Notifications" (https://developers.google.com/youtube/v3/guides/push_notifications),
// and a tombstone as YouTube's hub sends it, which that page does not show (RFC 6721).
const (
	youtubeEntry = `<entry>
    <id>yt:video:VIDEO_ID</id>
    <yt:videoId>VIDEO_ID</yt:videoId>
    <yt:channelId>CHANNEL_ID</yt:channelId>
    <title>Video title</title>
    <link rel="alternate" href="http://www.youtube.com/watch?v=VIDEO_ID"/>
    <author>
     <name>Channel title</name>
     <uri>http://www.youtube.com/channel/CHANNEL_ID</uri>
    </author>
    <published>2015-03-06T21:40:57+00:00</published>
    <updated>2015-03-09T19:05:24.552394234+00:00</updated>
  </entry>`
	youtubeVideo = `<feed xmlns:yt="http://www.youtube.com/xml/schemas/2015"
         xmlns="http://www.w3.org/2005/Atom">
  <link rel="hub" href="https://pubsubhubbub.appspot.com"/>
  <link rel="self" href="https://www.youtube.com/xml/feeds/videos.xml?channel_id=CHANNEL_ID"/>
  <title>YouTube video feed</title>
  <updated>2015-04-01T19:05:24.552394234+00:00</updated>
  ` + youtubeEntry + `
</feed>`
	youtubeTombstone = `<at:deleted-entry ref="yt:video:VIDEO_ID" when="2018-07-26T17:43:36+00:00">
  <link href="https://www.youtube.com/watch?v=VIDEO_ID"/>
  <at:by>
   <name>Channel title</name>
   <uri>https://www.youtube.com/channel/CHANNEL_ID</uri>
  </at:by>
 </at:deleted-entry>`
	youtubeDeleted = `<?xml version='1.0' encoding='UTF-8'?>
<feed xmlns:at="http://purl.org/atompub/tombstones/1.0" xmlns="http://www.w3.org/2005/Atom">` + youtubeTombstone + `</feed>`
)

var (
	wantVideo = map[string]any{
		"external_post_id": "VIDEO_ID", "status": "published", "videoId": "VIDEO_ID", "channelId": "CHANNEL_ID", "timestamp": "2015-03-06T21:40:57+00:00",
	}
	wantGone = map[string]any{
		"external_post_id": "VIDEO_ID", "status": "removed", "videoId": "VIDEO_ID", "timestamp": "2018-07-26T17:43:36+00:00",
	}
)

func TestYouTube(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]map[string]any{
		youtubeVideo: wantVideo, youtubeDeleted: wantGone, "\xef\xbb\xbf\n " + youtubeVideo: wantVideo,
	} {
		batch := read(t, YouTube, body)
		if len(batch.Events) != 1 {
			t.Fatalf("%+v", batch)
		}
		fields, kept := understood(t, YouTube, batch.Events[0])
		same(t, "message", fields, want)
		same(t, "raw", kept, raw{"application/json", body})
		printable(t, batch.Events[0].ID)
	}
}

// Where there are several each keeps its own bytes.
func TestYouTubeBatch(t *testing.T) {
	t.Parallel()
	other := strings.ReplaceAll(youtubeEntry, "VIDEO_ID", "other")
	body := strings.Replace(youtubeVideo, "</feed>", other+"<other><entry/></other>"+
		strings.Replace(youtubeTombstone, "<at:deleted-entry ", `<at:deleted-entry xmlns:at="http://purl.org/atompub/tombstones/1.0" `, 1)+youtubeEntry+"</feed>", 1)
	batch := read(t, YouTube, body)
	if len(batch.Events) != 3 {
		t.Fatalf("%d messages", len(batch.Events))
	}
	for i, want := range []string{youtubeEntry, other} {
		if _, kept := understood(t, YouTube, batch.Events[i]); kept.Body != want {
			t.Errorf("message %d keeps %s", i, kept.Body)
		}
	}
	fields, _ := understood(t, YouTube, batch.Events[2])
	same(t, "the third", fields, wantGone)
	if batch := read(t, YouTube, `<feed xmlns="http://www.w3.org/2005/Atom"><title>none</title></feed>`); len(batch.Events) != 0 || batch.Ignored != 1 {
		t.Errorf("without an entry: %+v", batch)
	}
}

// An edit has another updated, and another title.
func TestYouTubeEdits(t *testing.T) {
	t.Parallel()
	first := read(t, YouTube, youtubeVideo).Events[0]
	edit := read(t, YouTube, strings.NewReplacer("2015-03-09", "2015-03-10", "Video title", "A better title").Replace(youtubeVideo)).Events[0]
	if first.ID != edit.ID {
		t.Errorf("the video is %s, its edit %s", first.ID, edit.ID)
	}
	fields, _ := understood(t, YouTube, edit)
	same(t, "the edit's message", fields, wantVideo)
	for _, another := range []string{strings.ReplaceAll(youtubeVideo, "VIDEO_ID", "other"), strings.Replace(youtubeVideo, "2015-03-06", "2015-03-07", 1), youtubeDeleted} {
		if read(t, YouTube, another).Events[0].ID == first.ID {
			t.Errorf("%s is the same as the first", another)
		}
	}
}
