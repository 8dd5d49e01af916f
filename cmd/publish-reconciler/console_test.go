package main

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/nats-io/nats.go"

	"publish-reconciler/streams"
)

// die publishes a webhook that is a dead letter within a moment.
func (w *world) die(s served, body string) {
	w.Helper()
	before, _ := s.ask("GET", "/publishing/status", "", "Authorization", "Bearer hush").body["dead_letters"].(float64)
	if err := w.client().Publish(streams.WebhookSubject("tiktok"), []byte(body)); err != nil {
		w.Fatal(err)
	}
	eventually(w, "a dead letter", func() bool {
		dead, _ := s.ask("GET", "/publishing/status", "", "Authorization", "Bearer hush").body["dead_letters"].(float64)
		return dead > before
	})
}

func TestConsoleFindsALogAndOverridesIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve()
	failed := w.publish("ig_failed", "failed", `{"reconciliation_reason": "webhook_timeout"}`, time.Hour)
	w.publish("ig_open", "processing", `{}`, 0)
	w.exec(`UPDATE publish_logs SET external_url = 'https://instagram.com/p/ABC/' WHERE id = $1`, failed)
	w.exec(`INSERT INTO publish_logs (platform, status, external_post_id) VALUES ('youtube', 'success', 'ig_open')`)
	v := s.visit()

	v.open("/logs")
	v.hasRows("ig_open", "ig_open", "ig_failed")
	// A filter's address can be handed on.
	v.leave(chromedp.SetValue("#status", "failed"), chromedp.SetValue("#reason", "webhook_timeout"), chromedp.Submit("#status"))
	v.hasRows("ig_failed")
	contains(t, v.at(), "reason=webhook_timeout")
	v.leave(chromedp.Click(`//a[.="Show all"]`, chromedp.BySearch))
	v.leave(chromedp.SendKeys("#platform", "youtube"+kb.Enter))
	v.hasRows("ig_open")

	// A post is found on every platform, a log by its id.
	v.leave(chromedp.SendKeys("#q", "ig_open"+kb.Enter))
	v.hasRows("ig_open", "ig_open")
	v.leave(chromedp.SendKeys("#q", strings.Repeat(kb.Backspace, 7)+"nothing_like_it"+kb.Enter))
	v.sees("No log matches")
	v.leave(chromedp.SetValue("#q", failed), chromedp.Submit("#q"))
	if v.at() != "/logs/"+failed {
		t.Errorf("a log's id leads to %s", v.at())
	}
	v.sees("instagram: ig_failed", "webhook timeout")
	if rel := eval[string](v, `document.querySelector('a[href="https://instagram.com/p/ABC/"]').rel`); rel != "noopener noreferrer nofollow" {
		t.Errorf("the link to the post is %q", rel)
	}

	v.follow("Mark as success")
	v.sees("Mark as success?", "from failed to success")
	if got := w.status(failed); got != "failed" {
		t.Errorf("it is %s before anybody confirmed", got)
	}
	// The browser wants a name; the server does, too.
	v.do(chromedp.Evaluate(`document.querySelector("#actor").required = false`, nil))
	v.follow("Mark as success")
	v.sees("actor is 0 bytes long: it must name who overrides")
	v.do(chromedp.SendKeys("#actor", "ana"), chromedp.SendKeys("#note", "seen live"))
	v.follow("Mark as success")
	v.sees("The log was overridden.", "success", "Overridden by ana", "seen live")
	if got := w.status(failed); got != "success" {
		t.Errorf("it is %s", got)
	}
	const ledger = `SELECT metadata->>'actor' || ' ' || (metadata->>'note') FROM ledger_events WHERE entity_id = $1 AND event_type = 'publish_overridden'`
	if told := w.text(ledger, failed); told != "ana seen live" {
		t.Errorf("the ledger tells %q", told)
	}
}

