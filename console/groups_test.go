package console_test

import (
	"context"
	"errors"
	"html"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/console"
)

// newGroups returns a broker with the groups billing and audit on the topic payments, an event, a dead letter of billing, and the
// group archive, which takes all payments by a pattern.
func newGroups(t *testing.T) *memory.Broker {
	t.Helper()
	broker := memory.New(&memory.Config{Logger: slog.New(slog.DiscardHandler)})
	t.Cleanup(func() { assert.NoError(t, broker.Close()) })
	of := func(group string) *memory.Broker {
		return broker.Connect(&memory.Config{Group: group, Logger: slog.New(slog.DiscardHandler)})
	}
	deadLetter(t, of("billing"), "payments.eu", newMessage("event-2", `{"_type":"Paid"}`))
	require.NoError(t, of("audit").SubscribeInitialize("payments.eu"))
	require.NoError(t, of("archive").SubscribeInitialize("payments.*"))
	require.NoError(t, broker.Publish("payments.eu", newMessage("event-1", `{"_type":"Paid"}`)))
	return broker
}

// deadLetter publishes a message, and has the consumers of a broker dead-letter it.
func deadLetter(t *testing.T, broker *memory.Broker, topic string, msg *message.Message) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	messages, err := broker.Subscribe(ctx, topic)
	require.NoError(t, err)
	require.NoError(t, broker.Publish(topic, msg))
	got := <-messages
	metadata := backend.DeadLetterMetadata(topic, "charge", 3, errors.New("no"))
	require.True(t, backend.DeadLetter(got, backend.DeadLetterTarget{Topic: topic + "_dead", Metadata: metadata}))
	stop()
	for range messages { // until it is stored
	}
}

func pausesOf(t *testing.T, broker *memory.Broker) (all []string) {
	t.Helper()
	found, err := broker.AllPauses(t.Context())
	require.NoError(t, err)
	for _, p := range found {
		all = append(all, p.Topic+" "+p.Group)
	}
	return all
}

func TestPause_OfATopicWhoseConsumersHaveGroups(t *testing.T) {
	t.Parallel()
	broker := newGroups(t)
	s := newSite(t, broker, console.Everything())
	page := s.get("/queue?topic=payments.eu&group=billing").body
	require.Contains(t, page, `href="confirm?action=pause&amp;topic=payments.eu">Pause the topic…</a>`)
	require.Contains(t, page, `href="confirm?action=pause&amp;group=billing&amp;topic=payments.eu">Pause the group…</a>`)

	asked := s.get("/confirm?action=pause&topic=payments.eu").body
	require.Contains(t, asked, "those of its groups too: audit, billing.")
	require.Contains(t, asked, "Groups that take it by a pattern go on: payments.*.")
	require.Contains(t, s.do(form("action", "pause", "topic", "payments.eu", "why", "x")).body, "It is paused until it is resumed")
	require.Equal(t, []string{"payments.eu "}, pausesOf(t, broker))
	require.Contains(t, s.get("/queue?topic=payments.eu&group=audit").body, "Resume the topic…")

	asked = s.get("/confirm?action=pause&topic=payments.eu&group=billing").body
	require.Contains(t, asked, `<strong>group &#34;billing&#34; of topic &#34;payments.eu&#34;</strong>`)
	require.Contains(t, asked, `name="group" value="billing"`)
	s.do(form("action", "pause", "topic", "payments.eu", "group", "billing", "why", "x"))
	require.Equal(t, []string{"payments.eu ", "payments.eu billing"}, pausesOf(t, broker))
	page = s.get("/queue?topic=payments.eu&group=billing").body
	require.Contains(t, page, "Resume the topic…")
	require.Contains(t, page, "Resume the group…")

	done := s.do(form("action", "resume", "topic", "payments.eu", "group", "billing")).body
	require.Contains(t, done, "It is resumed. Still paused: topic &#34;payments.eu&#34;.")
	require.Equal(t, []string{"payments.eu "}, pausesOf(t, broker))
	require.Contains(t, s.do(form("action", "resume", "topic", "payments.eu")).body, "<p>It is resumed.</p>")
	require.Empty(t, pausesOf(t, broker))

	s.do(form("action", "pause", "topic", "payments.*", "group", "archive", "why", "x"))
	require.Equal(t, []string{"payments.* archive"}, pausesOf(t, broker))
	require.Equal(t, http.StatusBadRequest, s.post("/do", form("action", "pause", "topic", "payments.eu", "group", "biling", "why", "x")).StatusCode)
}

