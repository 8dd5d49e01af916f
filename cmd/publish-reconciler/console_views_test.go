package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// The README's pictures: go test ./cmd/publish-reconciler -run TestConsoleViews -pictures console/pictures.
var pictures = flag.String("pictures", "", "where to keep pictures of the page's views")

// pictured are the views of the README with the height of their windows; of the others nothing is kept.
var pictured = map[string]int64{"overview-light": 1010, "log-light": 760, "attention-dark": 760}

// maxPicture is what a picture may weigh, in bytes.
const maxPicture = 60_000

// aDay fills the world with a day of a small service, and returns a log with a history.
func (w *world) aDay() (id string) {
	w.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	const confirm = `
WITH log AS (
    INSERT INTO publish_logs (platform, status, external_post_id, extra_metadata, created_at, updated_at, published_at)
    VALUES ($1, $2, $3, jsonb_build_object('reconciliation_reason', $4::text), now() - $5::interval, now() - $5::interval, now() - $5::interval)
    RETURNING id, platform, updated_at
)
INSERT INTO ledger_events (timestamp, event_type, severity, entity_type, entity_id, metadata)
SELECT log.updated_at, 'publish_reconciled', 'info', 'publish_log', log.id, jsonb_build_object(
           'platform', log.platform, 'action', 'marked_' || $2::text, 'reason', $4::text, 'trigger', 'webhook', 'timeout_minutes', $6::float8,
           'deadline', to_char((log.updated_at - $7::interval + $6::float8 * interval '1 minute') AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
  FROM log`
	for i := range 700 {
		platform := []string{"instagram", "instagram", "tiktok", "youtube"}[i%4]
		status, reason := "success", "webhook_confirmed"
		switch {
		case i%41 == 0:
			status, reason = "failed", "webhook_rejected"
		case i%23 == 0 || platform == "tiktok" && i%4 == 2 && i > 640 && i%3 == 0:
			status, reason = "failed", "webhook_timeout"
		}
		ago := time.Duration(float64(24*time.Hour) * (1 - float64(i)/700) * (0.9 + 0.1*random.Float64()))
		took := time.Duration((20 + 90*random.ExpFloat64()) * float64(time.Second))
		w.exec(confirm, platform, status, fmt.Sprintf("%s_%05d", platform, 48_000+i), reason, ago, 10.0, min(took, 9*time.Minute+50*time.Second))
	}
	for i := range 24 {
		platform := []string{"instagram", "tiktok", "youtube"}[i%3]
		w.exec(`INSERT INTO publish_logs (platform, status, external_post_id, updated_at, created_at)
		        VALUES ($1, 'processing', $2, now() - $3::interval, now() - $3::interval)`, platform, fmt.Sprintf("%s_%05d", platform, 49_000+i), time.Duration(i)*20*time.Second)
	}
	id = "0198f3c2-7d1e-7a40-9c55-3b1f6e0d9a21"
	w.exec(`INSERT INTO publish_logs (id, platform, status, external_post_id, external_url, extra_metadata, created_at, updated_at, requested_at, published_at)
	        VALUES ($1, 'tiktok', 'success', 'tiktok_video_67890', 'https://www.tiktok.com/@user/video/123', '{"complete": true, "reconciled": true, "reconciled_at": "2026-11-27T09:41:07Z",
	                "reconciliation_reason": "webhook_late", "reconciliation_trigger": "webhook", "task_id": "task_abc123", "video_url": "https://www.tiktok.com/@user/video/123",
	                "webhook_platform": "tiktok", "webhook_received": true, "webhook_status": "published", "webhook_timestamp": "2026-11-27T09:41:07Z"}',
	                now() - interval '32 minutes', now() - interval '4 minutes', now() - interval '32 minutes', now() - interval '4 minutes')`, id)
	for _, event := range []struct {
		ago            time.Duration
		kind, severity string
		metadata       string
	}{
		{18 * time.Minute, "publish_check_requested", "info", `{"platform": "tiktok", "actor": "ana", "status": "processing"}`},
		{17 * time.Minute, "publish_reconciled", "warn", `{"platform": "tiktok", "action": "marked_failed", "reason": "webhook_timeout", "timeout_minutes": 10, "trigger": "check", "probe": "no_answer"}`},
		{4*time.Minute + time.Second, "publish_webhook_received", "info", `{"platform": "tiktok", "webhook_status": "published"}`},
		{4 * time.Minute, "publish_reconciled", "info", `{"platform": "tiktok", "action": "marked_success", "reason": "webhook_late", "trigger": "webhook", "webhook_status": "published"}`},
	} {
		w.exec(`INSERT INTO ledger_events (timestamp, event_type, severity, entity_type, entity_id, metadata)
		        VALUES (now() - $1::interval, $2, $3, 'publish_log', $4, $5::text::jsonb)`, event.ago, event.kind, event.severity, id, event.metadata)
	}
	const unclear = `INSERT INTO publish_logs (id, platform, status, external_post_id, extra_metadata, created_at, updated_at)
	                 VALUES ($1, 'tiktok', 'processing', $2, '{"webhook_received": true, "webhook_status": "in_review"}', now() - interval '40 minutes', now() - interval '31 minutes')`
	for i, skipped := range []string{"0198f3c2-7d1e-7a40-9c55-3b1f6e0d9a22", "0198f3c2-7d1e-7a40-9c55-3b1f6e0d9a23"} {
		w.exec(unclear, skipped, fmt.Sprintf("tiktok_video_6779%d", i))
		w.exec(`INSERT INTO ledger_events (event_type, severity, entity_type, entity_id, metadata)
		        VALUES ('publish_reconcile_skipped', 'warn', 'publish_log', $1, '{"reason": "webhook_unclear", "webhook_status": "in_review", "trigger": "sweep"}')`, skipped)
	}
	w.exec(`INSERT INTO parked_webhooks (id, platform, external_post_id, payload, received_at)
	        VALUES (gen_random_uuid(), 'youtube', 'youtube_video_XYZ789', '{"videoId": "dQw4w9WgXcQ", "status": "published", "publishAt": "2024-01-15T10:30:00Z"}', now() - interval '90 seconds')`)
	return id
}

