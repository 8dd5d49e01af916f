package main

import (
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

func TestConsoleIsLive(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve()
	w.publish("ig_1", "processing", `{}`, 0)
	v := s.visit()
	v.open("/")
	v.do(chromedp.Evaluate(`window.same = true`, nil), chromedp.WaitVisible(".uplot canvas"))
	open := func(n string) bool {
		return eval[string](v, `document.querySelector("[data-key='0-open']").innerText`) == n
	}
	eventually(t, "one open log", func() bool { return open("1") })
	for _, post := range []string{"ig_2", "ig_3"} {
		w.publish(post, "processing", `{}`, 0)
	}
	eventually(t, "three open logs", func() bool { return open("3") })

	// Another platform is another row, and the focus stays where it is.
	v.do(chromedp.Focus(`[data-key="0-name"]`))
	w.exec(`INSERT INTO publish_logs (platform, status, external_post_id) VALUES ('youtube', 'processing', 'yt_1')`)
	eventually(t, "another platform", func() bool { return len(v.rows()) == 2 })
	if focused := eval[string](v, `document.activeElement.innerText`); focused != "instagram" {
		t.Errorf("the focus is on %q", focused)
	}
	// Nor does the table jump back, or its links lead elsewhere than they say.
	v.do(emulation.SetDeviceMetricsOverride(400, 800, 1, false), chromedp.Evaluate(`document.querySelector("main .scroll").scrollLeft = 50`, nil))
	w.exec(`INSERT INTO publish_logs (platform, status, external_post_id) VALUES ('facebook', 'processing', 'fb_1')`)
	eventually(t, "a platform above it", func() bool { return len(v.rows()) == 3 })
	v.hasRows("facebook", "instagram", "youtube")
	if links := eval[string](v, `[...document.querySelectorAll("tbody th a")].map(a => new URL(a.href).search).join()`); links != "?platform=facebook,?platform=instagram,?platform=youtube" {
		t.Errorf("the links are %s", links)
	}
	if focused := eval[string](v, `document.activeElement.innerText`); focused != "instagram" {
		t.Errorf("the focus is on %q", focused)
	}
	if at := eval[int](v, `document.querySelector("main .scroll").scrollLeft`); at != 50 {
		t.Errorf("the table is scrolled by %d", at)
	}
	w.die(s, `no JSON`)
	eventually(t, "the headline", func() bool { return strings.Contains(v.text(), "1 dead letter waits.") })
	if !eval[bool](v, `window.same === true`) {
		t.Error("the page was loaded anew")
	}
}

// Who looks at old figures is told so, by a page that is live again once it can be.
func TestConsoleIsNotLive(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve("--api-token=hush")
	v := s.visit()
	session := func(end time.Duration) {
		t.Helper()
		v.do(network.SetCookie("publish_session", sessionUntil("hush", time.Now().Add(end))).WithURL(s.url))
	}
	told := func() string { return eval[string](v, `document.querySelector("#not-live[role=status]").innerText`) }
	asOf := func() string { return eval[string](v, `document.getElementById("as-of").innerText`) }
	session(time.Hour)
	v.open("/")
	first := asOf()
	eventually(t, "a later moment", func() bool { return asOf() > first })
	if told() != "" {
		t.Errorf("live as it is, the page says %q", told())
	}

	session(4 * time.Second)
	v.do(chromedp.Reload())
	eventually(t, "the end of the session", func() bool { return strings.HasPrefix(told(), "Not live since 20") })
	contains(t, told(), asOf())
	if !eval[bool](v, `document.getElementById("live").classList.contains("stale")`) {
		t.Error("old figures look as if they were new")
	}
	session(time.Hour)
	eventually(t, "to be live again", func() bool { return told() == "" })

	session(-time.Hour)
	v.do(chromedp.Reload())
	v.sees("Log in")
}

// An answer to a form is not asked for again by the way back to it: that would send the form once more.
func TestConsoleWayBack(t *testing.T) {
	t.Parallel()
	s := newWorld(t).serve()
	v := s.visit()
	const back = `window.same = true; window.dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true }))`
	v.open("/reconcile")
	v.follow("Reconcile now")
	v.sees("Done in")
	v.do(chromedp.Evaluate(back, nil))
	v.sees("Done in")
	if !eval[bool](v, `window.same === true`) {
		t.Error("the form was sent again")
	}
	v.open("/logs")
	v.leave(chromedp.Evaluate(back, nil))
	v.sees("No log matches")
}