func TestConsoleChecksALog(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve("--platform-timeouts=instagram=1m")
	s.swept()
	id := w.publish("ig_1", "processing", `{}`, time.Hour)
	v := s.visit()
	v.open("/logs/" + id)
	v.follow("Check now")
	v.do(chromedp.SendKeys("#actor", "ana"))
	v.follow("Check now")
	v.sees("A check was asked for.", "Check asked for by ana")
	eventually(t, "the log is closed", func() bool { return w.status(id) == "failed" })
	v.do(chromedp.Reload())
	v.sees("Marked failed", "Check asked for by ana")
	v.open("/logs/" + unknownLog + "/check")
	v.sees("no such log")
}

func TestConsoleReplaysDeadLetters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve()
	for _, body := range []string{`{"external_post_id":`, `{"external_post_id":[]}`, `{"status":"published"}`} {
		w.die(s, body)
	}
	v := s.visit()
	v.open("/attention")
	v.sees("Dead letters", "malformed json", "publish.webhook.tiktok")

	// One: it dies again, as a letter of its own.
	v.leave(chromedp.Click(`//main//tbody//a[.="1"]`, chromedp.BySearch))
	v.sees("Dead letter 1", `{"external_post_id":`)
	v.follow("Replay")
	v.sees("Replay 1 dead letter?", "malformed json")
	v.follow("Replay 1 letter")
	v.sees("1 letter replayed.")
	g := &graveyard{world: w, js: w.nats.JetStream(t)}
	eventually(t, "the letter that died again", func() bool { return strings.Join(g.left(), " ") == "2 3 4" })

	// All that match, and no others.
	v.open("/attention/letters?reason=missing_external_post_id")
	v.hasRows("3")
	v.follow("Drop all that match")
	v.sees("Drop 1 dead letter?", "There is no way back")
	if left := strings.Join(g.left(), " "); left != "2 3 4" {
		t.Errorf("before anybody confirmed there are %s", left)
	}
	v.follow("Drop 1 letter")
	v.sees("1 letter dropped.")
	if left := strings.Join(g.left(), " "); left != "2 4" {
		t.Errorf("there are %s", left)
	}
	v.open("/attention/letters")
	v.follow("Drop all")
	v.sees("Drop 2 dead letters?")
	w.die(s, `{"external_post_id":`) // after the count
	v.follow("Drop 2 letters")
	v.sees("2 letters dropped.")
	if left := strings.Join(g.left(), " "); left != "5" {
		t.Errorf("there are %s: what died after the count is to stay", left)
	}
}

func TestConsoleLogin(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve("--api-token=hush")
	v := s.visit()
	v.open("/logs?status=failed")
	if at := v.at(); at != "/login?next=%2Flogs%3Fstatus%3Dfailed" {
		t.Errorf("without a session it leads to %s", at)
	}
	if n := eval[int](v, `document.querySelectorAll("nav, [role=search]").length`); n != 0 {
		t.Error("the page shows its parts to a stranger")
	}
	v.leave(chromedp.SendKeys("#token", "hus"+kb.Enter))
	v.sees("That is not the API token.")
	v.leave(chromedp.SendKeys("#token", "hush"+kb.Enter))
	if at := v.at(); at != "/logs?status=failed" {
		t.Errorf("a login leads to %s", at)
	}
	var cookies []*network.Cookie
	v.do(chromedp.ActionFunc(func(ctx context.Context) (err error) {
		cookies, err = network.GetCookies().Do(ctx)
		return err
	}))
	if len(cookies) != 1 || !cookies[0].HTTPOnly || cookies[0].SameSite != network.CookieSameSiteStrict || cookies[0].Secure || strings.Contains(cookies[0].Value, "hush") {
		t.Fatalf("cookies are %+v", cookies)
	}
	if left := time.Until(time.Unix(int64(cookies[0].Expires), 0)); left < 11*time.Hour || left > 13*time.Hour {
		t.Errorf("the session ends in %s", left)
	}
	// A session is nothing to the API.
	if got := s.ask("GET", "/publishing/logs", "", "Cookie", "publish_session="+cookies[0].Value); got.status != http.StatusUnauthorized {
		t.Errorf("the API takes a session: %+v", got)
	}
	v.leave(chromedp.Click(`//button[.="Log out"]`, chromedp.BySearch))
	v.open("/")
	if at := v.at(); at != "/login" {
		t.Errorf("after a logout it leads to %s", at)
	}
	if strings.Contains(s.stderr.String(), "hush") {
		t.Error("the token is in the log")
	}
}

