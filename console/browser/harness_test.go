package browser

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// What the tests of the console look for is found, where it is.
func TestTab_NoticesWhatIsWrong(t *testing.T) {
	t.Parallel()
	needChromium(t)
	for name, c := range map[string]struct {
		page  string
		notes func(b *tab) []string
		want  string // part of a complaint; "" for none
	}{
		"an exception is noted":               {`<script>nothing()</script>`, (*tab).noted, "an exception"},
		"an error in the console is noted":    {`<script>console.error("no")</script>`, (*tab).noted, "console.error"},
		"a file that is missing is noted":     {`<img src="/missing">`, (*tab).noted, "404"},
		"a dialog is noted":                   {`<body onload="setTimeout(() => alert(1))">`, awaitNote, "a dialog"},
		"a request to another host is noted":  {`<img src="http://127.0.0.2:1/x.png">`, (*tab).noted, "another host"},
		"a plain page is fine":                {`<p>hello <a href="/">home</a>`, (*tab).everything, ""},
		"text that is too light is found":     {`<p style="color: #999">hello`, (*tab).unreadable, "light: contrast 2.8"},
		"half transparent text is found":      {`<p style="opacity: 0.5; color: black">hello`, (*tab).unreadable, "contrast 3.9"},
		"text that is bad in dark is found":   {`<style>@media (prefers-color-scheme: dark) { p { background: black } }</style><p>hello`, (*tab).unreadable, "dark: contrast 1.0"},
		"a field that is too light is found":  {`<input value="hello" style="color: #aaa; background: #fff">`, (*tab).unreadable, "<input>"},
		"large text may be lighter":           {`<h1 style="color: #888">hello`, (*tab).unreadable, ""},
		"a wide page is found":                {`<meta name="viewport" content="width=device-width"><div style="width: 500px">hello</div>`, (*tab).tooWide, " of 360 pixels"},
		"a wide table that scrolls is fine":   {`<meta name="viewport" content="width=device-width"><div style="overflow-x: auto"><div style="width: 900px">hello</div></div>`, (*tab).tooWide, ""},
		"a button that Tab skips is found":    {`<button>one</button><button tabindex="-1">two</button>`, (*tab).unreachable, "not reached: <button> two"},
		"a wrong order is found":              {`<button>one</button><button tabindex="1">two</button>`, (*tab).unreachable, "reached before"},
		"a focus that is not shown is found":  {`<style>button:focus { outline: none }</style><button>one</button>`, (*tab).unreachable, "the focus cannot be seen"},
		"what is closed need not be reached":  {`<details><summary>more</summary><button>one</button></details>`, (*tab).unreachable, ""},
		"one of several radios can be chosen": {`<input type="radio" name="a"><input type="radio" name="a" checked>`, (*tab).unreachable, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/" {
					http.NotFound(w, r)
					return
				}
				_, _ = fmt.Fprint(w, `<!doctype html><link rel="icon" href="data:,"><title>page</title>`, c.page)
			}))
			t.Cleanup(server.Close)
			b := openTab(t, server.URL)
			b.visit("/")
			found := strings.Join(c.notes(b), "\n")
			if !strings.Contains(found, c.want) || c.want == "" && found != "" {
				t.Errorf("it says %q and not %q", found, c.want)
			}
		})
	}
}

// awaitNote waits for a note, without asking the page, which a dialog keeps from answering.
func awaitNote(b *tab) []string {
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for len(b.noted()) == 0 && b.ctx.Err() == nil {
		<-again.C
	}
	return b.noted()
}

// everything is all complaints about a page.
func (b *tab) everything() (all []string) {
	b.t.Helper()
	return slices.Concat(b.unreadable(), b.tooWide(), b.unreachable(), b.noted())
}
