package brokers_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/conformance"
	"github.com/ezq-go/ezq/conformance/brokers"
)

// The smallest programs that show the gravest of the known failures. One that fails says
// that its cause is gone: then the table of known failures is to be changed.

// Whether it does depends on the moment at which it is closed.
func TestWatermillQueueSchema_LosesFetchedMessages(t *testing.T) {
	connect := system(t, "watermill-sql, queue schema")
	for try := range 20 {
		topic := "orders_" + strconv.Itoa(try)
		first := connect()
		publish(t, first, topic, 10)
		require.Equal(t, []string{"0"}, receive(t, first, topic, 1), "the first message is handled")
		require.NoError(t, first.Subscriber.Close())
		if len(receive(t, connect(), topic, 1)) == 0 {
			return // nine messages were never handed over, and are gone
		}
	}
	require.Fail(t, "it has lost nothing")
}

func TestWatermillNATS_ForgetsAcks(t *testing.T) {
	connect := system(t, "NATS JetStream, as documented")
	topic := "orders_" + strconv.FormatInt(time.Now().UnixNano(), 36)
	first := connect()
	publish(t, first, topic, 2)
	require.Equal(t, []string{"0", "1"}, receive(t, first, topic, 2))
	require.NoError(t, first.Subscriber.Close())

	require.Equal(t, []string{"0", "1"}, receive(t, connect(), topic, 2), "what was acked comes again")
}

// system returns what connects to a backend.
func system(t *testing.T, title string) func() *conformance.Peer {
	for _, b := range brokers.All() {
		if b.Title() != title {
			continue
		}
		system, err := start(t, b)(t.Context())
		require.NoError(t, err)
		if system.Close != nil {
			t.Cleanup(func() { assert.NoError(t, system.Close()) })
		}
		return func() *conformance.Peer {
			peer, err := system.Connect(conformance.PeerConfig{DrainTimeout: time.Second})
			require.NoError(t, err)
			t.Cleanup(func() { _, _ = peer.Subscriber.Close(), peer.Publisher.Close() })
			return peer
		}
	}
	require.Fail(t, "there is no backend "+title)
	return nil
}

func publish(t *testing.T, peer *conformance.Peer, topic string, n int) {
	t.Helper()
	if i, ok := peer.Subscriber.(message.SubscribeInitializer); ok {
		require.NoError(t, i.SubscribeInitialize(topic))
	}
	for i := range n {
		require.NoError(t, peer.Publisher.Publish(topic, message.NewMessage(topic+strconv.Itoa(i), []byte(strconv.Itoa(i)))))
	}
}

// receive acks up to n messages, as far as they come within some seconds.
func receive(t *testing.T, peer *conformance.Peer, topic string, n int) (payloads []string) {
	t.Helper()
	messages, err := peer.Subscriber.Subscribe(t.Context(), topic)
	require.NoError(t, err)
	patience := time.After(5 * time.Second)
	for range n {
		select {
		case msg := <-messages:
			payloads = append(payloads, string(msg.Payload))
			require.True(t, msg.Ack())
		case <-patience:
			return payloads
		}
	}
	return payloads
}