// poison would run, were it not text.
const poison = `<script>window.poisoned=1</script><img src=x onerror="window.poisoned=1">"'><b>bold`

func TestConsoleEscapes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve()
	insert := func(platform, post, status, address string) string {
		return w.text(`INSERT INTO publish_logs (platform, status, external_post_id, external_url, error_message, extra_metadata)
		               VALUES ($1, $2, $3, $4, $5, jsonb_build_object('caption', $5::text, 'webhook_received', true, 'webhook_status', $5::text, 'reconciliation_reason', $5::text))
		               RETURNING id::text`, platform, status, post, address, poison)
	}
	id := insert(poison, poison, "failed", "javascript:window.poisoned=1")
	insert(poison, "open", "processing", "")
	w.exec(`INSERT INTO ledger_events (event_type, severity, entity_type, entity_id, metadata)
	        SELECT t, 'warn', 'publish_log', $1, jsonb_build_object('action', $2::text, 'actor', $2::text, 'note', $2::text, $2::text, $2::text)
	          FROM unnest(ARRAY['publish_reconciled', 'publish_overridden', $2]) t`, id, poison)
	w.exec(`INSERT INTO parked_webhooks (id, platform, external_post_id, payload, received_at)
	        VALUES (gen_random_uuid(), $1, $1 || ' without a log', jsonb_build_object($1::text, $1::text), now())`, poison)
	letter := nats.NewMsg("publish.dead.webhook")
	letter.Data = []byte(poison)
	for _, name := range []string{streams.HeaderDeadReason, streams.HeaderDeadError, streams.HeaderDeadSubject, streams.HeaderDeadStream, "X-Caption"} {
		letter.Header.Set(name, poison)
	}
	if _, err := w.nats.JetStream(t).PublishMsg(t.Context(), letter); err != nil {
		t.Fatal(err)
	}
	v := s.visit()
	search := url.Values{"q": {poison + " without a log"}, "platform": {poison}}.Encode()
	for _, path := range []string{
		"/", "/logs", "/logs?" + search, "/logs/" + id, "/logs/" + id + "/override?status=success", "/logs/" + id + "/check",
		"/attention", "/attention/parked", "/attention/letters", "/attention/letters/1", "/attention/letters/replay?seq=1",
	} {
		v.open(path)
		v.sees(`<script>window.poisoned=1</script>`)
		if eval[bool](v, `"poisoned" in window || document.querySelector("main b, main img, main script, a[href^='javascript:']") !== null`) {
			t.Errorf("%s takes what others wrote for its own", path)
		}
	}
	for _, path := range []string{"/logs?before=", "/logs?reason=", "/attention/letters?kind=", "/attention/letters?since=", "/logs/", "/login?next="} {
		v.open(path + url.PathEscape(poison))
		if eval[bool](v, `"poisoned" in window || document.querySelector("main b, main img, main script") !== null`) {
			t.Errorf("%s takes what an address holds for its own", path)
		}
	}
}

// What comes by the live update is text, too.
func TestConsoleEscapesWhatIsLive(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	v := w.serve().visit()
	v.open("/")
	w.exec(`INSERT INTO publish_logs (platform, status, external_post_id) VALUES ($1, 'processing', 'open')`, poison)
	eventually(t, "the platform", func() bool { return len(v.rows()) == 1 })
	v.hasRows(poison)
	w.exec(`INSERT INTO publish_logs (platform, status, external_post_id) VALUES ($1, 'processing', 'open')`, poison+"er")
	eventually(t, "another platform", func() bool { return len(v.rows()) == 2 })
	v.hasRows(poison, poison+"er")
	if eval[bool](v, `"poisoned" in window || document.querySelector("main b, main img, main script") !== null`) {
		t.Error("the page takes what others wrote for its own")
	}
}

