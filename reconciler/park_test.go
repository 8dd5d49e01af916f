package reconciler

import "testing"

// Thousands of comments on one post of somebody else's say the same of it.
func TestWhatAPlatformSentIsNotParked(t *testing.T) {
	t.Parallel()
	r, m := setup(t, patient)
	first := webhook(t, tiktok, `{"external_post_id":"tiktok_video_67890","status":"published","raw":{"body":"one"}}`)
	again := webhook(t, tiktok, `{"external_post_id":"tiktok_video_67890","status":"published","raw":{"body":"another"}}`)
	hear(t, r, first, again)
	other := webhook(t, tiktok, `{"external_post_id":"tiktok_video_67890","status":"published","raw":"a word"}`)
	hear(t, r, again, other)
	parked := map[any]int{} // by what is parked as raw
	for _, w := range m.parked {
		parked[w.Fields["raw"]]++
	}
	equal(t, "parked", parked, map[any]int{nil: 1, "a word": 1})
	if first.Fields["raw"] == nil {
		t.Error("the webhook itself was changed")
	}
}
