package main

import (
	"time"

	"publish-reconciler/reconciler"
)

// logAnswer is one log with all that is known about it, flat.
type logAnswer struct {
	reconciler.Row
	History     []reconciler.HistoryEvent `json:"history"`
	Parked      int                       `json:"parked_webhooks"`
	Hold        *reconciler.Hold          `json:"hold"`
	Now         time.Time                 `json:"now"`
	Explanation explanation               `json:"explanation"`
}

func newLogAnswer(v reconciler.View, policy reconciler.Policy) logAnswer {
	history := v.History
	if history == nil {
		history = []reconciler.HistoryEvent{} // a list in JSON too
	}
	return logAnswer{v.Row, history, v.Parked, v.Hold, v.Now, explain(policy, v)}
}
