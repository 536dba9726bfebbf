package console_test

import (
	"errors"
	"html"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/console"
)

// withLetter returns a broker with one dead letter, which has this payload.
func withLetter(t *testing.T, payload string) *memory.Broker {
	t.Helper()
	broker := memory.New(nil)
	t.Cleanup(func() { _ = broker.Close() })
	letter := newMessage("event-2", payload)
	for name, value := range backend.DeadLetterMetadata("orders", "charge", 3, errors.New("no")) {
		letter.Metadata.Set(name, value)
	}
	require.NoError(t, broker.Publish("orders_dead", letter))
	return broker
}

// textarea returns what is in the only textarea of a page.
func textarea(t *testing.T, page string) string {
	t.Helper()
	_, rest, ok := strings.Cut(page, "<textarea")
	require.True(t, ok, page)
	_, rest, _ = strings.Cut(rest, ">\n")
	text, _, _ := strings.Cut(rest, "</textarea>")
	return html.UnescapeString(text)
}

func TestEdit_ShowsWhatCannotBeSeenAsJSONDoes(t *testing.T) {
	t.Parallel()
	const payload = "{\r\n\"name\": \"a\u202egnp\u2066.exe\u200b\u007f\U000e0041 é 👍 \\u202e\"}"
	s := newSite(t, withLetter(t, payload), console.Everything())
	page := s.get("/letter?topic=orders_dead&row=1&edit=1").body
	require.Contains(t, page, "as JSON writes them too")
	const shown = "{\r\n\"name\": \"a\\u202egnp\\u2066.exe\\u200b\\u007f\\udb40\\udc41 é 👍 \\u202e\"}"
	require.Equal(t, shown, textarea(t, page))
	require.JSONEq(t, payload, shown)
	asked := s.post("/confirm", form("action", "edit", "topic", "orders_dead", "row", "1", "version", valueOf(t, page, "version"), "payload", payload))
	require.Equal(t, http.StatusOK, asked.StatusCode, asked.body)
	require.Equal(t, shown, textarea(t, asked.body))
	require.NotContains(t, newSite(t, withLetter(t, `{"a":1}`), console.Everything()).get("/letter?topic=orders_dead&row=1&edit=1").body, "as JSON writes them too")
}

func TestEdit_IsNotOfferedOfWhatABrowserCannotSendBack(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ payload, says string }{
		"a large one":                {`"` + strings.Repeat("x", 3<<20) + `"`, "3\u202f145\u202f730 bytes, and at most 262\u202f144"},
		"one that is not UTF-8":      {"\"\xff\"", "is not UTF-8"},
		"no JSON, and a direction":   {"\u202e{", "is no JSON and has characters that cannot be seen"},
		"no JSON, and a NUL":         {"{\x00", "is no JSON and has characters that cannot be seen"},
		"one that is no text at all": {"\x00\xfe", "is not UTF-8"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, withLetter(t, c.payload), console.Everything())
			for _, path := range []string{"/letter?topic=orders_dead&row=1", "/letter?topic=orders_dead&row=1&edit=1"} {
				got := s.get(path)
				require.Equal(t, http.StatusOK, got.StatusCode)
				require.Contains(t, got.body, c.says)
				require.Contains(t, got.body, "ezq dead edit")
				require.NotContains(t, got.body, "<textarea")
				require.NotContains(t, got.body, "Change the payload")
			}
		})
	}
}

// The largest that is offered comes back, whatever it has: a line break is sent in six bytes.
func TestEdit_TakesBackTheLargestThatItOffers(t *testing.T) {
	t.Parallel()
	s := newSite(t, withLetter(t, strings.Repeat("\n", 256<<10-1)+"1"), console.Everything())
	page := s.get("/letter?topic=orders_dead&row=1&edit=1").body
	edit := form("action", "edit", "topic", "orders_dead", "row", "1", "version", valueOf(t, page, "version"), "payload", strings.ReplaceAll(textarea(t, page), "\n", "\r\n"))
	require.Equal(t, http.StatusOK, s.post("/confirm", edit).StatusCode)
	require.Contains(t, s.do(edit).body, "It is changed")
}

func TestEdit_OfAnEmptyPayloadIsOffered(t *testing.T) {
	t.Parallel()
	s := newSite(t, withLetter(t, ""), console.Everything())
	require.Empty(t, textarea(t, s.get("/letter?topic=orders_dead&row=1&edit=1").body))
}
