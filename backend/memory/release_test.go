package memory_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
)

func TestRelease_LeavesNoTraceOfDelivery(t *testing.T) {
	bubble(t, memory.Config{MaxInFlight: 1}, func(t *testing.T, broker *memory.Broker) {
		publish(t, broker, "a")
		publish(t, broker, "b")
		messages := subscribe(t, broker)
		backend.Nack(receive(t, messages), backend.Redelivery{InPlace: true, Failures: 1, Done: []string{"one"}})
		for range 3 {
			msg := receive(t, messages)
			require.Equal(t, "a", msg.UUID)
			require.Equal(t, 2, delivery(msg).Number)
			require.Equal(t, 1, delivery(msg).Failures)
			require.Equal(t, []string{"one"}, delivery(msg).Done)
			require.True(t, backend.Release(msg))
		}
		receive(t, messages).Ack()
		require.Equal(t, "b", receive(t, messages).UUID)
	})
}

func TestNack_UncountedMayHaveDelay(t *testing.T) {
	bubble(t, memory.Config{MaxInFlight: 1}, func(t *testing.T, broker *memory.Broker) {
		publish(t, broker, "a")
		publish(t, broker, "b")
		messages := subscribe(t, broker)
		start := time.Now()
		backend.Nack(receive(t, messages), backend.Redelivery{Delay: time.Minute, InPlace: true, Uncounted: true, Failures: 3})
		receive(t, messages).Ack()
		again := receive(t, messages)
		require.Equal(t, "a", again.UUID)
		require.Equal(t, time.Minute, time.Since(start))
		require.Equal(t, 1, delivery(again).Number)
		require.Equal(t, 3, delivery(again).Failures)
	})
}
