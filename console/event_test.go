package console_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/console"
)

func TestEvent_AtManyPlacesWithLargeHeadersIsBounded(t *testing.T) {
	t.Parallel()
	broker := newBroker(t)
	for range 120 {
		msg := newMessage("many", `{}`)
		msg.Metadata.Set("large", strings.Repeat("<", 20_000))
		require.NoError(t, broker.Publish("orders", msg))
	}
	require.NoError(t, broker.Publish("refunds", newMessage("many", `{}`)))
	s := newSite(t, broker, console.Everything())
	got := s.get("/event?id=many")
	require.Equal(t, http.StatusOK, got.StatusCode)
	require.Contains(t, got.body, "Only the first 100 places were looked for")
	require.Equal(t, 100-52, strings.Count(got.body, "Its headers are left out"))
	require.Less(t, len(got.body), 8<<20)
}

// unread is a Broker whose events of a correlation are not read.
type unread struct{ *memory.Broker }

func (u unread) Find(ctx context.Context, topic string, s backend.Selection) ([]backend.Found, error) {
	found, err := u.Broker.Find(ctx, topic, s)
	for i := range found {
		found[i].Payload, found[i].Metadata, found[i].Err = nil, nil, errors.New("there was no memory for it")
	}
	return found, err
}

func TestEvent_ThatWasNotReadSaysSo(t *testing.T) {
	t.Parallel()
	got := newSite(t, unread{newBroker(t)}, console.Everything()).get("/event?id=event-1")
	require.Equal(t, http.StatusOK, got.StatusCode)
	require.Contains(t, got.body, "This page is not complete: ")
	require.Contains(t, got.body, "of 1 messages it is not known what has caused them")
	require.Contains(t, got.body, "its cause is not known: it was not read")
	require.NotContains(t, got.body, "It has none.")
}

func TestFind_FindsAnIDWithBlanksAroundIt(t *testing.T) {
	t.Parallel()
	broker := newBroker(t)
	require.NoError(t, broker.Publish("orders", newMessage("blank ", "{}")))
	s := newSite(t, broker, console.Everything())
	for _, id := range []string{"event-1", "event-1 ", "\tevent-1\r\n", "blank "} {
		got := s.get("/event?id=" + url.QueryEscape(id))
		require.Equal(t, http.StatusOK, got.StatusCode)
		require.Contains(t, got.body, `<span class="tag waiting">`, "%q", id)
	}
	require.NotContains(t, s.get("/event?id=blank").body, `<span class="tag waiting">`)
	require.Equal(t, http.StatusOK, s.serve(httptest.NewRequest(http.MethodGet, "/event?id=+", nil)).StatusCode)
}
