package console_test

import (
	"bufio"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/console"
)

func TestConsole_HasHeadersThatRunNothingElse(t *testing.T) {
	t.Parallel()
	s := newSite(t, newBroker(t), console.Everything())
	inline := regexp.MustCompile(`(?i)<style|\sstyle=|<script>|\son[a-z]+=|javascript:|https?://`)
	for path := range pagesOf() {
		got := s.get(path)
		require.Contains(t, got.Header.Get("Content-Security-Policy"), "default-src 'none'", path)
		require.NotContains(t, got.Header.Get("Content-Security-Policy"), "unsafe", path)
		require.Equal(t, "nosniff", got.Header.Get("X-Content-Type-Options"))
		require.Equal(t, "no-store", got.Header.Get("Cache-Control"))
		require.Empty(t, inline.FindString(got.body), path)
	}
	for path, kind := range map[string]string{"/console.css": "text/css", "/console.js": "text/javascript"} {
		got := s.get(path)
		require.Equal(t, http.StatusOK, got.StatusCode)
		require.Contains(t, got.Header.Get("Content-Type"), kind)
	}
}

var links = regexp.MustCompile(`(?:href|src|action)="([^"]*)"`)

func TestConsole_WorksUnderAnyPrefix(t *testing.T) {
	t.Parallel()
	for name, prefix := range map[string]string{"configured": "/admin/ezq", "with a slash": "/admin/ezq/", "none": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, newBroker(t), console.Everything(), func(c *console.Config) { c.Prefix = prefix })
			var mounted http.Handler = s.console
			if prefix == "" {
				mounted = http.StripPrefix("/admin/ezq", s.console)
			}
			mux := http.NewServeMux()
			mux.Handle("/admin/ezq/", mounted)
			server := httptest.NewServer(mux)
			t.Cleanup(server.Close)
			for path := range pagesOf() {
				at, err := url.Parse(server.URL + "/admin/ezq" + path)
				require.NoError(t, err)
				for _, link := range links.FindAllStringSubmatch(fetch(t, at.String(), http.StatusOK), -1) {
					to, err := at.Parse(strings.ReplaceAll(link[1], "&amp;", "&"))
					require.NoError(t, err)
					require.True(t, strings.HasPrefix(to.Path, "/admin/ezq/"), "%s leads to %s", path, to)
				}
			}
		})
	}
}

func fetch(t *testing.T, link string, status int) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, link, nil)
	require.NoError(t, err)
	r.Header.Set("X-Forwarded-Host", "evil.example")
	r.Header.Set("X-Forwarded-Prefix", "//evil.example")
	got, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer func() { _ = got.Body.Close() }()
	var text strings.Builder
	_, err = bufio.NewReader(got.Body).WriteTo(&text)
	require.NoError(t, err)
	require.Equal(t, status, got.StatusCode, text.String())
	require.NotContains(t, text.String(), "evil.example")
	return text.String()
}

func TestConsole_LeadsFromThePrefixToItsPages(t *testing.T) {
	t.Parallel()
	s := newSite(t, newBroker(t), console.Everything(), func(c *console.Config) { c.Prefix = "/admin/ezq" })
	got := s.get("/admin/ezq")
	require.Equal(t, "ezq/", got.Header.Get("Location"))
	require.Equal(t, http.StatusNotFound, s.get("//evil.example/").StatusCode)
	require.Empty(t, s.get("//evil.example/").Header.Get("Location"))
}

