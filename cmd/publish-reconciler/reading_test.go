package main

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestOneLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve()
	id := w.publish("ig_1", "processing", confirmed, 11*time.Minute)
	if got := s.ask("POST", "/publishing/reconcile", ""); got.status != 200 {
		t.Fatalf("%+v", got)
	}
	overHTTP, overNATS := s.ask("GET", "/publishing/logs/"+id, ""), w.request("log", `{"log_id":"`+id+`"}`)
	delete(overHTTP.body, "now")
	delete(overNATS.body, "now")
	if diff := cmp.Diff(overHTTP.body, overNATS.body); diff != "" || overHTTP.status != 200 || overNATS.status != 200 {
		t.Errorf("%d, %d: %s", overHTTP.status, overNATS.status, diff)
	}
	body := overHTTP.body
	for key, want := range map[string]any{"id": id, "platform": "instagram", "status": "success", "external_post_id": "ig_1", "reason": "webhook_confirmed", "clip_id": nil, "hold": nil, "parked_webhooks": 0.0, "retry_count": 0.0} {
		if body[key] != want {
			t.Errorf("%s is %v, want %v", key, body[key], want)
		}
	}
	history := body["history"].([]any)
	event := history[len(history)-1].(map[string]any)
	if event["event_type"] != "publish_reconciled" || event["severity"] != "info" || event["metadata"].(map[string]any)["trigger"] != "api" {
		t.Errorf("history is %v", history)
	}
	why := body["explanation"].(map[string]any)
	if _, has := why["next_at"]; !has || why["sentence"] == "" || len(why) != 3 {
		t.Errorf("explanation is %v", why)
	}
	fresh := s.ask("GET", "/publishing/logs/"+w.publish("ig_2", "pending", `{}`, 0), "")
	if diff := cmp.Diff([]any{}, fresh.body["history"]); diff != "" {
		t.Error(diff)
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve()
	for i := range 7 {
		status := []string{"failed", "success"}[i%2]
		id := w.publish(fmt.Sprint(i), status, `{"reconciliation_reason":"`+[]string{"webhook_timeout", "webhook_confirmed"}[i%2]+`"}`, 0)
		w.exec(`UPDATE publish_logs SET created_at = '2024-01-15T10:00:00Z'::timestamptz + $2 * interval '1 minute' WHERE id = $1`, id, i/2) // some at the same time
	}
	newestFirst := strings.Fields(w.text(`SELECT string_agg(id::text, ' ' ORDER BY created_at DESC, id DESC) FROM publish_logs`))
	pages := map[string]func(before string, limit int) answer{
		"HTTP": func(before string, limit int) answer {
			return s.ask("GET", fmt.Sprintf("/publishing/logs?before=%s&limit=%d", before, limit), "")
		},
		"NATS": func(before string, limit int) answer {
			return w.request("logs", fmt.Sprintf(`{"before":%q,"limit":%d}`, before, limit))
		},
	}
	for door, page := range pages {
		for limit := 1; limit <= 8; limit++ {
			var all []string
			for before := any("9999-01-01T00:00:00Z"); before != nil; {
				got := page(before.(string), limit)
				if got.status != 200 || len(got.body) != 2 || len(got.body["logs"].([]any)) > limit {
					t.Fatalf("%s: %+v", door, got)
				}
				all = append(all, idsOf(got)...)
				before = got.body["next"]
			}
			if diff := cmp.Diff(newestFirst, all); diff != "" {
				t.Errorf("%s by %d: %s", door, limit, diff)
			}
		}
	}
	for query, want := range map[string]string{
		"": `SELECT true`,
		"status=&platform=&reason=&before=&limit=": `SELECT true`,
		"status=failed":               `SELECT status = 'failed'`,
		"status=pending":              `SELECT false`,
		"reason=webhook_timeout":      `SELECT status = 'failed'`,
		"platform=instagram":          `SELECT true`,
		"platform=tiktok":             `SELECT false`,
		"before=2024-01-15T10:01:00Z": `SELECT created_at < '2024-01-15T10:01:00Z'`,
		"before=2024-01-15T11:01:00%2B01:00&status=success": `SELECT created_at < '2024-01-15T10:01:00Z' AND status = 'success'`,
	} {
		want = w.text(`SELECT coalesce(string_agg(id::text, ' ' ORDER BY created_at DESC, id DESC) FILTER (WHERE (` + want + `)), '') FROM publish_logs`)
		if got := s.ask("GET", "/publishing/logs?"+query, ""); strings.Join(idsOf(got), " ") != want || got.body["next"] != nil {
			t.Errorf("%s: %+v", query, got)
		}
	}
}

