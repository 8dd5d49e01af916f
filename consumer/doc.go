// Package consumer brings JetStream's messages to the reconciler, and its verdicts back.
//
//	          pull                 decode, reconcile                     settle
//	stream ─────────▶ a batch ───────────────────────▶ a verdict each ──┬─ done:  ack
//	   ▲                                                                ├─ later: nak
//	   └────────────────────────────────────────────────────────────────┴─ never: dead letter, then term
//
// A message is acknowledged after the commit of what it led to, so a crash in between brings it again, and
// deciding it again changes nothing. While the store is away nothing is fetched, what is in hand goes back,
// and no message dies of it.
package consumer
