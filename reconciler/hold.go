package reconciler

import "time"

// Hold is a platform's outage: nothing confirms its posts, so its logs are not failed by silence.
type Hold struct {
	Platform string    `json:"platform"`
	Since    time.Time `json:"since"`
	// Until is when it ends, if no confirmation ends it before.
	Until time.Time `json:"until"`
}