// Neither a topic whose consumers have groups nor one that is taken by a pattern has a queue of its own.
func TestChange_LeadsBackToAPageThatThereIs(t *testing.T) {
	t.Parallel()
	s := newSite(t, newGroups(t), console.Everything())
	require.Equal(t, http.StatusOK, s.get("/").StatusCode)
	for _, query := range []string{
		"action=pause&topic=payments.eu", "action=pause&topic=payments.eu&group=billing", "action=pause&topic=payments.us",
		"action=cancel&topic=payments.eu&id=event-1", "action=cancel&topic=payments.us&id=event-1",
	} {
		asked := s.get("/confirm?" + query)
		require.Equal(t, http.StatusOK, asked.StatusCode, query)
		_, rest, ok := strings.Cut(asked.body, `<a class="button" href="`)
		require.True(t, ok)
		back, _, _ := strings.Cut(rest, `"`)
		require.Equal(t, http.StatusOK, s.get("/"+strings.TrimPrefix(html.UnescapeString(back), "./")).StatusCode, "%s: %s", query, back)
	}
}

// failing is a backend whose changes fail, and whose queues cannot be read any more once one was tried.
type failing struct {
	*memory.Broker
	tried *atomic.Bool
}

func (f failing) QueueStates(ctx context.Context) ([]backend.QueueState, error) {
	if f.tried.Load() {
		return nil, errBackend
	}
	return f.Broker.QueueStates(ctx)
}

func (f failing) Cancel(context.Context, string, backend.Selection) (backend.Cancelled, error) {
	return backend.Cancelled{}, errBackend
}

func (f failing) PurgeDeadLetters(context.Context, string, backend.DeadLetterSelection) (backend.Purged, error) {
	return backend.Purged{}, errBackend
}

func (f failing) Redrive(context.Context, string, backend.DeadLetterSelection) (backend.Redriven, error) {
	f.tried.Store(true)
	return backend.Redriven{Moved: 1}, errBackend
}

func TestChange_ThatHasFailedSaysSo(t *testing.T) {
	t.Parallel()
	s := newSite(t, failing{newBroker(t), &atomic.Bool{}}, console.Everything())
	for _, change := range []url.Values{form("action", "cancel", "topic", "orders", "id", "event-1"), form("action", "purge", "topic", "orders_dead")} {
		got := s.post("/do", confirmed(change))
		require.Equal(t, http.StatusBadGateway, got.StatusCode)
		require.Contains(t, got.body, errBackend.Error())
	}
}

func TestChange_SaysWhatItHasDoneAlsoIfTheQueuesCannotBeRead(t *testing.T) {
	t.Parallel()
	s := newSite(t, failing{newBroker(t), &atomic.Bool{}}, console.Everything())
	require.Contains(t, s.do(form("action", "redrive", "topic", "orders_dead")).body, "1 moved back. Not all was done: ")
}

// only is a backend that pauses topics, and no single group.
type only struct {
	backend.Inspector
	backend.Pauser
}

func TestPause_OfAGroupOnABackendWithoutItIsRefused(t *testing.T) {
	t.Parallel()
	broker := newGroups(t)
	s := newSite(t, only{broker, broker}, console.Everything())
	page := s.get("/queue?topic=payments.eu&group=billing").body
	require.Contains(t, page, "Pause the topic…")
	require.NotContains(t, page, "Pause the group…")
	got := s.post("/do", form("action", "pause", "topic", "payments.eu", "group", "billing", "why", "x"))
	require.Equal(t, http.StatusBadRequest, got.StatusCode, got.body)
	require.Empty(t, pausesOf(t, broker))
}

