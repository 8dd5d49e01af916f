// Package simulate plays publishers and platforms against a running service, and checks what became of every
// log.
//
//	Story ──────── Play ─────────────────────── Examine ──────── Result
//	from a seed    inserts rows, schedules       reads rows,      expected and
//	alone: what    checks, sends webhooks;       ledger, letters  found, and the
//	happens to     waits where the story waits   and events, and  first logs that
//	each log, and  for the service; waits for    judges each log  are not as they
//	what must      the end                       by its story     must be
//	become of it
//
// A story has no clock but the offsets of its steps, and where a step must come after something that the
// service does, it waits until that is seen in Postgres: a slow machine makes a run longer, not wrong. One
// thing is left to the clock. A webhook that is on time by the story may be stored after the log's deadline, by a
// NATS that was away: then the log fails first and is corrected, as a late one is. Such logs are judged by that,
// and counted as overtaken. A log that fails although its webhook had been stored in time is wrong.
package simulate
