package main

import (
	"context"
	"time"
)

type nextSweep struct {
	At     time.Time `json:"at"`
	Delay  string    `json:"delay"`
	Reason string    `json:"reason"`
}

func (*service) nextSweep(ctx context.Context) (nextSweep, error) {
	return nextSweep{time.Now().Add(time.Minute), "1m0s", "idle"}, ctx.Err()
}