func idsOf(page answer) []string {
	ids := []string{}
	logs, _ := page.body["logs"].([]any)
	for _, log := range logs {
		ids = append(ids, log.(map[string]any)["id"].(string))
	}
	return ids
}

// NATS carries a megabyte: a page of large rows ends early, and the next one goes on.
func TestListOfLargeRows(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve()
	want := []string{}
	for i := range 10 {
		want = append(want, w.publish(fmt.Sprint(i), "failed", `{"large":"`+strings.Repeat("x", 200_000)+`"}`, 0))
	}
	one := w.publish("one", "failed", `{"large":"`+strings.Repeat("x", 2<<20)+`"}`, 0)
	pages, all := 0, []string{}
	w.exec(`UPDATE publish_logs SET created_at = now() + interval '1 hour' WHERE id = $1`, one)
	got := w.request("log", fmt.Sprintf(`{"log_id":%q}`, one))
	if got.status != http.StatusRequestEntityTooLarge {
		t.Errorf("%+v", got)
	}
	contains(t, got.error(), "and the NATS server takes 1048576: ask for less, or over HTTP")
	for next := any(one); next != nil; pages++ {
		got := w.request("logs", fmt.Sprintf(`{"before":%q}`, next))
		all = append(all, idsOf(got)...)
		next = got.body["next"]
	}
	slices.Sort(all)
	slices.Sort(want)
	if diff := cmp.Diff(want, all); diff != "" || pages != 5 {
		t.Errorf("%d pages: %s", pages, diff)
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve("--platform-timeouts=tiktok=10m")
	s.swept()
	for platform, ages := range map[string][]time.Duration{"instagram": {0, time.Hour}, "tiktok": {5 * time.Minute, 11 * time.Minute, time.Hour}} {
		for _, age := range ages {
			w.exec(`UPDATE publish_logs SET platform = $2 WHERE id = $1`, w.publish("post", "processing", `{}`, 0), platform)
			w.exec(`UPDATE publish_logs SET updated_at = now() - $1::interval WHERE updated_at > now() - interval '1 minute' AND platform = $2`, age, platform)
		}
	}
	w.publish("done", "success", `{}`, time.Hour)
	for _, at := range []string{"-infinity", "4000-01-01 BC", "20000-01-01", "infinity"} { // publishers write what they like
		w.exec(`UPDATE publish_logs SET platform = 'odd', updated_at = $2::timestamptz WHERE id = $1`, w.publish("odd", "processing", `{"webhook_received": true}`, 0), at)
	}
	if _, err := w.nats.JetStream(t).Publish(t.Context(), "publish.webhook.youtube", []byte(`{"external_post_id":"nobody's","status":"published"}`)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.nats.JetStream(t).Publish(t.Context(), "publish.webhook.youtube", []byte(`{`)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "one is parked and one is dead", func() bool {
		got := s.ask("GET", "/publishing/status", "")
		return got.body["parked_webhooks"] == 1.0 && got.body["dead_letters"] == 1.0
	})
	for door, got := range map[string]answer{"HTTP": s.ask("GET", "/publishing/status", ""), "NATS": w.request("status", "")} {
		if diff := cmp.Diff(map[string]any{"postgres": "ok", "nats": "ok", "consumers": "ok"}, got.body["ready"]); diff != "" || got.status != 200 {
			t.Errorf("%s: %d: %s", door, got.status, diff)
		}
		counts := map[string][2]any{}
		for _, p := range got.body["platforms"].([]any) {
			p := p.(map[string]any)
			if p["platform"] == "odd" {
				if p["open"] != 4.0 || p["due"] != 3.0 || p["oldest_update"] != nil {
					t.Errorf("%s: %v", door, p)
				}
				continue
			}
			counts[p["platform"].(string)] = [2]any{p["open"], p["due"]}
			if at, err := time.Parse(time.RFC3339, p["oldest_update"].(string)); err != nil || (time.Since(at)-time.Hour).Abs() > time.Minute {
				t.Errorf("%s: oldest update is %v", door, p["oldest_update"])
			}
		}
		if diff := cmp.Diff(map[string][2]any{"instagram": {2.0, 0.0}, "tiktok": {3.0, 2.0}}, counts); diff != "" {
			t.Errorf("%s: %s", door, diff)
		}
		next, _ := got.body["next_sweep"].(map[string]any)
		if _, err := time.Parse(time.RFC3339, fmt.Sprint(next["at"])); err != nil || got.body["version"] != version() {
			t.Errorf("%s: %+v", door, got.body)
		}
	}
}
