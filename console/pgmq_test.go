package console_test

import (
	"errors"
	"log/slog"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/console"
	"github.com/ezq-go/ezq/internal/pgtest"
)

func TestConsole_ShowsAndChangesQueuesOfPGMQ(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	open := func(group string) *pgmq.Client {
		client, err := pgmq.Open(t.Context(), database, &pgmq.Config{Subscriber: pgmq.SubscriberConfig{Group: group}, Logger: slog.New(slog.DiscardHandler)})
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, client.Close()) })
		return client
	}
	client := open("")
	require.NoError(t, open("billing").SubscribeInitialize("payments"))
	require.NoError(t, client.Publish("orders", newMessage("event-1", `{"_type":"OrderPlaced","total":12345678901234567890}`)))
	letter := newMessage("event-2", `{"secret":"hunter2"}`)
	for name, value := range backend.DeadLetterMetadata("orders", "charge", 3, errors.New("the card 4711 was declined")) {
		letter.Metadata.Set(name, value)
	}
	require.NoError(t, client.Publish("orders_dead", letter))

	s := newSite(t, client, console.Everything())
	for path, has := range pagesOf() {
		got := s.get(path)
		require.Equal(t, http.StatusOK, got.StatusCode, "%s: %s", path, got.body)
		require.Contains(t, got.body, has, path)
		require.NotContains(t, got.body, "not complete", path)
	}
	require.Contains(t, s.get("/groups").body, ">billing</a>")
	require.Contains(t, s.get("/queue?topic=payments&group=billing").body, "Nothing waits here.")
	require.Equal(t, http.StatusOK, s.get("/doctor").StatusCode)
	require.Contains(t, s.get("/programs").body, `<th scope="row">ezq</th><td>`)
	require.Equal(t, http.StatusForbidden, newSite(t, client, console.Rights{Messages: true}).get("/programs").StatusCode)
	require.Contains(t, s.do(form("action", "pause", "topic", "payments", "group", "billing", "why", "because")).body, "It is paused until")
	require.Contains(t, s.get("/queue?topic=payments&group=billing").body, "Resume the group…")
	require.Contains(t, s.do(form("action", "resume", "topic", "payments", "group", "billing")).body, "<p>It is resumed.</p>")
	for _, name := range []string{"edit", "redrive", "pause", "cancel"} {
		change := changesOf()[name]
		change.values.Set("action", name)
		if name == "edit" {
			found, err := client.DeadLetters(t.Context(), "orders_dead", backend.DeadLetterSelection{})
			require.NoError(t, err)
			change.values.Set("version", found[0].Version())
		}
		got := s.do(change.values)
		require.Equal(t, http.StatusOK, got.StatusCode, got.body)
		require.Contains(t, got.body, change.result, name)
	}
}
