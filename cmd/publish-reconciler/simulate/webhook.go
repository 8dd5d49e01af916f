package simulate

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"

	"publish-reconciler/streams"
)

// platforms have names of their own: real ones may have retries and timeouts set where this runs. The one
// with numbers for its posts' ids is last.
var platforms = []string{"sim-instagram", "sim-tiktok", "sim-youtube", numbered}

// numbered is a platform that sends ids as JSON numbers, of more digits than a float64 holds.
const numbered = "sim-x"

// Says is what a webhook says, and what the row must hold of it.
type Says struct {
	// Fields of the webhook, its id left out.
	Fields map[string]any `json:"fields"`
	// Status is what webhook_status must be.
	Status string `json:"webhook_status"`
	// URL leads to the post.
	URL string `json:"url,omitempty"`
	// Error is what error_message must be, of a rejected log.
	Error string `json:"error,omitempty"`
}

// confirmation is how a platform says that a post is out.
func confirmation(platform string, r *rand.Rand) Says {
	switch platform {
	case "sim-instagram":
		url := "https://instagram.example/p/" + postMark + "/"
		return Says{Fields: map[string]any{"status": "published", "media_url": url, "timestamp": "2024-01-15T10:30:00Z"}, Status: "published", URL: url}
	case "sim-tiktok":
		url := "https://tiktok.example/@user/video/" + postMark
		return Says{Fields: map[string]any{"complete": true, "task_id": fmt.Sprintf("task_%d", r.IntN(1e6)), "video_url": url}, Status: "published", URL: url}
	case "sim-youtube":
		id := fmt.Sprintf("%011x", r.Int64N(1<<44))
		return Says{
			Fields: map[string]any{"status": "published", "videoId": id, "publishAt": "2024-01-15T10:30:00Z"},
			Status: "published", URL: "https://www.youtube.com/watch?v=" + id,
		}
	default:
		return Says{Fields: map[string]any{"status": "PUBLISHED", "likes": r.IntN(100), "lang": "日本語"}, Status: "PUBLISHED"}
	}
}

// rejection is a refusal in one of the forms that platforms have for it.
func rejection(r *rand.Rand) Says {
	status := []string{"failed", "error", "rejected", "FAILED"}[r.IntN(4)]
	words := []string{"The video is too long", "Music is not licensed: “été”", "account suspended"}[r.IntN(3)]
	says := Says{Fields: map[string]any{"status": status}, Status: status, Error: words}
	switch field := []string{"error", "error_message", "fail_reason", "reason", "message", "object", "none"}[r.IntN(7)]; field {
	case "object":
		says.Error = `{"code":17,"message":"` + words + `"}` // kept as its text
		says.Fields["error"] = says.Error
	case "none":
		says.Error = fmt.Sprintf("The platform reported %q and gave no reason", status)
	default:
		says.Fields[field] = words
	}
	return says
}

// vagueStatus is what a platform says that does not know yet.
const vagueStatus = "in_review"

func review() Says {
	return Says{Fields: map[string]any{"status": vagueStatus}, Status: vagueStatus}
}

// body is the webhook's JSON, with a mark for the id.
func (s Says) body(platform string) string {
	fields := maps.Clone(s.Fields)
	fields["external_post_id"] = postMark
	if words, ok := fields["error"].(string); ok && strings.HasPrefix(words, "{") {
		fields["error"] = json.RawMessage(words)
	}
	text, err := json.Marshal(fields)
	if err != nil {
		panic(err) // they are scalars, and one JSON
	}
	if platform == numbered {
		return strings.Replace(string(text), `"external_post_id":"`+postMark+`"`, `"external_post_id":`+postMark, 1)
	}
	return string(text)
}

// wrecks are webhooks that can't be understood, and why not.
var wrecks = []struct {
	body   string
	reason streams.Reason
}{
	{``, streams.ReasonMalformedJSON},
	{`{"external_post_id":"` + postMark + `","status":`, streams.ReasonMalformedJSON},
	{`{"external_post_id":"` + postMark + `","status":"published"} {}`, streams.ReasonMalformedJSON},
	{`<html><body>502 Bad Gateway ` + postMark + `</body></html>`, streams.ReasonMalformedJSON},
	{`["` + postMark + `"]`, streams.ReasonNotAnObject},
	{`"` + postMark + `"`, streams.ReasonNotAnObject},
	{`{"status":"published","id":"` + postMark + `"}`, streams.ReasonMissingExternalPostID},
	{`{"external_post_id":{"id":"` + postMark + `"},"status":"published"}`, streams.ReasonInvalidExternalPostID},
	{`{"external_post_id":null,"status":"published"}`, streams.ReasonInvalidExternalPostID},
	{`{"external_post_id":"","status":"published"}`, streams.ReasonInvalidExternalPostID},
}
