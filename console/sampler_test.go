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

func TestChange_IsSeenOnTheNextPage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broker := newBroker(t)
		backend := &counted{Broker: broker, takes: 100 * time.Millisecond}
		s := newSite(t, backend, console.Everything())
		for i := range 3 {
			require.NotContains(t, s.get("/queue?topic=orders").body, "<strong>Paused</strong>")
			s.do(form("action", "pause", "topic", "orders", "why", "because"))
			require.Contains(t, s.get("/queue?topic=orders").body, "<strong>Paused</strong>", i)
			s.do(form("action", "resume", "topic", "orders"))
		}
		require.LessOrEqual(t, backend.reads.Load(), int64(14))
	})
}

// What a page shows is not older than it is while there are viewers.
func TestConsole_ShowsNothingOldToTheFirstViewer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broker := newBroker(t)
		s := newSite(t, &counted{Broker: broker, takes: 100 * time.Millisecond}, console.Everything())
		require.NotContains(t, s.get("/").body, ">later</a>")
		for _, idle := range []time.Duration{90 * time.Second, 10 * time.Minute, time.Hour + 17*time.Second} {
			time.Sleep(idle)
			topic := "later" + idle.String()
			require.NoError(t, broker.Publish(topic, newMessage("1", "{}")))
			require.Contains(t, s.get("/").body, ">"+topic+"</a>")
		}
	})
}

// A program makes its topics after it has made its console.
func TestConsole_ShowsWhatIsThereWhenItIsFirstOpened(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broker := memory.New(nil)
		s := newSite(t, broker, console.Everything())
		synctest.Wait()
		require.NoError(t, broker.Publish("orders", newMessage("1", "{}")))
		time.Sleep(300 * time.Millisecond)
		require.Contains(t, s.get("/").body, ">orders</a>")
		require.NoError(t, broker.Close())
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
