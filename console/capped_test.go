package console_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/console"
)

// counting is a backend with these states, whose messages cannot be read.
type counting struct {
	*memory.Broker
	states []backend.QueueState
}

func (c counting) QueueStates(context.Context) ([]backend.QueueState, error) { return c.states, nil }

func (counting) Peek(context.Context, string, backend.Peek) ([]backend.Peeked, error) {
	return nil, context.DeadlineExceeded
}

func TestCounts_SayWhereThereMayBeMore(t *testing.T) {
	t.Parallel()
	s := newSite(t, counting{newBroker(t), []backend.QueueState{
		{Queue: "orders", Topic: "orders", Waiting: 10000, WaitingCapped: true},
		{Queue: "orders_dead", Topic: "orders_dead", Waiting: 0, Invisible: 10000, InvisibleCapped: true},
	}}, console.Everything())
	require.Contains(t, s.get("/dead").body, "<td class=\"n hot\">10\u202f000&#43;</td>", "those that are leased or delayed count")
	got := s.get("/").body
	require.Contains(t, got, "<dt>Waiting</dt><dd>10\u202f000&#43;</dd>")
	require.Contains(t, got, "<dt>Dead letters</dt><dd class=\"hot\">10\u202f000&#43;</dd>")
}

func TestConsole_SaysOfAnEmptyHourThatItWasEmpty(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, counting{newBroker(t), []backend.QueueState{{Queue: "orders", Topic: "orders"}}}, console.Everything())
		for range 3 {
			s.get("/")
			time.Sleep(61 * time.Second)
		}
		require.Contains(t, s.get("/").body, "waiting in the last hour: 0 at most, 0 now")
	})
}

func TestQueue_WhoseMessagesCannotBeReadHasItsState(t *testing.T) {
	t.Parallel()
	s := newSite(t, counting{newBroker(t), []backend.QueueState{{Queue: "orders", Topic: "orders", Waiting: 7}}}, console.Everything())
	got := s.get("/queue?topic=orders")
	require.Equal(t, http.StatusOK, got.StatusCode)
	require.Contains(t, got.body, "<dt>Waiting</dt><dd>7</dd>")
	require.Contains(t, got.body, "This page is not complete: the time limit of 10s was reached.")
	require.Contains(t, got.body, "The messages could not be read.")
	require.NotContains(t, got.body, "Nothing waits here")
}

func TestLetters_SayWhereALinkChoosesMoreThanItsRow(t *testing.T) {
	t.Parallel()
	broker := newBroker(t)
	const wider = "the link chooses others too"
	s := newSite(t, broker, console.Everything())
	require.NotContains(t, s.get("/dead?topic=orders_dead").body, wider)
	letter := newMessage("event-3", `{}`)
	for name, value := range backend.DeadLetterMetadata("orders", "charge", 3, errors.New("")) {
		letter.Metadata.Set(name, value)
	}
	require.NoError(t, broker.Publish("orders_dead", letter))
	got := s.get("/dead?topic=orders_dead").body
	require.Contains(t, got, ">no reason</a> <span class=\"sub\">"+wider)
	require.Contains(t, got, "declined</a></th>")
}

func TestLists_SayThatAFilterHasNoHits(t *testing.T) {
	t.Parallel()
	s := newSite(t, newGroups(t), console.Everything())
	got := s.get("/groups?q=none").body
	require.Contains(t, got, "Nothing has that in its name.")
	require.NotContains(t, got, "<table>")
	require.Contains(t, got, "Show all")
	require.Regexp(t, `<time datetime="20..-..-..T..:..:..Z" title="20`, newSite(t, newBroker(t), console.Everything()).get("/letter?topic=orders_dead&row=1").body+
		newSite(t, newBroker(t), console.Everything()).get("/dead?topic=orders_dead").body)
}
