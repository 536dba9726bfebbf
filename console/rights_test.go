package console_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/console"
)

// version is that of the dead letter of newBroker.
func version() string {
	return backend.FoundDeadLetter{Payload: []byte(`{"secret":"hunter2"}`)}.Version()
}

// change is an action with what it needs.
type change struct {
	values url.Values
	right  console.Rights
	result string
}

// changesOf are all actions.
func changesOf() map[string]change {
	return map[string]change{
		"pause":   {form("topic", "orders", "why", "because", "for", "1h"), console.Rights{Pause: true}, "It is paused until"},
		"resume":  {form("topic", "orders"), console.Rights{Pause: true}, "It was not paused."},
		"redrive": {form("topic", "orders_dead"), console.Rights{Redrive: true}, "1 moved back."},
		"purge":   {form("topic", "orders_dead", "handler", "charge"), console.Rights{Purge: true}, "1 deleted."},
		"edit":    {form("topic", "orders_dead", "row", "1", "version", version(), "payload", `{"a":1}`), console.Rights{Messages: true, Payloads: true, Edit: true}, "It is changed"},
		"cancel":  {form("topic", "orders", "id", "event-1"), console.Rights{Messages: true, Cancel: true}, "1 deleted that waited"},
		"stop":    {form("topic", "orders", "id", "event-1"), console.Rights{Messages: true, Cancel: true}, "1 deleted that waited"},
	}
}

// without returns all rights but those.
func without(r console.Rights) console.Rights {
	all := console.Everything()
	all.Redrive, all.Edit, all.Purge = !r.Redrive, !r.Edit, !r.Purge
	all.Pause, all.Cancel = !r.Pause, !r.Cancel
	return all
}

// partial is a backend that can look at some of its queues only.
type partial struct{ *memory.Broker }

func (p partial) QueueStates(ctx context.Context) ([]backend.QueueState, error) {
	states, err := p.Broker.QueueStates(ctx)
	return states, errors.Join(err, errors.New(`the table belongs to the role "mallory"`))
}

func TestConsole_NamesRolesToThoseWithTheRightOfTheDoctorAlone(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/", "/dead", "/event", "/queue?topic=orders"} {
		got := newSite(t, partial{newBroker(t)}, console.Rights{Messages: true, Payloads: true}).get(path)
		require.Equal(t, http.StatusOK, got.StatusCode, got.body)
		require.NotContains(t, got.body, "mallory", path)
		require.Contains(t, got.body, "some queues or pauses could not be looked at", path)
		require.Contains(t, newSite(t, partial{newBroker(t)}, console.Rights{Messages: true, Doctor: true}).get(path).body, "mallory", path)
	}
}

func TestChange_NeedsItsOwnRight(t *testing.T) {
	t.Parallel()
	for name, change := range changesOf() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			change.values.Set("action", name)
			refused := newSite(t, newBroker(t), without(change.right))
			for _, path := range []string{"/confirm", "/do"} {
				got := refused.post(path, change.values)
				require.Equal(t, http.StatusForbidden, got.StatusCode, got.body)
				require.Contains(t, got.body, "You may not")
			}
			require.Empty(t, refused.log.String())

			granted := newSite(t, newBroker(t), change.right)
			got := granted.post("/confirm", change.values)
			require.Equal(t, http.StatusOK, got.StatusCode, got.body)
			require.Contains(t, got.body, `action="do"`)
			require.Empty(t, granted.log.String(), "it is changed before it is confirmed")
			got = granted.do(change.values)
			require.Equal(t, http.StatusOK, got.StatusCode, got.body)
			require.Contains(t, got.body, change.result)
			require.Contains(t, granted.log.String(), "action="+name)
			require.Contains(t, granted.log.String(), "by=ada")
		})
	}
}

