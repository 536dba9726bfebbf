package console_test

import (
	"context"
	"errors"
	"html"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/console"
)

// reply is what the console has answered.
type reply struct {
	*http.Response
	body string
}

// site is a console on a backend.
type site struct {
	t       *testing.T
	console *console.Console
	log     *strings.Builder
}

// newSite returns a console with these rights.
func newSite(t *testing.T, client any, rights console.Rights, changes ...func(*console.Config)) *site {
	t.Helper()
	s := &site{t: t, log: &strings.Builder{}}
	config := &console.Config{
		Allow:  func(*http.Request) console.Rights { return rights },
		User:   func(*http.Request) string { return "ada" },
		Logger: slog.New(slog.NewTextHandler(s.log, nil)),
	}
	for _, change := range changes {
		change(config)
	}
	c, err := console.New(client, config)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, c.Close()) })
	s.console = c
	return s
}

func (s *site) serve(r *http.Request) reply {
	s.t.Helper()
	w := httptest.NewRecorder()
	s.console.ServeHTTP(w, r)
	return reply{w.Result(), w.Body.String()}
}

func (s *site) get(path string) reply {
	s.t.Helper()
	return s.serve(httptest.NewRequest(http.MethodGet, path, nil))
}

func (s *site) post(path string, values url.Values) reply {
	s.t.Helper()
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(values.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return s.serve(r)
}

// confirmed returns values as a confirmation sends them that was asked for now.
func confirmed(values url.Values) url.Values {
	if action := values.Get("action"); (action == "redrive" || action == "purge") && !values.Has("row") && !values.Has("until") {
		values = maps.Clone(values)
		values.Set("until", time.Now().UTC().Format(time.RFC3339Nano))
	}
	return values
}

// do posts a change, and returns the page that says what it has done.
func (s *site) do(values url.Values) reply {
	s.t.Helper()
	done := s.post("/do", confirmed(values))
	require.Equal(s.t, http.StatusSeeOther, done.StatusCode, done.body)
	return s.with(done.Cookies(), "/"+done.Header.Get("Location"))
}

// with is get with cookies.
func (s *site) with(cookies []*http.Cookie, path string) reply {
	s.t.Helper()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for _, cookie := range cookies {
		r.AddCookie(cookie)
	}
	return s.serve(r)
}

// valueOf returns the value of a hidden field.
func valueOf(t *testing.T, page, name string) string {
	t.Helper()
	_, rest, ok := strings.Cut(page, `name="`+name+`" value="`)
	require.True(t, ok, page)
	value, _, _ := strings.Cut(rest, `"`)
	return html.UnescapeString(value)
}

// form returns values: pairs of a name and a value.
func form(pairs ...string) url.Values {
	values := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		values.Set(pairs[i], pairs[i+1])
	}
	return values
}

// newBroker returns a broker with an event on the topic orders, and a dead letter.
func newBroker(t *testing.T) *memory.Broker {
	t.Helper()
	broker := memory.New(&memory.Config{Logger: slog.New(slog.DiscardHandler)})
	t.Cleanup(func() { assert.NoError(t, broker.Close()) })
	require.NoError(t, broker.Publish("orders", newMessage("event-1", `{"_type":"OrderPlaced","total":12345678901234567890}`)))
	letter := newMessage("event-2", `{"secret":"hunter2"}`)
	for name, value := range backend.DeadLetterMetadata("orders", "charge", 3, errors.New("the card 4711 was declined")) {
		letter.Metadata.Set(name, value)
	}
	require.NoError(t, broker.Publish("orders_dead", letter))
	return broker
}

func newMessage(id, payload string) *message.Message {
	msg := message.NewMessage(id, []byte(payload))
	msg.Metadata.Set("tenant", "private-tenant")
	return msg
}

// pagesOf are all pages, with what each has if it is shown.
func pagesOf() map[string]string {
	return map[string]string{
		"/":                                  ">orders</a>",
		"/?q=ord":                            ">orders</a>",
		"/queue?topic=orders":                "Due next",
		"/event":                             "Find an event",
		"/event?id=event-1":                  "waiting",
		"/dead":                              ">orders_dead</a>",
		"/dead?topic=orders_dead":            "charge",
		"/letter?topic=orders_dead&row=1":    "Dead letter",
		"/schedules":                         "No program has run a schedule",
		"/groups":                            "Groups",
		"/confirm?action=pause&topic=orders": "Pause consumers?",
	}
}

func TestConsole_ShowsEachPage(t *testing.T) {
	t.Parallel()
	s := newSite(t, newBroker(t), console.Everything())
	for path, has := range pagesOf() {
		got := s.get(path)
		require.Equal(t, http.StatusOK, got.StatusCode, "%s: %s", path, got.body)
		require.Contains(t, got.body, has, path)
	}
	require.Contains(t, s.get("/event?id=event-1").body, "12345678901234567890", "a large number is not exact")
	require.Equal(t, http.StatusNotFound, s.get("/doctor").StatusCode, "a Broker has no Check")
	require.Equal(t, http.StatusNotFound, s.get("/programs").StatusCode, "a Broker has no server")
	require.Equal(t, http.StatusNotFound, s.get("/nowhere").StatusCode)
}

func TestConsole_ShowsCountsAloneByDefault(t *testing.T) {
	t.Parallel()
	c, err := console.New(newBroker(t), nil)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, c.Close()) })
	s := &site{t: t, console: c}
	require.Contains(t, s.get("/").body, ">orders</a>")
	for path := range pagesOf() {
		got := s.get(path).body
		for _, secret := range []string{"hunter2", "private-tenant", "declined", "12345678901234567890", "event-2"} {
			require.NotContains(t, got, secret, path)
		}
		require.NotContains(t, got, "confirm?", path)
	}
}

var errBackend = errors.New("the backend has failed")

// broken is a backend of which nothing works.
type broken struct{ *memory.Broker }

func (broken) QueueStates(context.Context) ([]backend.QueueState, error) { return nil, errBackend }

func TestConsole_SaysWhyThereIsNoPage(t *testing.T) {
	t.Parallel()
	s := newSite(t, broken{newBroker(t)}, console.Everything())
	got := s.get("/")
	require.Equal(t, http.StatusBadGateway, got.StatusCode)
	require.Contains(t, got.body, errBackend.Error())
}
