// Package reconciler holds the rules: what becomes of one publish log, given what is known about it.
//
//	webhook ──┐
//	check  ───┼──▶ lock the logs ──▶ Decide(log, question, policy, now) ──▶ apply ──▶ outcome
//	sweep  ───┘          └───────────────── one transaction ─────────────────┘
//
// A check or a sweep that finds a log due, and nothing clear about it, leaves that log alone at first. With no
// row locked the platform is asked ([Prober]) and, where silence would fail the log, looked after for an outage
// ([Hold]); then a second transaction locks the log again and decides it on what was found.
//
// The states of a log, and the reasons that move it:
//
//	            webhook_confirmed
//	            probe_confirmed
//	processing ───────────────────▶ success ◀───────────────┐
//	  │    │                                                │ webhook_late
//	  │    │ webhook_rejected, probe_rejected               │ (only from webhook_timeout)
//	  │    └──────────────────────────▶ failed ─────────────┘
//	  │      webhook_timeout              ▲
//	  │ retry_before_fail                 │
//	  └────────────────▶ retry ───────────┘  (retry is open like processing: same ways out)
//
// An override takes any status to success or failed. A pending log is the publisher's and keeps its status. [Decide] is pure and total; [Reconciler] runs it
// over batches through a [Store]. The package knows neither NATS nor Postgres.
package reconciler
