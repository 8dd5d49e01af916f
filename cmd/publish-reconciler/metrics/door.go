package metrics

// DoorOutcome says in one word what became of a request that handed in webhooks over HTTP.
type DoorOutcome string

// The outcomes.
const (
	DoorStored       DoorOutcome = "stored"        // all it says
	DoorDuplicate    DoorOutcome = "duplicate"     // all of it was stored already
	DoorIgnored      DoorOutcome = "ignored"       // it is about no post's publication
	DoorUnsigned     DoorOutcome = "unsigned"      // it has no signature, and its platform a secret
	DoorBadSignature DoorOutcome = "bad_signature" // it is forged, or the secret is not the platform's
	DoorStale        DoorOutcome = "stale"         // it is signed at another time: a replay, or a clock is off
	DoorUnauthorized DoorOutcome = "unauthorized"  // it has no token, and its platform no secret
	DoorInvalid      DoorOutcome = "invalid"       // it can't be understood
	DoorUnavailable  DoorOutcome = "unavailable"   // it could not be stored, and has to come again
)

var doorOutcomes = []DoorOutcome{
	DoorStored, DoorDuplicate, DoorIgnored, DoorUnsigned, DoorBadSignature, DoorStale, DoorUnauthorized, DoorInvalid, DoorUnavailable,
}

// Received counts webhooks that came over HTTP and were stored.
func (m *Metrics) Received(platform string, webhooks int) {
	m.received.WithLabelValues(m.platforms.label(platform)).Add(float64(webhooks))
}

// Request counts a request that handed in webhooks. Only what was stored gives its platform a label: of what was not,
// anybody may have chosen the name.
func (m *Metrics) Request(platform string, outcome DoorOutcome) {
	label := m.platforms.knownLabel
	if outcome == DoorStored || outcome == DoorDuplicate {
		label = m.platforms.label
	}
	m.requests.WithLabelValues(label(platform), string(outcome)).Inc()
}
