package browser

import (
	"fmt"
	"slices"
	"testing"

	"github.com/chromedp/cdproto/emulation"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/console"
)

// pagesOf returns the path of each page, and a text that is on it.
func pagesOf(t *testing.T, c client) map[string]string {
	t.Helper()
	row := lettersOf(t, c, backend.DeadLetterSelection{ID: "dead-1"})[0].Row
	letter := fmt.Sprintf("/letter?topic=%s&row=%d", letters, row)
	return map[string]string{
		"/?live=off":                   "orders",
		"/?live=off&q=nothing":         "No queue has that in its name",
		"/queue?topic=orders&live=off": "order-3",
		"/dead":                        letters,
		"/dead?topic=" + letters:       "card # has expired",
		"/dead?topic=" + letters + "&reason=address": "there is no address",
		letter:                                   "card 4711 has expired",
		letter + "&edit=1":                       "The new payload, as JSON",
		"/event":                                 "Find an event",
		"/event?id=order-1":                      "Assam",
		"/event?id=order-1&topic=orders":         "waiting",
		"/event?id=dead-1&topic=orders":          "dead",
		"/event?id=missing":                      "It is in none of",
		"/schedules":                             nightly,
		"/groups":                                "No topic has a group",
		"/confirm?action=pause&topic=orders":     "Pause consumers?",
		"/confirm?action=purge&topic=" + letters: "This cannot be undone.",
		"/confirm?action=pause-schedule&schedule=nightly": "Pause a schedule?",
	}
}

func TestPages_AreReadableAndReachable(t *testing.T) {
	t.Parallel()
	c := onMemory(t)
	site := serve(t, c, console.Everything())
	for path, text := range pagesOf(t, c) {
		t.Run("on memory, "+path, func(t *testing.T) {
			t.Parallel()
			b := newTab(t, site)
			b.visit(path)
			b.shows(text)
			for _, complaint := range slices.Concat(b.unreadable(), b.tooWide(), b.unreachable()) {
				t.Error(complaint)
			}
		})
	}
}

func TestPages_ShowWhatIsInPGMQ(t *testing.T) {
	t.Parallel()
	c := onPGMQ(t)
	b := newTab(t, serve(t, c, console.Everything()))
	for path, text := range pagesOf(t, c) {
		b.visit(path)
		b.shows(text)
	}
	b.visit("/doctor")
	b.shows("what endangers the queues")
	for _, complaint := range slices.Concat(b.unreadable(), b.tooWide(), b.unreachable()) {
		t.Error(complaint)
	}
}

func TestLivePages_FollowWhatHappens(t *testing.T) {
	t.Parallel()
	c := onMemory(t)
	site := serve(t, c, console.Everything())
	for _, path := range []string{"/", "/queue?topic=orders"} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			b := newTab(t, site)
			b.visit(path)
			b.await("the page is kept up to date", `document.getElementById("live-status").textContent === "live"`)
			loaded := ask[float64](b, "performance.timeOrigin")
			before := b.waiting()
			publish(t, c, OrderPlaced{Order: 5})
			b.await("it shows one event more", fmt.Sprintf(`+%s > %d`, waitingOf, before))
			if ask[float64](b, "performance.timeOrigin") != loaded {
				t.Error("it was loaded again")
			}
		})
	}
}

// waitingOf is the first figure of a page.
const waitingOf = `document.querySelector("#live .figures dd").textContent`

func (b *tab) waiting() int {
	b.t.Helper()
	return ask[int](b, "+"+waitingOf)
}

// With scripts, nothing loads the page again; without, it is all there, and loaded again by itself.
func TestLivePages_WithoutScriptAreLoadedAgain(t *testing.T) {
	t.Parallel()
	const refresh = `document.querySelector("meta[http-equiv=refresh]")`
	c := onMemory(t)
	site := serve(t, c, console.Everything())
	with := newTab(t, site)
	with.visit("/")
	if !ask[bool](with, refresh+" === null") {
		t.Error("with the script it is loaded again")
	}
	without := newTab(t, site)
	call(without, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	for _, path := range []string{"/", "/queue?topic=orders"} {
		without.visit(path)
		without.shows("orders", "3")
		if content := ask[string](without, refresh+".content"); content != "30" {
			t.Errorf("%s is loaded again after %q s", path, content)
		}
	}
}

func TestLivePages_SayThatTheyAreNotConnected(t *testing.T) {
	t.Parallel()
	c := onMemory(t)
	site, stop := start(t, c, console.Everything())
	b := openTab(t, site) // the browser complains of the connection
	b.visit("/")
	b.await("the page is kept up to date", `document.getElementById("live-status").textContent === "live"`)
	stop()
	b.await("it says so", `document.getElementById("live-status").textContent.startsWith("not connected")`)
}
