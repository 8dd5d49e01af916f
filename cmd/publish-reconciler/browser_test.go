package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/google/go-cmp/cmp"
)

// browsers are the usual names of Chromium and Chrome, those first that have no window.
var browsers = []string{
	"chromium-headless-shell", "chrome-headless-shell", "headless_shell", "headless-shell",
	"chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome",
	"/Applications/Google Chrome.app/Contents/MacOS/Google Chrome", "/Applications/Chromium.app/Contents/MacOS/Chromium",
}

// findBrowser returns the machine's own browser. None is fetched where there is none, as Postgres is: those that a registry
// has need libraries that a bare machine lacks, too.
var findBrowser = sync.OnceValues(func() (string, error) {
	for _, name := range browsers {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("the page is tested in a browser, and there is none: install Chromium or Chrome (on Debian: apt-get install chromium-headless-shell fonts-dejavu-core)")
})

// seats bounds how many browsers there are at the same time: each of them is a dozen threads that paint, and others have
// something to do, too.
var seats = make(chan struct{}, 2)

// visitor is somebody with a browser of its own, who has nothing in it that went wrong.
type visitor struct {
	testing.TB
	ctx context.Context //nolint:containedctx // chromedp's way: the browser's tab
	url string

	mu     sync.Mutex
	faults []string
}

// visit opens a browser at the service's page.
func (s served) visit() *visitor {
	s.Helper()
	path, err := findBrowser()
	if err != nil {
		s.Fatal(err)
	}
	seats <- struct{}{}
	s.Cleanup(func() { <-seats })
	allocator, stop := chromedp.NewExecAllocator(context.Background(), append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.WSURLReadTimeout(soon),
		chromedp.Flag("force-color-profile", "srgb"), chromedp.Flag("hide-scrollbars", false))...)
	silent := func(string, ...any) {} // it complains of messages that are newer than it
	ctx, _ := chromedp.NewContext(allocator, chromedp.WithErrorf(silent), chromedp.WithLogf(silent))
	s.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil { // it returns when the browser has ended, which would outlive the tests
			s.Errorf("close the browser: %v", err)
		}
		stop()
	})
	v := &visitor{TB: s.TB, ctx: ctx, url: s.url}
	chromedp.ListenTarget(ctx, v.listen)
	v.do(log.Enable(), runtime.Enable(), network.Enable(), emulation.SetDeviceMetricsOverride(1200, 800, 1, false))
	s.Cleanup(func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		for _, fault := range v.faults {
			s.Errorf("the browser says: %s", fault)
		}
	})
	return v
}

// listen notes scripts that fail, and what the Content-Security-Policy refused.
func (v *visitor) listen(event any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		v.faults = append(v.faults, e.ExceptionDetails.Error())
	case *log.EventEntryAdded:
		// What a server answers with is looked at in the pages.
		if e.Entry.Level == log.LevelError && e.Entry.Source != log.SourceNetwork {
			v.faults = append(v.faults, e.Entry.Text)
		}
	}
}

// try gives up after a while: the first call must have no limit of its own, which would be the browser's.
func (v *visitor) try(actions ...chromedp.Action) error {
	done := make(chan error, 1)
	go func() { done <- chromedp.Run(v.ctx, actions...) }()
	select {
	case err := <-done:
		return err
	case <-time.After(soon):
		return fmt.Errorf("not within %s", soon)
	}
}

func (v *visitor) do(actions ...chromedp.Action) {
	v.Helper()
	if err := v.try(actions...); err != nil {
		text := ""
		_ = chromedp.Run(v.ctx, chromedp.Evaluate(`document.location + "\n" + document.body.innerText`, &text))
		v.Fatalf("%v, at %s", err, text)
	}
}

func (v *visitor) open(path string) {
	v.Helper()
	v.do(chromedp.Navigate(v.url + path))
}

// follow clicks a link or a button by its words, and waits for the page behind it.
func (v *visitor) follow(words string) {
	v.Helper()
	v.leave(chromedp.Click(`//main//*[self::a or self::button][contains(normalize-space(.), "`+words+`")]`, chromedp.BySearch))
}

// leave does what leads to another page, and waits for that.
func (v *visitor) leave(actions ...chromedp.Action) {
	v.Helper()
	v.do(chromedp.ActionFunc(func(ctx context.Context) error {
		_, err := chromedp.RunResponse(ctx, actions...)
		return err
	}))
}

// eval is what JavaScript has to say.
func eval[T any](v *visitor, js string) (value T) {
	v.Helper()
	v.do(chromedp.Evaluate(js, &value))
	return value
}

func (v *visitor) text() string {
	v.Helper()
	return eval[string](v, `document.querySelector("main").innerText`)
}

func (v *visitor) at() string {
	v.Helper()
	return strings.TrimPrefix(eval[string](v, `document.location.href`), v.url)
}

func (v *visitor) sees(parts ...string) {
	v.Helper()
	for _, part := range parts {
		contains(v, v.text(), part)
	}
}

// rows are the texts of the first cells of a page's table.
func (v *visitor) rows() []string {
	v.Helper()
	return eval[[]string](v, `[...document.querySelectorAll("main .scroll tbody tr")].map(row => row.cells[0].innerText.trim())`)
}

func (v *visitor) hasRows(want ...string) {
	v.Helper()
	if diff := cmp.Diff(want, v.rows()); diff != "" {
		v.Errorf("rows of %s: %s", v.at(), diff)
	}
}
