package memory_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/memory"
)

func TestLease_RedeliversLostMessageInTime(t *testing.T) {
	bubble(t, memory.Config{Lease: time.Second, MaxExtension: time.Second}, func(t *testing.T, broker *memory.Broker) {
		publish(t, broker, "a")
		messages := subscribe(t, broker)
		lost := receive(t, messages)
		<-lost.Context().Done()
		start := time.Now()
		receive(t, messages).Ack()
		require.LessOrEqual(t, time.Since(start), time.Second)
	})
}