func TestConsoleByKeyboard(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve()
	id := w.publish("ig_1", "processing", `{}`, 0)
	v := s.visit()
	focus := func() string {
		return eval[string](v, `(e => (e.innerText || e.id || e.tagName).trim())(document.activeElement)`)
	}
	// tab goes on to what has these words or this id.
	tab := func(words string) {
		t.Helper()
		var passed []string
		for range 60 {
			v.do(chromedp.KeyEvent(kb.Tab))
			at := focus()
			if strings.HasPrefix(at, words) {
				if !eval[bool](v, `document.activeElement.matches(":focus-visible") && getComputedStyle(document.activeElement).outlineStyle !== "none"`) {
					t.Errorf("nobody sees that the focus is on %s", at)
				}
				return
			}
			passed = append(passed, at)
		}
		t.Fatalf("Tab never comes to %s, but to %q", words, passed)
	}
	v.open("/")
	v.do(chromedp.KeyEvent(kb.Tab))
	if at := focus(); at != "Skip to the content" {
		t.Errorf("the first is %s", at)
	}
	v.do(chromedp.KeyEvent(kb.Enter))
	if at := eval[string](v, `document.activeElement.id`); at != "main" {
		t.Errorf("it skips to %s", at)
	}
	v.open("/")
	tab("q")
	v.leave(chromedp.KeyEvent("ig_1" + kb.Enter))
	tab("ig_1")
	v.leave(chromedp.KeyEvent(kb.Enter))
	tab("Mark as failed")
	v.leave(chromedp.KeyEvent(kb.Enter))
	tab("actor")
	v.do(chromedp.KeyEvent("ana"))
	tab("note")
	tab("Mark as failed")
	v.leave(chromedp.KeyEvent(kb.Enter))
	v.sees("Overridden by ana")
	if got := w.status(id); got != "failed" {
		t.Errorf("the log is %s", got)
	}
}

func TestConsoleReadOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve("--console=readonly")
	id := w.publish("ig_1", "processing", `{}`, 0)
	w.die(s, `no JSON`)
	v := s.visit()
	for _, path := range []string{"/", "/logs", "/logs/" + id, "/attention", "/attention/letters", "/attention/letters/1", "/reconcile"} {
		v.open(path)
		contains(t, eval[string](v, `document.body.innerText`), "read-only")
		if n := eval[int](v, `document.querySelectorAll("form[method=post]").length`); n != 0 {
			t.Errorf("%s has %d forms that change something", path, n)
		}
		if links := eval[string](v, `[...document.querySelectorAll("main a.button")].map(a => a.innerText).join()`); links != "" {
			t.Errorf("%s leads to %s", path, links)
		}
	}
	for _, path := range []string{"/logs/" + id + "/override?status=failed", "/logs/" + id + "/check", "/attention/letters/replay?seq=1", "/attention/letters/drop?seq=1"} {
		if got := s.get("GET", path, ""); got.status != http.StatusForbidden || !strings.Contains(got.text, "read-only") {
			t.Errorf("GET %s: %d %s", path, got.status, got.text)
		}
	}
	for _, path := range []string{"/logs/" + id + "/override", "/logs/" + id + "/check", "/attention/letters/replay", "/attention/letters/drop", "/reconcile"} {
		if status, text := s.post(path, url.Values{"status": {"failed"}, "actor": {"ana"}, "seq": {"1"}, "since_minutes": {"1"}}); status != http.StatusForbidden || !strings.Contains(text, "read-only") {
			t.Errorf("POST %s: %d %s", path, status, text)
		}
	}
	if got := w.status(id); got != "processing" {
		t.Errorf("the log is %s", got)
	}
}
