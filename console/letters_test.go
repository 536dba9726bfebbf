package console_test

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/console"
)

// unasked is a backend that fails the test if it is asked about dead letters.
type unasked struct {
	*memory.Broker
	t *testing.T
}

func (u unasked) DeadLetters(context.Context, string, backend.DeadLetterSelection) ([]backend.FoundDeadLetter, error) {
	u.t.Error("dead letters are listed")
	return nil, errBackend
}

func (u unasked) CountDeadLetters(context.Context, string, backend.DeadLetterSelection) ([]backend.DeadLetterCount, error) {
	u.t.Error("dead letters are counted")
	return nil, errBackend
}

// withHeaders is a backend of which each dead letter has these headers.
type withHeaders struct {
	*memory.Broker
	headers map[string]string
}

func (w withHeaders) DeadLetters(context.Context, string, backend.DeadLetterSelection) ([]backend.FoundDeadLetter, error) {
	return []backend.FoundDeadLetter{{Row: 1, ID: "large", Topic: "orders", Payload: []byte("{}"), Metadata: w.headers}}, nil
}

func TestLetter_WithManyHeadersIsBounded(t *testing.T) {
	t.Parallel()
	headers := map[string]string{}
	for i := range 100_000 {
		headers[strconv.Itoa(i)] = ""
	}
	got := newSite(t, withHeaders{withLetter(t, `{"a":1}`), headers}, console.Everything()).get("/letter?topic=orders_dead&row=1")
	require.Equal(t, http.StatusOK, got.StatusCode, got.body)
	require.Contains(t, got.body, "Its headers are left out")
	require.Less(t, len(got.body), 1<<20)
}

// The topic of an event that is to be handled has no dead letters: what lies in it is not to be shown or changed as one.
func TestLetters_AreThoseOfATopicOfDeadLetters(t *testing.T) {
	t.Parallel()
	s := newSite(t, unasked{newBroker(t), t}, console.Everything())
	for _, path := range []string{
		"/dead?topic=orders", "/dead?topic=orders&id=event-1", "/letter?topic=orders&row=1", "/confirm?action=purge&topic=orders",
		"/confirm?action=redrive&topic=orders&row=1", "/confirm?action=edit&topic=orders&row=1", "/dead?topic=unknown",
	} {
		got := s.get(path)
		require.Equal(t, http.StatusNotFound, got.StatusCode, "%s: %s", path, got.body)
		require.Contains(t, got.body, "has no dead letters in it", path)
		require.NotContains(t, got.body, "event-1", path)
	}
	require.Contains(t, s.get("/dead?topic=orders").body, `<a href="dead?topic=orders_dead">Dead letters of orders</a>`)
	for _, action := range []string{"redrive", "purge", "edit"} {
		got := s.post("/do", confirmed(form("action", action, "topic", "orders")))
		require.Equal(t, http.StatusNotFound, got.StatusCode, got.body)
		require.Equal(t, http.StatusBadRequest, s.post("/do", confirmed(form("action", action))).StatusCode)
	}
	require.Empty(t, s.log.String())
}

func TestLetters_OfATopicThatIsNotThereLeadNotToItself(t *testing.T) {
	t.Parallel()
	s := newSite(t, newBroker(t), console.Everything())
	got := s.get("/dead?topic=unknown_dead")
	require.Equal(t, http.StatusNotFound, got.StatusCode)
	require.NotContains(t, got.body, `href="dead?topic=unknown_dead"`)
	got = s.get("/dead?topic=orders_dead&age=soon")
	require.Equal(t, http.StatusBadRequest, got.StatusCode)
	require.Contains(t, got.body, `<a href="dead?topic=orders_dead">Dead letters of orders</a>`)
}

// How many there are would tell whether there is one.
func TestLetters_AreNotChosenByWhatMayNotBeSeen(t *testing.T) {
	t.Parallel()
	s := newSite(t, unasked{newBroker(t), t}, console.Rights{Redrive: true, Purge: true})
	for _, by := range []string{"id=event-2", "id=event-3", "row=1", "row=9", "event=OrderPlaced"} {
		for _, page := range []string{"/dead?", "/confirm?action=redrive&", "/confirm?action=purge&"} {
			got := s.get(page + "topic=orders_dead&" + by)
			require.Equal(t, http.StatusBadRequest, got.StatusCode, "%s: %s", by, got.body)
			require.Contains(t, got.body, "you may not see single messages")
		}
	}
	require.Equal(t, http.StatusBadRequest, s.post("/do", form("action", "purge", "topic", "orders_dead", "row", "1")).StatusCode)
}

func TestLetters_WithoutTheRightToMessagesAreCountedWithoutNamesOfEvents(t *testing.T) {
	t.Parallel()
	broker := newBroker(t)
	for _, event := range []string{"CardDeclined", "OrderLost"} {
		letter := newMessage(event, `{"_type":"`+event+`"}`)
		for name, value := range backend.DeadLetterMetadata("orders", "charge", 3, errors.New("no")) {
			letter.Metadata.Set(name, value)
		}
		require.NoError(t, broker.Publish("orders_dead", letter))
	}
	require.Contains(t, newSite(t, broker, console.Rights{Messages: true}).get("/dead?topic=orders_dead").body, "<td>CardDeclined</td>")
	got := newSite(t, broker, console.Rights{}).get("/dead?topic=orders_dead").body
	require.NotContains(t, got, "CardDeclined")
	require.NotContains(t, got, "OrderLost")
	require.NotContains(t, got, "Event")
	require.Contains(t, got, `>charge</a></th><td></td>`+"\n"+`<td class="n">3</td>`, "those of one handler are one")
}

