package streams

import (
	"encoding/json"

	"github.com/google/uuid"
)

// ProbeRequest asks a platform what became of a post (publish.probe.<platform>). Its JSON is the request's
// body. The reply is what a webhook about the post would say, such as {"status":"published"}; it may leave out
// the external_post_id. Whoever does not know must not reply: {} says
// that the platform is still at it.
type ProbeRequest struct {
	LogID          uuid.UUID `json:"log_id"`
	ExternalPostID string    `json:"external_post_id"`
	Platform       string    `json:"platform"`
}

// Body is the request's JSON.
func (r ProbeRequest) Body() []byte {
	body, err := json.Marshal(r)
	if err != nil {
		panic(err) // strings and a UUID always can be encoded
	}
	return body
}

// DecodeProbe reads the reply to a probe. Numbers are json.Number. An answer about another post is an error,
// as is one that is no JSON object. The error is a [*DecodeError].
func DecodeProbe(request ProbeRequest, body []byte) (map[string]any, error) {
	fields, err := decodeObject(body)
	if err != nil {
		return nil, err
	}
	if raw, named := fields["external_post_id"]; named {
		id, err := parseExternalPostID(raw)
		if err != nil {
			return nil, err
		}
		if id != request.ExternalPostID {
			return nil, undecodable(ReasonInvalidExternalPostID, "external_post_id is %s: it must be %s, which was asked about, or be left out", quote(id), quote(request.ExternalPostID))
		}
	}
	return fields, nil
}