func FuzzConsole_EscapesWhatOthersHaveWritten(f *testing.F) {
	for _, hostile := range []string{`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, "javascript:alert(1)", "\u202egnp.exe", "\u202e", "a\x00b", "\xff", "{{.}}", "a\nb", "'"} {
		f.Add(hostile)
	}
	f.Fuzz(func(t *testing.T, hostile string) { requireEscaped(t, hostile) })
}

func requireEscaped(t *testing.T, hostile string) {
	t.Helper()
	broker := memory.New(nil)
	defer func() { _ = broker.Close() }()
	mark := "<zz" + hostile
	topic := mark
	if backend.CheckTopic(topic) != nil || backend.IsPattern(topic) {
		topic = "<zz"
	}
	msg := newMessage("id", mark)
	msg.Metadata.Set("h", strings.ToValidUTF8(strings.ReplaceAll(mark, "\x00", ""), ""))
	require.NoError(t, broker.Publish(topic, msg))
	letter := newMessage("id", mark)
	for name, value := range backend.DeadLetterMetadata(topic, msg.Metadata.Get("h"), 1, errors.New(mark)) {
		letter.Metadata.Set(name, value)
	}
	require.NoError(t, broker.Publish(topic+"_dead", letter))
	s := newSite(t, broker, console.Everything())
	of, dead := url.QueryEscape(topic), url.QueryEscape(topic+"_dead")
	for _, path := range []string{
		"/", "/?q=" + url.QueryEscape(mark), "/queue?topic=" + of, "/dead?topic=" + dead, "/dead?topic=" + dead + "&handler=" + url.QueryEscape(mark), "/letter?topic=" + dead + "&row=1",
		"/letter?edit=1&topic=" + dead + "&row=1", "/event?id=id", "/event?id=" + url.QueryEscape(mark), "/confirm?action=pause&topic=" + of,
		"/confirm?action=redrive&topic=" + dead + "&reason=" + url.QueryEscape(mark), "/done?action=redrive&topic=" + dead + "&reason=" + url.QueryEscape(mark),
		"/confirm?action=pause&topic=" + of + "&group=" + url.QueryEscape(mark), "/confirm?action=pause&topic=" + of + "&" + url.QueryEscape(mark) + "=1", "/confirm?action=pause-schedule&schedule=" + url.QueryEscape(mark), "/queue?topic=" + url.QueryEscape("x"+mark),
	} {
		got := s.get(path).body
		require.NotContains(t, got, "<zz", path)
		require.NotContains(t, got, "\u202e<", path)
	}
}

func TestConsole_BoundsWhatItShows(t *testing.T) {
	t.Parallel()
	broker := memory.New(nil)
	t.Cleanup(func() { _ = broker.Close() })
	for i := range 1_000 {
		require.NoError(t, broker.Publish(fmt.Sprintf("topic-%04d", i), newMessage("1", "{}")))
	}
	require.NoError(t, broker.Publish("large", newMessage("1", `"`+strings.Repeat("x", 60_000)+`"`), newMessage("2", strings.Repeat("y", 100_000))))
	s := newSite(t, broker, console.Everything())
	got := s.get("/")
	require.Equal(t, 100, strings.Count(got.body, `<th scope="row">`))
	require.Contains(t, got.body, "Page 1 of 11")
	require.Contains(t, s.get("/?q=topic-0999").body, ">topic-0999</a>")
	require.Contains(t, s.get("/?p=11").body, ">topic-0999</a>")
	require.Equal(t, http.StatusOK, s.get("/?p=99999999999999999999").StatusCode)
	got = s.get("/queue?topic=large")
	require.Contains(t, got.body, "Only the beginning of 60\u202f002 bytes is shown.")
	require.Contains(t, got.body, "The payload has 100\u202f000 bytes, and is not shown.")
	require.Less(t, len(got.body), 40_000)
	require.Equal(t, http.StatusNotFound, s.get("/queue?topic=unknown").StatusCode)
	states, err := broker.QueueStates(t.Context())
	require.NoError(t, err)
	require.Len(t, states, 1_001, "a page has made a topic")
	require.Equal(t, http.StatusBadRequest, s.post("/confirm", form("action", "edit", "payload", strings.Repeat("x", 3<<20))).StatusCode)
}

func TestConsole_GoesOnWithoutScript(t *testing.T) {
	t.Parallel()
	s := newSite(t, newBroker(t), console.Everything())
	require.Contains(t, s.get("/").body, `<noscript><meta http-equiv="refresh" content="30"></noscript>`)
	paused := s.get("/?live=off").body
	require.NotContains(t, paused, "refresh")
	require.NotContains(t, paused, "data-from")
}

func TestLive_TellsWhatIsNewAndEndsWithTheConsole(t *testing.T) {
	t.Parallel()
	broker := newBroker(t)
	s := newSite(t, broker, console.Rights{}, func(c *console.Config) { c.Interval = time.Second })
	server := httptest.NewServer(s.console)
	t.Cleanup(server.Close)
	got, err := http.Get(server.URL + "/live?page=queues") //nolint:noctx // it ends with the console
	require.NoError(t, err)
	defer func() { _ = got.Body.Close() }()
	require.Equal(t, "text/event-stream", got.Header.Get("Content-Type"))
	require.NoError(t, broker.Publish("<new>", newMessage("1", "{}")))
	lines := bufio.NewScanner(got.Body)
	for lines.Scan() {
		require.NotContains(t, lines.Text(), "<new>")
		if strings.Contains(lines.Text(), ">&lt;new&gt;</a>") {
			break
		}
	}
	require.NoError(t, lines.Err())
	require.NoError(t, s.console.Close())
	for lines.Scan() { // until the end
	}
	require.Equal(t, http.StatusServiceUnavailable, s.get("/").StatusCode)
}