// audit is what a view gets wrong, in words. Contrast is WCAG 2.2's, 1.4.3.
const audit = `(() => {
	const wrong = [];
	if (document.scrollingElement.scrollWidth > innerWidth) wrong.push("it is wider than its window: " + document.scrollingElement.scrollWidth);
	if (document.querySelectorAll("h1").length !== 1) wrong.push("it has not one h1");
	if (!document.documentElement.lang || !document.title) wrong.push("it has no language or title");
	const ids = [...document.querySelectorAll("[id]")].map(e => e.id);
	for (const id of ids) if (ids.filter(other => other === id).length > 1) wrong.push("twice: " + id);
	for (const e of document.querySelectorAll("input:not([type=hidden]), select, textarea")) if (!e.labels.length) wrong.push("no label: " + e.outerHTML);
	for (const e of document.querySelectorAll("a, button")) if (!e.textContent.trim()) wrong.push("no words: " + e.outerHTML);
	for (const e of document.querySelectorAll("[aria-labelledby], [aria-describedby]"))
		for (const id of (e.getAttribute("aria-labelledby") ?? e.getAttribute("aria-describedby")).split(" ")) if (!document.getElementById(id)) wrong.push("nothing is " + id);
	for (const e of document.querySelectorAll("nav")) if (!e.querySelector("a")) wrong.push("nothing in " + e.outerHTML);
	for (const e of document.querySelectorAll("[tabindex='0']")) if (!e.role || !e.ariaLabel && !e.hasAttribute("aria-labelledby")) wrong.push("no name: " + e.outerHTML);
	const regions = [...document.querySelectorAll("[role=region]")].map(e => e.ariaLabel);
	if (new Set(regions).size < regions.length) wrong.push("regions of the same name: " + regions);
	const channels = c => c.match(/[\d.]+/g).map(Number);
	const light = ([r, g, b]) => [r, g, b].map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
	const ground = e => { for (; e; e = e.parentElement) { const c = channels(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
	for (const e of document.body.querySelectorAll("*")) {
		if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) || !e.checkVisibility() || e.closest("option")) continue;
		const [a, b] = [light(channels(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
		const contrast = (a + 0.05) / (b + 0.05);
		if (contrast < 4.5) wrong.push("contrast " + contrast.toFixed(2) + ": " + e.textContent.trim().slice(0, 40));
	}
	return wrong;
})()`

func TestConsoleViews(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.aDay()
	s := w.serve("--platform-timeouts=instagram=10m;tiktok=10m;youtube=15m", "--sweep-interval=24h")
	for _, body := range []string{`{"external_post_id":`, `{"status":"published","caption":"<script>alert(1)</script>"}`, `["tt_1"]`} {
		w.die(s, body)
	}
	views := map[string]string{
		"overview": "/", "logs": "/logs?platform=tiktok", "search": "/logs?q=youtube_video_XYZ789", "log": "/logs/" + id,
		"override": "/logs/" + id + "/override?status=failed", "check": "/logs/" + id + "/check", "attention": "/attention", "parked": "/attention/parked",
		"letters": "/attention/letters?kind=webhook", "letter": "/attention/letters/2", "replay": "/attention/letters/replay", "drop": "/attention/letters/drop?seq=1",
		"reconcile": "/reconcile", "nothing": "/logs/" + unknownLog,
	}
	v := s.visit()
	for name, path := range views {
		v.open(path)
		if name == "overview" {
			v.do(chromedp.WaitVisible(".uplot canvas"))
		}
		for _, scheme := range []string{"light", "dark"} {
			for width, device := range map[int64]string{1100: "", 360: "-phone"} {
				what := name + "-" + scheme + device
				v.do(emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}),
					emulation.SetDeviceMetricsOverride(width, pictured[what], 1, false))
				for _, wrong := range eval[[]string](v, audit) {
					t.Errorf("%s: %s", what, wrong)
				}
				if pictured[what] == 0 {
					continue
				}
				picture := v.picture()
				if len(picture) > maxPicture {
					t.Errorf("the picture of %s weighs %d bytes", what, len(picture))
				}
				if *pictures == "" {
					continue
				}
				if err := os.WriteFile(filepath.Join(*pictures, what+".webp"), picture, 0o644); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

// picture is what the window shows, as WebP.
func (v *visitor) picture() (image []byte) {
	v.Helper()
	v.do(chromedp.ActionFunc(func(ctx context.Context) (err error) {
		image, err = page.CaptureScreenshot().WithFormat(page.CaptureScreenshotFormatWebp).WithQuality(70).Do(ctx)
		return err
	}))
	return image
}
