package console_test

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/console"
)

// counted counts how often the state of all queues is read, and takes its time for that.
type counted struct {
	*memory.Broker
	reads atomic.Int64
	takes time.Duration
}

func (c *counted) QueueStates(ctx context.Context) ([]backend.QueueState, error) {
	c.reads.Add(1)
	select {
	case <-time.After(c.takes):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return c.Broker.QueueStates(ctx)
}

func TestConsole_ReadsTheStateOnceForAllViewers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		backend := &counted{Broker: memory.New(nil)}
		s := newSite(t, backend, console.Everything())
		for range 60 { // seconds
			for range 20 {
				require.Equal(t, http.StatusOK, s.get("/").StatusCode)
			}
			time.Sleep(time.Second)
		}
		require.LessOrEqual(t, backend.reads.Load(), int64(13))
		time.Sleep(2 * time.Minute)
		before := backend.reads.Load()
		time.Sleep(time.Hour)
		require.InDelta(t, 60, backend.reads.Load()-before, 2, "it is read too often without viewers")
		require.Contains(t, s.get("/").body, "Queues")
		require.NoError(t, backend.Close())
	})
}

func TestConsole_SaysThatTheTimeLimitWasReached(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		backend := &counted{Broker: memory.New(nil), takes: time.Hour}
		s := newSite(t, backend, console.Everything())
		got := s.get("/")
		require.Contains(t, []int{http.StatusGatewayTimeout, http.StatusBadGateway}, got.StatusCode)
		require.Contains(t, got.body, "10s")
		require.NoError(t, backend.Close())
	})
}
