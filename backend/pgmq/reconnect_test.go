package pgmq_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/cluster"
	"github.com/ezq-go/ezq/internal/ledger"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// recovery is how long after a fault has ended the next message may take: 2 s, or on a busy machine ten times what a new
// client takes for its first message.
func recovery(t *testing.T, database string) time.Duration {
	t.Helper()
	const usual = 2 * time.Second
	begin := time.Now()
	client := openAt(t, database, pgmq.Config{})
	messages := subscribeTo(t, client, "measured")
	require.NoError(t, client.Publish("measured", message.NewMessage("a", nil)))
	receive(t, messages).Ack()
	return max(usual, 10*time.Since(begin))
}

// shortLease is for tests in which leases are lost: what a server has leased to
// a client that never heard of it comes back within a lease.
func shortLease(maxInFlight int) pgmq.Config {
	return pgmq.Config{Subscriber: pgmq.SubscriberConfig{Lease: 3 * time.Second, MaxInFlight: maxInFlight}}
}

func TestReconnect_LosesNothingAcrossServerRestart(t *testing.T) {
	t.Parallel()
	server := cluster.Start(t)
	for _, fault := range []struct {
		name string
		stop func()
	}{
		{"a server that is stopped fast", server.StopFast},
		{"a server that is stopped immediately", server.StopImmediate},
		{"a server that is killed", server.Kill9},
	} {
		t.Run(fault.name, func(t *testing.T) {
			server.Execute("select pgmq.drop_queue(queue_name) from pgmq.meta")
			requireNothingLost(t, server.URL(), func() {
				fault.stop()
				server.StartAgain()
			})
		})
	}
}

// requireNothingLost publishes and consumes while something happens to the
// server, and afterwards, without any help.
func requireNothingLost(t *testing.T, database string, happen func()) {
	t.Helper()
	const consumers, inFlight = 2, 20
	l, pool := ledger.New(), pgtest.Pool(t, database)
	var running []*pgmq.Client
	for n := range consumers {
		consumer := openAt(t, database, shortLease(inFlight))
		startConsuming(t, l, consumer, fmt.Sprint("consumer ", n))
		running = append(running, consumer)
	}
	notified := subscribeTo(t, openWithoutPolling(t, database), "told")
	requireListening(t, pool)
	publisher := openAt(t, database, pgmq.Config{})
	endPublishing := startPublishing(t, l, publisher)
	defer endPublishing()
	pgtest.Eventually(t, patience, "messages flow", func() bool { return l.Deliveries() > 100 })

	end := l.Begin(t.Name(), "")
	happen()
	healed := time.Now()
	pgtest.Eventually(t, patience, "messages flow again", func() bool { return l.DeliveredSince(healed) })
	took, before := time.Since(healed), l.Deliveries()
	pgtest.Eventually(t, patience, "and go on", func() bool { return l.Deliveries() > before+100 })
	end()
	endPublishing()
	requireDrained(t, pool)
	requireListening(t, pool)
	require.NoError(t, publisher.Publish("told", message.NewMessage("a", nil)))
	receive(t, notified).Ack()

	closing := time.Now()
	for _, consumer := range running {
		require.NoError(t, consumer.Close())
	}
	t.Logf("first delivery after %v, closed in %v", took, time.Since(closing))
	requireInOrder(t, l, 2*consumers*inFlight) // twice, if a busy machine loses leases while it catches up
	require.Less(t, took, recovery(t, database))
	require.Less(t, time.Since(closing), closeBound)
}

func subscribeTo(t *testing.T, subscriber message.Subscriber, topic string) <-chan *message.Message {
	t.Helper()
	messages, err := subscriber.Subscribe(t.Context(), topic)
	require.NoError(t, err)
	return messages
}

// closeBound is how long Close may take where no handler holds it up and the
// server may not answer: see [pgmq.Subscriber.Close].
const closeBound = 16 * time.Second

func TestClose_ReturnsDespiteDeadServer(t *testing.T) {
	t.Parallel()
	server := cluster.Start(t)
	client := openAt(t, server.URL(), pgmq.Config{})
	publish(t, client, "a", "b")
	messages := subscribe(t, client)
	receive(t, messages).Ack()
	receive(t, messages) // and is not settled
	server.Kill9()
	start := time.Now()
	require.NoError(t, client.Close())
	t.Log("closed in", time.Since(start))
	require.Less(t, time.Since(start), closeBound)
}
