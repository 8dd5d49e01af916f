// Package streams is the message contract of publish-reconciler: subjects, JetStream streams and
// consumers, message types, and the helpers for producers written in Go.
//
//	ingestor ── publish.webhook.<platform> ──────────────▶ PUBLISH_WEBHOOKS ──▶ consumer webhooks
//
//	worker ──── publish.schedule.check.<log_id> ─┐ fires
//	anyone ──── publish.check.<log_id> ◀─────────┴───────▶ PUBLISH_CHECKS ────▶ consumer checks
//	service ─── publish.schedule.sweep ──────────┐ fires          │
//	anyone ──── publish.sweep ◀──────────────────┴────────────────┴───────────▶ consumer sweeper
//
//	service ─── publish.dead.<webhook|check|sweep> ──────▶ PUBLISH_DEAD
//	service ─── publish.event.<platform>.<outcome> ──────▶ PUBLISH_EVENTS
//	service ─── publish.probe.<platform> ── request ─────▶ whoever knows the platform, and replies
//
// A worker commits its row of publish_logs and then calls [ScheduleCheck]; an ingestor calls [PublishWebhook]. Other
// languages find every subject, header and body in the AsyncAPI document that publish-reconciler contract prints.
//
// It depends on nats.go and google/uuid alone, so that a producer may import it without the service.
package streams