func TestChange_IsAPostOfTheSiteItself(t *testing.T) {
	t.Parallel()
	broker := newBroker(t)
	s := newSite(t, broker, console.Everything())
	values := form("action", "purge", "topic", "orders_dead")
	require.Equal(t, http.StatusNotFound, s.get("/do?"+values.Encode()).StatusCode)
	for header, value := range map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"} {
		r := httptest.NewRequest(http.MethodPost, "/do", strings.NewReader(values.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set(header, value)
		got := s.serve(r)
		require.Equal(t, http.StatusForbidden, got.StatusCode)
		require.Contains(t, got.body, "another site")
	}
	left, err := broker.DeadLetters(t.Context(), "orders_dead", backend.DeadLetterSelection{})
	require.NoError(t, err)
	require.Len(t, left, 1)
}

// What cannot be read of a selection must not choose more.
func TestChange_ChoosesNoMoreThanWasMeant(t *testing.T) {
	t.Parallel()
	for _, pairs := range [][]string{{"row", "x"}, {"age", "soon"}, {"age", "-1h"}, {"reason", "declined"}} {
		broker := newBroker(t)
		rights := console.Everything()
		rights.Payloads = false
		s := newSite(t, broker, rights)
		values := form(append(pairs, "action", "purge", "topic", "orders_dead")...)
		got := s.post("/do", confirmed(values))
		require.Equal(t, http.StatusBadRequest, got.StatusCode, "%v: %s", pairs, got.body)
		left, err := broker.DeadLetters(t.Context(), "orders_dead", backend.DeadLetterSelection{})
		require.NoError(t, err)
		require.Len(t, left, 1, "%v", pairs)
	}
}

// What the console does not know may have been meant to choose fewer.
func TestChange_IsRefusedWithAFieldThatIsNotKnown(t *testing.T) {
	t.Parallel()
	broker := newBroker(t)
	s := newSite(t, broker, console.Everything())
	for _, path := range []string{"/confirm", "/do"} {
		got := s.post(path, confirmed(form("action", "purge", "topic", "orders_dead", "hander", "charge")))
		require.Equal(t, http.StatusBadRequest, got.StatusCode, got.body)
		require.Contains(t, got.body, `&#34;hander&#34;`)
	}
	require.Equal(t, http.StatusBadRequest, s.get("/confirm?action=purge&topic=orders_dead&hander=charge").StatusCode)
	left, err := broker.DeadLetters(t.Context(), "orders_dead", backend.DeadLetterSelection{})
	require.NoError(t, err)
	require.Len(t, left, 1)
}

func TestChange_IsRefusedWhereSomethingIsNotRead(t *testing.T) {
	t.Parallel()
	broker := newBroker(t)
	s := newSite(t, broker, console.Everything())
	const encoded, all = "application/x-www-form-urlencoded", "action=purge&topic=orders_dead&until=2100-01-01T00:00:00Z"
	for name, c := range map[string]struct{ path, kind, body string }{
		"a body that is no form":       {"/do?" + all, "application/json", `{"handler":"another"}`},
		"a form of another kind":       {"/do?" + all, "multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=\"handler\"\r\n\r\nanother\r\n--x--\r\n"},
		"a body without a kind":        {"/do", "", all},
		"a filter beside an empty one": {"/do", encoded, all + "&handler=&handler=another"},
		"a row beside an empty one":    {"/confirm", encoded, all + "&row=&row=99"},
		"a filter in the link":         {"/do?handler=another", encoded, all},
	} {
		r := httptest.NewRequest(http.MethodPost, c.path, strings.NewReader(c.body))
		r.Header.Set("Content-Type", c.kind)
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		require.Equal(t, http.StatusBadRequest, s.serve(r).StatusCode, name)
	}
	require.Equal(t, http.StatusBadRequest, s.get("/confirm?"+all+"&reason=&reason=bank").StatusCode)
	left, err := broker.DeadLetters(t.Context(), "orders_dead", backend.DeadLetterSelection{})
	require.NoError(t, err)
	require.Len(t, left, 1)
}

func TestEdit_OfALetterThatOthersHaveChangedIsAConflict(t *testing.T) {
	t.Parallel()
	s := newSite(t, newBroker(t), console.Everything())
	edit := form("action", "edit", "topic", "orders_dead", "row", "1", "version", version(), "payload", "{}")
	s.do(edit)
	got := s.post("/do", edit)
	require.Equal(t, http.StatusConflict, got.StatusCode, got.body)
	require.Contains(t, got.body, "has another payload than the one that was edited")
	require.Contains(t, got.body, "&#34;ada&#34; has edited it")
}

func TestChange_OfWhatHasChangedMeanwhileIsRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t, newBroker(t), console.Everything())
	got := s.post("/do", form("action", "edit", "topic", "orders_dead", "row", "1", "version", "old", "payload", "{}"))
	require.Contains(t, got.body, "has another payload than the one that was edited")
	got = s.post("/do", form("action", "edit", "topic", "orders_dead", "row", "1", "version", version(), "payload", "{"))
	require.Equal(t, http.StatusBadRequest, got.StatusCode)
	require.Contains(t, s.log.String(), "has failed")
}

// A result says nothing of what there was none of.
func TestChange_SaysWhatThereWasAndNoMore(t *testing.T) {
	t.Parallel()
	s := newSite(t, newBroker(t), console.Everything())
	for _, values := range []url.Values{form("action", "redrive", "topic", "orders_dead"), form("action", "cancel", "topic", "orders", "id", "event-1")} {
		require.NotContains(t, s.do(values).body, "Left, since")
	}
	require.Contains(t, s.do(form("action", "cancel", "topic", "orders", "id", "event-1")).body, "<p>It was not there any more.</p>")
}

func TestRedrives_AtOnceSayWhatEachDid(t *testing.T) {
	t.Parallel()
	broker := memory.New(nil)
	t.Cleanup(func() { _ = broker.Close() })
	const n = 200
	for i := range n {
		letter := newMessage(fmt.Sprint(i), "{}")
		for name, value := range backend.DeadLetterMetadata("orders", "h", 1, errors.New("x")) {
			letter.Metadata.Set(name, value)
		}
		require.NoError(t, broker.Publish("orders_dead", letter))
	}
	s := newSite(t, broker, console.Everything())
	moved := make([]int, 2)
	var group sync.WaitGroup
	for i := range moved {
		group.Go(func() {
			done := s.post("/do", confirmed(form("action", "redrive", "topic", "orders_dead")))
			got := s.with(done.Cookies(), "/"+done.Header.Get("Location"))
			_, text, _ := strings.Cut(got.body, "</p><p>")
			_, _ = fmt.Sscanf(text, "%d moved back", &moved[i])
		})
	}
	group.Wait()
	require.Equal(t, n, moved[0]+moved[1])
}
