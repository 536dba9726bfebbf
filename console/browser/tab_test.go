package browser

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// patience bounds what a test does in one tab. The machine may be busy.
const patience = 5 * time.Minute

//go:embed testdata/look.js
var look string

// tab is a tab with cookies of its own, on a site. It notes what a page of the console never does.
type tab struct {
	t    *testing.T
	ctx  context.Context
	site string

	mu       sync.Mutex
	problems []string
}

// newTab opens a tab. When the test ends, what was wrong in it fails the test.
func newTab(t *testing.T, site string) *tab {
	t.Helper()
	b := openTab(t, site)
	t.Cleanup(func() {
		for _, problem := range b.noted() {
			t.Error(problem)
		}
	})
	return b
}

// openTab is newTab for tests that expect something to be wrong.
func openTab(t *testing.T, site string) *tab {
	t.Helper()
	b := &tab{t: t, site: site}
	ctx, closeTab := chromedp.NewContext(needChromium(t), chromedp.WithNewBrowserContext(), chromedp.WithListener(b.listen))
	t.Cleanup(closeTab)
	ctx, stop := context.WithTimeout(ctx, patience)
	t.Cleanup(stop)
	b.ctx = ctx
	b.do(chromedp.EmulateViewport(1200, 800))
	return b
}

func (b *tab) listen(event any) {
	switch event := event.(type) {
	case *runtime.EventExceptionThrown:
		b.note("an exception: %s", event.ExceptionDetails.Text)
	case *runtime.EventConsoleAPICalled:
		b.note("console.%s", event.Type)
	case *log.EventEntryAdded:
		if event.Entry.Level == log.EntryLevelError || event.Entry.Level == log.EntryLevelWarning {
			b.note("%s: %s %s", event.Entry.Level, event.Entry.Text, event.Entry.URL)
		}
	case *page.EventJavascriptDialogOpening:
		b.note("a dialog: %s", event.Message)
	case *network.EventRequestWillBeSent:
		if u, err := url.Parse(event.Request.URL); err != nil || u.Scheme != "data" && !strings.HasPrefix(event.Request.URL, b.site+"/") {
			b.note("a request to another host: %s", event.Request.URL)
		}
	}
}

func (b *tab) note(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.problems = append(b.problems, fmt.Sprintf(format, args...))
}

func (b *tab) noted() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.problems
}

func (b *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, steps...); err != nil {
		b.t.Fatal(b.describe(err))
	}
}

// describe adds what is in the tab.
func (b *tab) describe(err error) error {
	if !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	ctx, stop := context.WithTimeout(context.WithoutCancel(b.ctx), 5*time.Second)
	defer stop()
	text, _ := chromedp.Run(ctx, chromedp.Evaluate[string](`location.href + "\n" + document.body.innerText.slice(0, 2000)`))
	return fmt.Errorf("%w; the page is: %s", err, text)
}

// visit opens a page of the site.
func (b *tab) visit(path string) {
	b.t.Helper()
	b.do(chromedp.Navigate(b.site + path))
}

// ask evaluates an expression of JavaScript in the page, and waits for a promise.
func ask[T any](b *tab, expression string) T {
	b.t.Helper()
	value, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return value
}

// await waits until an expression is true, also if another page comes meanwhile.
func (b *tab) await(what, expression string) {
	b.t.Helper()
	for {
		is, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool]("!!("+expression+")"))
		switch {
		case is:
			return
		case b.ctx.Err() != nil:
			b.t.Fatalf("%s: %v", what, b.describe(context.DeadlineExceeded))
		case err == nil:
			b.do(chromedp.Sleep(10 * time.Millisecond))
		}
	}
}

// dark has the tab prefer dark pages, or light ones.
func (b *tab) dark(is bool) {
	b.t.Helper()
	scheme := map[bool]string{false: "light", true: "dark"}[is]
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	})
}

func call[P, R any](b *tab, command cdp.Command[P, R], params P) R {
	b.t.Helper()
	result, err := chromedp.Call(b.ctx, command, params)
	if err != nil {
		b.t.Fatal(err)
	}
	return result
}

// complaints asks one function of look.js.
func (b *tab) complaints(function string) []string {
	b.t.Helper()
	return ask[[]string](b, "("+look+")."+function+"()")
}

// unreadable returns the text that is hard to read, in light and in dark.
func (b *tab) unreadable() (complaints []string) {
	b.t.Helper()
	for _, dark := range []bool{false, true} {
		b.dark(dark)
		for _, c := range b.complaints("contrast") {
			complaints = append(complaints, map[bool]string{false: "light: ", true: "dark: "}[dark]+c)
		}
	}
	b.dark(false)
	return complaints
}

// tooWide says how the page does not fit a phone.
func (b *tab) tooWide() []string {
	b.t.Helper()
	b.do(chromedp.EmulateViewport(360, 740, chromedp.EmulateMobile))
	complaints := b.complaints("overflow")
	b.do(chromedp.EmulateViewport(1200, 800))
	return complaints
}

// unreachable says what the Tab key does not reach, or not in the order of the page.
func (b *tab) unreachable() []string {
	b.t.Helper()
	ask[chromedp.Void](b, "window.look = "+look+"; undefined")
	controls := ask[int](b, "look.startKeyboard()")
	for range controls + 5 { // what scrolls gets the focus, too
		b.do(chromedp.KeyEvent("\t"))
	}
	return ask[[]string](b, "look.endKeyboard()")
}