func TestConsole_TellsGroupsApart(t *testing.T) {
	t.Parallel()
	s := newSite(t, newGroups(t), console.Everything())
	event := s.get("/event?id=event-1").body
	for _, group := range []string{"audit", "billing", "archive"} {
		require.Contains(t, event, "group "+group, "the place of the event")
		require.Contains(t, event, `<span class="sub">`+group+`</span>`, "the tree")
	}
	require.Contains(t, event, "group archive of payments.*")
	letters := s.get("/dead?topic=payments.eu_dead").body
	require.Contains(t, letters, "<td>billing</td><td class=\"n\">3</td>", "the list of dead letters")
	queues := s.get("/").body
	require.Contains(t, queues, `<a class="hot" href="dead?topic=payments.eu_dead">1</a>`, "the topic of the groups shows no dead letters")
	require.Contains(t, s.get("/queue?topic=payments.eu&group=audit").body, "Dead letters of all groups")
}

func TestFind_LeadsToTheDeadLetter(t *testing.T) {
	t.Parallel()
	s := newSite(t, newGroups(t), console.Everything())
	require.Contains(t, s.get("/event?id=event-2").body, `href="dead?id=event-2&amp;topic=payments.eu_dead"`)
	require.Contains(t, s.get("/dead?topic=payments.eu_dead&id=event-2").body, ">event-2</a>")
	require.NotContains(t, s.get("/dead?topic=payments.eu_dead&id=event-3").body, ">event-2</a>")
}

func TestCancel_OfAnEventOfGroups(t *testing.T) {
	t.Parallel()
	broker := newGroups(t)
	s := newSite(t, broker, console.Everything())
	got := s.do(form("action", "cancel", "topic", "payments.eu", "id", "event-1"))
	require.Contains(t, got.body, "3 deleted that waited.", "each group has one")
	found, err := broker.Find(t.Context(), "payments.eu", backend.Selection{ID: "event-1"})
	require.NoError(t, err)
	require.Empty(t, found)
}

// Others can send a link with a limit that lies ahead.
func TestConfirmation_LimitsWhatALinkDoesNot(t *testing.T) {
	t.Parallel()
	s := newSite(t, newBroker(t), console.Everything())
	asked := s.get("/confirm?action=purge&topic=orders_dead&until=2100-01-01T00:00:00Z").body
	require.Equal(t, 1, strings.Count(asked, `name="until"`))
	require.NotContains(t, asked, `value="2100`)
}

func TestConfirmation_SaysHowManyAndUpToWhen(t *testing.T) {
	t.Parallel()
	broker := newBroker(t)
	s := newSite(t, broker, console.Everything())
	asked := s.get("/confirm?action=purge&topic=orders_dead")
	require.Contains(t, asked.body, "1 is there now")
	require.Contains(t, asked.body, "What comes later stays.")
	until := valueOf(t, asked.body, "until")
	later := newMessage("event-3", `{}`)
	for name, value := range backend.DeadLetterMetadata("orders", "charge", 3, errors.New("no")) {
		later.Metadata.Set(name, value)
	}
	require.NoError(t, broker.Publish("orders_dead", later))
	require.Contains(t, s.do(form("action", "purge", "topic", "orders_dead", "until", until)).body, "1 deleted.")
	left, err := broker.DeadLetters(t.Context(), "orders_dead", backend.DeadLetterSelection{})
	require.NoError(t, err)
	require.Len(t, left, 1)
	require.Equal(t, "event-3", left[0].ID)
	require.Equal(t, http.StatusBadRequest, s.post("/do", form("action", "purge", "topic", "orders_dead", "until", "soon")).StatusCode)
	require.Equal(t, http.StatusNotFound, s.get("/confirm?action=purge&topic=orders_dead&handler=none").StatusCode)
}

