package browser

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// chromium is the one browser of the tests, which has a context of its own for each of them. It starts when a test
// needs it.
var chromium = sync.OnceValues(func() (context.Context, error) {
	flags := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(os.Getenv("EZQ_CHROMIUM")), chromedp.Headless, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.NoSandbox, // it sees the pages of the tests alone, and the sandbox needs rights that containers lack
	}
	for _, name := range []string{
		"disable-quic", "disable-background-networking", "disable-component-update", "disable-sync", "disable-extensions",
		"disable-background-timer-throttling", "disable-backgrounding-occluded-windows", "disable-renderer-backgrounding",
	} {
		flags = append(flags, chromedp.Flag(name, true))
	}
	allocator, _ := chromedp.NewExecAllocator(context.Background(), flags...) // chromedp.Cancel ends it
	ctx, _ := chromedp.NewContext(allocator)
	return ctx, chromedp.Do(ctx)
})

func TestMain(m *testing.M) {
	code := m.Run()
	if os.Getenv("EZQ_CHROMIUM") != "" {
		if ctx, err := chromium(); err == nil {
			ending, stop := context.WithTimeout(ctx, time.Minute)
			if err := chromedp.Cancel(ending); err != nil {
				fmt.Fprintln(os.Stderr, "browser: the browser did not end:", err)
				code = max(code, 1)
			}
			stop()
		}
	}
	os.Exit(code)
}

// needChromium skips a test if there is no browser, saying so; or fails it if CI is set, where a skipped test would
// pass unnoticed.
func needChromium(t *testing.T) context.Context {
	t.Helper()
	switch {
	case os.Getenv("EZQ_CHROMIUM") != "":
	case os.Getenv("CI") != "":
		t.Fatal("browser tests need EZQ_CHROMIUM, and CI must not skip them; run them with: make test")
	default:
		t.Skip("browser tests need EZQ_CHROMIUM, as scripts/chromium prints it; run them with: make test")
	}
	ctx, err := chromium()
	if err != nil {
		t.Fatal("the browser does not start:", err)
	}
	return ctx
}