func TestChange_OfManyLettersSaysUntilWhen(t *testing.T) {
	t.Parallel()
	broker := newBroker(t)
	s := newSite(t, broker, console.Everything())
	for _, action := range []string{"redrive", "purge"} {
		got := s.post("/do", form("action", action, "topic", "orders_dead"))
		require.Equal(t, http.StatusBadRequest, got.StatusCode, got.body)
		require.Contains(t, got.body, "does not say until when")
	}
	left, err := broker.DeadLetters(t.Context(), "orders_dead", backend.DeadLetterSelection{})
	require.NoError(t, err)
	require.Len(t, left, 1)
}

func TestChange_OfNothingSaysWhy(t *testing.T) {
	t.Parallel()
	s := newSite(t, newBroker(t), console.Everything())
	redrive := form("action", "redrive", "topic", "orders_dead", "row", "1")
	require.Contains(t, s.do(redrive).body, "1 moved back.")
	require.Contains(t, s.log.String(), "something was changed")
	s.log.Reset()
	require.Contains(t, s.do(redrive).body, "0 moved back: none of them is there any more.")
	require.Contains(t, s.do(form("action", "purge", "topic", "orders_dead")).body, "0 deleted: none of them is there any more.")
	require.NotContains(t, s.log.String(), "something was changed")
	require.Equal(t, 2, strings.Count(s.log.String(), "has changed nothing"))
}

func TestConfirmation_SaysWhatIsChosenInWords(t *testing.T) {
	t.Parallel()
	s := newSite(t, newBroker(t), console.Everything())
	got := s.get("/confirm?action=redrive&topic=orders_dead&handler=charge&reason=declined&age=24h").body
	require.Contains(t, got, `<strong>dead letters in &#34;orders_dead&#34;: handler &#34;charge&#34;, reason has &#34;declined&#34;, at most 24h old</strong>`)
	got = s.get("/done?action=redrive&topic=orders_dead&until=2026-01-02T03:04:05.678Z").body
	require.Contains(t, got, `all dead letters in &#34;orders_dead&#34;, dead-lettered until 2026-01-02 03:04:05 UTC`)
}

func TestChange_ThatIsRefusedLeadsBack(t *testing.T) {
	t.Parallel()
	s := newSite(t, newBroker(t), console.Everything())
	for back, got := range map[string]reply{
		"confirm?action=pause&amp;topic=orders":           s.post("/do", form("action", "pause", "topic", "orders", "why", "x", "for", "soon")),
		"letter?edit=1&amp;row=1&amp;topic=orders_dead":   s.post("/confirm", form("action", "edit", "topic", "orders_dead", "row", "1", "version", version(), "payload", "{")),
		"dead?age=soon&amp;topic=orders_dead":             s.post("/confirm", form("action", "purge", "topic", "orders_dead", "age", "soon")),
		"confirm?action=pause-schedule&amp;schedule=none": s.post("/do", form("action", "pause-schedule", "schedule", "none", "why", "x")),
	} {
		require.Equal(t, http.StatusBadRequest, got.StatusCode, got.body)
		require.Contains(t, got.body, `<a href="`+back+`">Go back</a>`)
	}
}

// halfRead is a backend that could not look at all dead letters.
type halfRead struct {
	*memory.Broker
	sums []backend.DeadLetterCount
}

func (p halfRead) CountDeadLetters(context.Context, string, backend.DeadLetterSelection) ([]backend.DeadLetterCount, error) {
	return p.sums, &backend.TruncatedError{Reason: "only some rows were looked at", Remedy: "look again"}
}

func (p halfRead) DeadLetters(context.Context, string, backend.DeadLetterSelection) ([]backend.FoundDeadLetter, error) {
	return []backend.FoundDeadLetter{{Row: 7, ID: "seven", Topic: "orders"}}, &backend.TruncatedError{Reason: "only some rows were looked at", Remedy: "look again"}
}

func TestLetters_ThatCouldNotAllBeReadAreNotToldAsAll(t *testing.T) {
	t.Parallel()
	broker := withLetter(t, `{"a":1}`)
	s := newSite(t, halfRead{broker, nil}, console.Everything())
	got := s.get("/dead?topic=orders_dead")
	require.Contains(t, got.body, "No such dead letter was found where it could be looked.")
	require.NotContains(t, got.body, "There are no dead letters")
	require.Contains(t, got.body, "after=7", "the list goes on")

	s = newSite(t, halfRead{broker, []backend.DeadLetterCount{{Letters: 3}}}, console.Everything())
	require.Contains(t, s.get("/confirm?action=purge&topic=orders_dead").body, "At least 3 are there now")
}

func TestRedrive_SaysWhatBecomesOfWhatIsMovedBack(t *testing.T) {
	t.Parallel()
	broker := withLetter(t, `{"a":1}`)
	s := newSite(t, broker, console.Everything())
	got := s.get("/confirm?action=redrive&topic=orders_dead").body
	require.Contains(t, got, "All handlers of an event run again, also those that have succeeded.")
	require.NotContains(t, got, "are paused")
	_, err := broker.Pause(t.Context(), "orders", backend.Pause{By: "ada", Reason: "a test"})
	require.NoError(t, err)
	for _, one := range []string{"", "&row=1"} {
		require.Contains(t, s.get("/confirm?action=redrive&topic=orders_dead"+one).body, "what is moved back for them waits until they are resumed")
	}
}