func TestChange_IsNotRepeatedByAReload(t *testing.T) {
	t.Parallel()
	s := newSite(t, newBroker(t), console.Everything(), func(c *console.Config) { c.Prefix = "/admin/ezq" })
	done := s.post("/admin/ezq/do", confirmed(form("action", "redrive", "topic", "orders_dead", "handler", "charge")))
	require.Equal(t, http.StatusSeeOther, done.StatusCode)
	at, err := url.Parse("/admin/ezq/do")
	require.NoError(t, err)
	to, err := at.Parse(done.Header.Get("Location"))
	require.NoError(t, err)
	require.Equal(t, "/admin/ezq/done", to.Path)
	for range 2 {
		got := s.with(done.Cookies(), to.String())
		require.Equal(t, http.StatusOK, got.StatusCode, got.body)
		require.Contains(t, got.body, "<p>1 moved back.</p>")
		require.Contains(t, got.body, `href="dead?handler=charge&amp;topic=orders_dead"`, "it leads back to another list")
	}
	require.NotContains(t, s.with(done.Cookies(), "/admin/ezq/done?action=redrive&topic=orders_dead").body, "1 moved back", "it is told of another change")
	require.Contains(t, s.get(to.String()).body, "in the log")
	require.Len(t, done.Cookies(), 1)
	require.True(t, done.Cookies()[0].HttpOnly)
	require.Equal(t, http.SameSiteStrictMode, done.Cookies()[0].SameSite)
}

func TestEdit_ThatIsNoJSONIsRefusedBeforeItAsks(t *testing.T) {
	t.Parallel()
	s := newSite(t, newBroker(t), console.Everything())
	got := s.post("/confirm", form("action", "edit", "topic", "orders_dead", "row", "1", "version", version(), "payload", `{"a":}`))
	require.Equal(t, http.StatusBadRequest, got.StatusCode, got.body)
	require.Contains(t, got.body, "The payload is refused: it is no JSON, as byte 6 of 6 shows.")
	require.NotContains(t, got.body, "DeadLetterEdit")
}

func TestPause_OfAScheduleSaysNothingOfConsumers(t *testing.T) {
	t.Parallel()
	s := newSite(t, newBroker(t), console.Everything())
	require.Contains(t, s.get("/confirm?action=pause&topic=orders").body, "All consumers log it.")
	require.NotContains(t, s.get("/confirm?action=pause-schedule&schedule=nightly").body, "consumers")
}

func TestConsole_SaysOfWhenEachPageIs(t *testing.T) {
	t.Parallel()
	s := newSite(t, newBroker(t), console.Everything())
	for _, path := range []string{"/", "/queue?topic=orders", "/dead", "/dead?topic=orders_dead", "/letter?topic=orders_dead&row=1", "/event?id=event-1", "/schedules", "/groups"} {
		require.Contains(t, s.get(path).body, "As of 20", path)
	}
}

func TestLetter_LeadsBackToTheListThatItIsFrom(t *testing.T) {
	t.Parallel()
	broker := newBroker(t)
	s := newSite(t, broker, console.Everything())
	const filtered = `href="dead?handler=charge&amp;topic=orders_dead"`
	require.Contains(t, s.get("/dead?topic=orders_dead&handler=charge").body, `href="letter?handler=charge&amp;row=1&amp;topic=orders_dead"`)
	for _, path := range []string{"/letter?handler=charge&topic=orders_dead&row=1", "/confirm?action=redrive&handler=charge&topic=orders_dead&row=1", "/confirm?action=purge&handler=charge&topic=orders_dead"} {
		require.Contains(t, s.get(path).body, filtered, path)
	}
	require.Contains(t, s.do(form("action", "purge", "topic", "orders_dead", "handler", "another one", "row", "1")).body, "1 deleted.", "the row alone chooses")
}
