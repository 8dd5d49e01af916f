// Package webhooks understands what platforms really send: who signed it, and which posts it is about. It is pure: it
// knows no HTTP server and no NATS, and reads no clock.
//
//	header, body ─► Verify ─► Read ─► messages of publish.webhook.<platform>, each with the platform's identity of it
//
// A body that names its post in external_post_id already is nobody's own form: ingestors send it for every platform, and
// it is taken as it is.
package webhooks

// The platforms whose own webhooks are known. Those of any other come in the contract's form.
const (
	TikTok    = "tiktok"
	Instagram = "instagram"
	YouTube   = "youtube"
)
