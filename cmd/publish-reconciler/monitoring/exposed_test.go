package monitoring

import "testing"

// exposed are the series of the service and those that Prometheus adds to each target.
func exposed(t *testing.T) series {
	t.Helper()
	s := series{}
	for _, name := range []string{"up", "process_start_time_seconds", "process_cpu_seconds_total", "process_resident_memory_bytes", "go_goroutines"} {
		s[name] = labelSet()
	}
	for name, labels := range map[string][]string{
		"checked_total": {"trigger"}, "outcomes_total": {"platform", "outcome", "reason", "trigger"}, "late_corrections_total": {"platform"},
		"decision_delay_seconds": {"trigger"}, "confirmation_seconds": {"platform"}, "batch_messages": {"consumer"}, "db_statement_seconds": {"statement"},
		"pool_connections": {"state"}, "pool_waits_total": nil, "pool_wait_seconds_total": nil,
		"consumer_pending_messages": {"consumer"}, "consumer_in_hand_messages": {"consumer"}, "consumer_redelivered_messages": {"consumer"},
		"open_logs": {"platform"}, "due_logs": {"platform"}, "oldest_open_log_age_seconds": {"platform"}, "timeout_seconds": {"platform"},
		"parked_webhooks": nil, "oldest_parked_webhook_age_seconds": nil, "dead_letters": nil, "outbox_events": nil, "oldest_outbox_event_age_seconds": nil,
		"sweep_seconds": nil, "sweep_findings_total": {"outcome"}, "last_sweep_timestamp_seconds": nil,
		"relay_published_total": nil, "webhooks_received_total": {"platform"}, "ready": {"part"}, "gathered_timestamp_seconds": nil,
		"build_info": {"version", "revision", "goversion"},
	} {
		s.add("publish_reconciler_"+name, labels...)
	}
	return s
}

// add knows a metric by its name, and by those that it has where it is a classic histogram.
func (s series) add(name string, labels ...string) {
	s[name] = labelSet(labels...)
	s[name+"_sum"], s[name+"_count"] = labelSet(labels...), labelSet(labels...)
	s[name+"_bucket"] = labelSet(append([]string{"le"}, labels...)...)
}
