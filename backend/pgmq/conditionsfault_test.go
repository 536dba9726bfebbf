package pgmq_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/internal/faultproxy"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// onceEvents may be more than the gate has time for: go test -run TestOnce_RepeatedUntil -once.events=100000.
var onceEvents = flag.Int("once.events", 400, "how many events TestOnce_RepeatedUntilTheOutcomeIsKnown publishes")

// Every tenth reply of the server is lost, or half of it, or half of the request.
func TestOnce_RepeatedUntilTheOutcomeIsKnown(t *testing.T) {
	t.Parallel()
	direct := pgtest.Database(t)
	pool := pgtest.Pool(t, direct)
	proxy, database := throughProxy(t, direct)
	client := openAt(t, database, pgmq.Config{})
	type counted struct{ Number int }
	var published, unknown atomic.Int64
	var publishing sync.WaitGroup
	const publishers = 4
	for publisher := range publishers {
		publishing.Go(func() {
			for number := publisher; number < *onceEvents; number += publishers {
				for attempt := 1; ; attempt++ {
					if published.Add(1)%10 == 0 {
						direction := []faultproxy.Direction{faultproxy.ToClient, faultproxy.ToServer}[rand.IntN(2)]
						proxy.CutAfter(direction, rand.Int64N(300))
					}
					err := ezq.Publish(t.Context(), client, counted{number}, ezq.ID(fmt.Sprint(number)))
					if err == nil {
						break
					}
					if errors.Is(err, pgmq.ErrUnknownOutcome) {
						unknown.Add(1)
					}
					if attempt == 100 {
						t.Errorf("event %d: %v", number, err)
						return
					}
				}
			}
		})
	}
	publishing.Wait()
	proxy.Heal()
	t.Logf("%d publishes, of which %d had an unknown outcome", published.Load(), unknown.Load())
	require.Positive(t, unknown.Load(), "no reply was lost")
	require.Equal(t, *onceEvents, get[int](t, pool, "select count(*) from pgmq.q_ezq"))
	require.Equal(t, *onceEvents, get[int](t, pool, "select count(distinct message->>'Number') from pgmq.q_ezq"))
}

// A lost reply of a publish with a key is repeated until it is known that one message is there.
func TestUnique_LostReplyIsRepeatedWithoutASecondMessage(t *testing.T) {
	t.Parallel()
	direct := pgtest.Database(t)
	pool := pgtest.Pool(t, direct)
	proxy, database := throughProxy(t, direct)
	client := openAt(t, database+"&pool_max_conns=1", pgmq.Config{Publisher: pgmq.PublisherConfig{NoNotify: true}}) // which would take the connection
	for i, condition := range []func(key string) *backend.PublishCondition{
		unique, func(key string) *backend.PublishCondition { return replacing(key, 0) }, func(string) *backend.PublishCondition { return once() },
	} {
		publishOn(t, client, fmt.Sprint("before ", i), condition(fmt.Sprint("before ", i)), 0) // else the reply to the Parse could be the one that is lost
		c := condition("k")
		proxy.Swallow(faultproxy.ToClient)
		result := make(chan error, 1)
		go func() { result <- client.Publish("t", conditional(t.Context(), "a", c, 0)) }()
		requireCount(t, pool, "pgmq.q_t", 2*(i+1))
		proxy.Heal()
		proxy.ResetAll()
		require.ErrorIs(t, <-result, pgmq.ErrUnknownOutcome)
		_, reported := c.Result()
		require.False(t, reported)
		require.NotEqual(t, backend.PublishStored, publishOn(t, client, "a", c, 0).Outcome, i)
		requireCount(t, pool, "pgmq.q_t", 2*(i+1))
		execute(t, pool, "delete from pgmq.q_t where headers->>'ezq_unique' = 't/k'")
		publish(t, client, "in its place")
	}
}
