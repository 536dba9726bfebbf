package browser

import (
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/console"
	"github.com/ezq-go/ezq/ezq"
)

// A page of another site that sends forms for those who look at it.
func TestOtherSite_CannotPost(t *testing.T) {
	t.Parallel()
	c := onMemory(t)
	site := serve(t, c, console.Everything())
	var forms strings.Builder
	for i, post := range posts(c, t) {
		values, err := url.ParseQuery(post)
		check(t, err)
		fmt.Fprintf(&forms, `<form method="post" action="%s/do">`, site)
		for key := range values {
			fmt.Fprintf(&forms, `<input name="%s" value="%s">`, key, html.EscapeString(values.Get(key)))
		}
		fmt.Fprintf(&forms, `<button>send %d</button></form>`, i)
	}
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprint(w, "<!doctype html>", forms.String())
	}))
	t.Cleanup(other.Close)
	for name, host := range map[string]string{"another port": "127.0.0.1", "another host": "localhost"} {
		t.Run("from "+name, func(t *testing.T) {
			t.Parallel()
			b := openTab(t, strings.Replace(other.URL, "127.0.0.1", host, 1)) // the browser complains of each refusal
			for i := range posts(c, t) {
				if host == "localhost" && i > 0 { // one is enough, since all are looked at in one place
					break
				}
				b.visit("/")
				b.follow(fmt.Sprint("send ", i))
				b.shows("comes from another site, and was refused")
			}
			unchanged(t, c)
		})
	}
}

// hostile is text that is code in one place or another.
func hostile() []string {
	return []string{
		`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `'"></textarea></pre><svg onload=alert(1)>`, `javascript:alert(1)`,
		`{{.Rights}}`, `<style>*{display:none}</style>`, `<meta http-equiv="refresh" content="0;url=http://127.0.0.2/">`, "\u202egnp.exe", `</title><base href="http://127.0.0.2/">`,
	}
}

func TestHostileText_IsShownAndDoesNothing(t *testing.T) {
	t.Parallel()
	c := onMemory(t)
	all, id := strings.Join(hostile(), " "), strings.Join(hostile()[:3], " ")
	publish(t, c, OrderPlaced{Item: all}, ezq.ID(id), ezq.Header("note "+hostile()[0], all))
	deadLetter(t, c, "dead-3", all, ezq.Header("note", all))
	_, err := c.Pause(t.Context(), orders, backend.Pause{By: hostile()[1], Reason: all})
	check(t, err)
	_, err = c.Pause(t.Context(), "dropped "+hostile()[0], backend.Pause{By: hostile()[1], Reason: all})
	check(t, err)
	_, err = c.Schedules().Pause(t.Context(), nightly, backend.Pause{By: hostile()[1], Reason: all})
	check(t, err)
	site := serve(t, c, console.Everything())
	row := lettersOf(t, c, backend.DeadLetterSelection{ID: "dead-3"})[0].Row
	q := url.QueryEscape(all)
	for name, path := range map[string]string{
		"the queues":            "/?live=off",
		"the queue":             "/queue?topic=orders",
		"the dead letters":      "/dead?topic=" + letters,
		"a dead letter":         fmt.Sprintf("/letter?topic=%s&row=%d", letters, row),
		"an edit":               fmt.Sprintf("/letter?topic=%s&row=%d&edit=1", letters, row),
		"an event":              "/event?id=" + url.QueryEscape(id),
		"the schedules":         "/schedules",
		"a filter":              "/?q=" + q,
		"a filter of letters":   "/dead?topic=" + letters + "&handler=" + q + "&event=" + q + "&reason=" + q,
		"a filter of schedules": "/schedules?q=" + q,
		"a confirmation":        "/confirm?action=cancel&topic=orders&id=" + url.QueryEscape(id),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newTab(t, site)
			b.visit(path)
			foreign := `script:not([src="console.js"]), img, svg[onload], style, base, iframe, meta[http-equiv], [onerror], [onload], a[href^="javascript"]`
			if found := ask[string](b, fmt.Sprintf(`[...document.querySelectorAll(%q)].map(e => e.outerHTML).join()`, foreign)); found != "" {
				t.Error("the page has", found)
			}
			if shown := ask[string](b, `document.body.innerText + [...document.querySelectorAll("input, textarea")].map(e => e.value).join()`); !strings.Contains(shown, hostile()[0]) {
				t.Errorf("the text is not shown: %s", shown)
			}
			for _, complaint := range b.tooWide() {
				t.Error(complaint)
			}
		})
	}
}

// What cannot be seen in a field is an escape there, and what is sent back says the same.
func TestEdit_OfWhatCannotBeSeenChangesNothingElse(t *testing.T) {
	t.Parallel()
	c := onMemory(t)
	const item = "a\u202eb\u200b é\U000e0041"
	letter := lettersOf(t, c, backend.DeadLetterSelection{ID: "dead-1"})[0]
	edit := backend.DeadLetterEdit{Row: letter.Row, Version: letter.Version(), Payload: []byte(`{"item": "` + item + `"}`), By: "ben"}
	check(t, c.EditDeadLetter(t.Context(), letters, edit))
	b := newTab(t, serve(t, c, console.Everything()))
	b.visit(fmt.Sprintf("/letter?topic=%s&row=%d&edit=1", letters, letter.Row))
	if shown := ask[string](b, `document.querySelector("textarea").value`); shown != `{"item": "a\u202eb\u200b é\udb40\udc41"}` {
		t.Errorf("the field has %q", shown)
	}
	b.follow("Change…")
	b.follow("Change")
	b.shows("It is changed")
	found := lettersOf(t, c, backend.DeadLetterSelection{Field: "item", Equals: item})
	if len(found) != 1 || found[0].ID != "dead-1" || found[0].Metadata[backend.EditedBy] != "ada" {
		t.Errorf("the dead letters are %v", found)
	}
}
