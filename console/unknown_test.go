package console_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/console"
)

// silent is a backend whose answers to changes of dead letters are lost.
type silent struct {
	*memory.Broker
	certain int // how many it has moved before
}

func (s silent) PurgeDeadLetters(_ context.Context, _ string, _ backend.DeadLetterSelection) (backend.Purged, error) {
	return backend.Purged{}, lost(1)
}

func (s silent) Redrive(_ context.Context, _ string, _ backend.DeadLetterSelection) (backend.Redriven, error) {
	return backend.Redriven{Moved: s.certain}, lost(1200)
}

func lost(most int) error {
	return fmt.Errorf("the connection: %w: %w", context.DeadlineExceeded, &backend.UnknownOutcomeError{Most: most})
}

func TestChange_WhoseAnswerIsLostIsNotToldAsNotDone(t *testing.T) {
	t.Parallel()
	s := newSite(t, silent{newBroker(t), 0}, console.Everything())
	got := s.post("/do", confirmed(form("action", "purge", "topic", "orders_dead")))
	require.Equal(t, http.StatusBadGateway, got.StatusCode, got.body)
	require.Contains(t, got.body, "Whether it was done is not known: the answer is lost for 1 message.")
	require.NotContains(t, got.body, "given up")
	require.Contains(t, s.log.String(), "it is not known whether a change from the console was made")

	s = newSite(t, silent{newBroker(t), 3}, console.Everything())
	done := s.do(form("action", "redrive", "topic", "orders_dead")).body
	require.Contains(t, done, "3 moved back. Whether more was done is not known")
	require.NotContains(t, done, "Not all was done")
}
