package console_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/console"
)

// ailing is a backend that cannot be read any more, or in part only, or has lost its queues.
type ailing struct {
	*memory.Broker
	down, partly, dropped *atomic.Bool
}

func newAiling(t *testing.T) ailing {
	t.Helper()
	return ailing{newBroker(t), new(atomic.Bool), new(atomic.Bool), new(atomic.Bool)}
}

func (a ailing) QueueStates(ctx context.Context) ([]backend.QueueState, error) {
	switch {
	case a.down.Load():
		return nil, errBackend
	case a.dropped.Load():
		return nil, nil
	}
	states, err := a.Broker.QueueStates(ctx)
	if a.partly.Load() {
		err = errBackend
	}
	return states, err
}

// followed returns what a live page gets until an event has a text.
func followed(t *testing.T, s *site, path string, change func()) (before, after string) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	w := httptest.NewRecorder()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.console.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil).WithContext(ctx))
	}()
	time.Sleep(2 * time.Second)
	change()
	time.Sleep(20 * time.Second)
	stop()
	<-done
	events := strings.Split(w.Body.String(), "event: page\n")
	require.Greater(t, len(events), 2)
	return events[1], events[len(events)-1]
}

func TestLive_KeepsWhatItHadAndSaysWhyThereIsNothingNew(t *testing.T) {
	t.Parallel()
	for name, page := range map[string]string{"queues": "/live?page=queues", "queue": "/live?page=queue&topic=orders"} {
		synctest.Test(t, func(t *testing.T) {
			backend := newAiling(t)
			s := newSite(t, backend, console.Everything())
			before, after := followed(t, s, page, func() { backend.down.Store(true) })
			require.NotContains(t, before, errBackend.Error(), name)
			require.Contains(t, before, "<dd>1</dd>", name)
			require.Contains(t, after, errBackend.Error(), name)
			require.Contains(t, after, "could not be read. What stands here is older", name)
			require.Contains(t, after, "<dd>1</dd>", name)
			require.Equal(t, asOf(before), asOf(after), name)

			backend.down.Store(false)
			_, after = followed(t, s, page, func() { backend.partly.Store(true) })
			require.Contains(t, after, "This page is not complete: "+errBackend.Error(), name)
		})
	}
}

// asOf returns of when a part is.
func asOf(part string) string {
	_, at, _ := strings.Cut(part, "As of ")
	at, _, _ = strings.Cut(at, ".")
	return at
}

func TestLive_SaysThatItsQueueIsNotThereAnyMore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		backend := newAiling(t)
		s := newSite(t, backend, console.Everything())
		_, after := followed(t, s, "/live?page=queue&topic=orders", func() { backend.dropped.Store(true) })
		require.Contains(t, after, "There is no queue of the topic &#34;orders&#34;.")
		_, after = followed(t, s, "/live?page=queues", func() {})
		require.Contains(t, after, "There is no queue yet")
	})
}

func TestConsole_DoesNotSayOfWhatItCouldNotReadThatItIsNotThere(t *testing.T) {
	t.Parallel()
	backend := newAiling(t)
	backend.partly.Store(true)
	s := newSite(t, backend, console.Everything())
	for _, path := range []string{"/queue?topic=pay", "/dead?topic=pay_dead", "/event?id=x&topic=pay", "/confirm?action=pause&topic=pay"} {
		got := s.get(path)
		require.Equal(t, http.StatusNotFound, got.StatusCode, path)
		require.Contains(t, got.body, "is not among the queues that could be read", path)
		require.NotContains(t, got.body, "dropped", path)
	}
	got := s.get("/event?id=none").body
	require.Contains(t, got, "It was not found where it could be looked, in 1 topic. Not looked in, or not in all of it: queues that could not be read.")
	require.Contains(t, newSite(t, newBroker(t), console.Everything()).get("/event?id=none").body, "It is in none of the 1 topics")
}

// unsearched is a backend of which one topic cannot be searched.
type unsearched struct{ *memory.Broker }

func (u unsearched) Find(ctx context.Context, topic string, s backend.Selection) ([]backend.Found, error) {
	if topic == "pay" {
		return nil, errors.New("it is locked")
	}
	return u.Broker.Find(ctx, topic, s)
}

func TestFind_SaysWhereItCouldNotLook(t *testing.T) {
	t.Parallel()
	broker := newBroker(t)
	require.NoError(t, broker.Publish("pay", newMessage("event-9", "{}")))
	s := newSite(t, unsearched{broker}, console.Everything())
	got := s.get("/event?id=event-9").body
	require.Contains(t, got, "It was not found where it could be looked, in 1 topic. Not looked in, or not in all of it: pay.")
	require.NotContains(t, got, "It is in none of")
	require.Contains(t, s.get("/event?id=event-1").body, "waiting")
}

func TestChange_OfOneLetterIsOfTheOneThatWasShown(t *testing.T) {
	t.Parallel()
	for _, action := range []string{"redrive", "purge"} {
		broker := newBroker(t)
		s := newSite(t, broker, console.Everything())
		require.Contains(t, s.get("/letter?topic=orders_dead&row=1").body, `action=`+action+`&amp;row=1&amp;topic=orders_dead&amp;version=`+version())
		asked := s.get("/confirm?action=" + action + "&topic=orders_dead&row=1&version=" + version())
		require.Equal(t, http.StatusOK, asked.StatusCode)
		change := form("action", action, "topic", "orders_dead", "row", "1", "version", valueOf(t, asked.body, "version"))
		require.NoError(t, broker.EditDeadLetter(t.Context(), "orders_dead", backend.DeadLetterEdit{Row: 1, Version: version(), Payload: []byte(`{"other":1}`), By: "eve"}))
		for _, path := range []string{"/do", "/confirm"} {
			got := s.post(path, change)
			require.Equal(t, http.StatusConflict, got.StatusCode, got.body)
			require.Contains(t, got.body, "another payload than the one that was shown")
		}
		left, err := broker.DeadLetters(t.Context(), "orders_dead", backend.DeadLetterSelection{})
		require.NoError(t, err)
		require.Len(t, left, 1)
		change.Set("version", left[0].Version())
		require.Contains(t, s.do(change).body, "<p>1 ")
	}
}

// It would tell whether a payload is what one takes it for.
func TestLetter_HasNoVersionForThoseWhoMayNotSeeWhatItSays(t *testing.T) {
	t.Parallel()
	got := newSite(t, newBroker(t), console.Rights{Messages: true, Redrive: true, Purge: true}).get("/letter?topic=orders_dead&row=1").body
	require.NotContains(t, got, version())
	require.Contains(t, got, "Redrive…")
	for _, guess := range []string{version(), "another"} {
		got := newSite(t, newBroker(t), console.Rights{Messages: true, Redrive: true}).get("/confirm?action=redrive&topic=orders_dead&row=1&version=" + guess)
		require.Equal(t, http.StatusBadRequest, got.StatusCode, "it is compared")
	}
}

// What is told of a cancel tells whether there is such an event.
func TestCancel_NeedsTheRightToSeeMessages(t *testing.T) {
	t.Parallel()
	s := newSite(t, newBroker(t), console.Rights{Cancel: true})
	for _, action := range []string{"cancel", "stop"} {
		require.Equal(t, http.StatusForbidden, s.post("/do", form("action", action, "topic", "orders", "id", "event-1")).StatusCode)
	}
}
