package pgmq_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq"
)

// Not parallel: the heap is everybody's.
//
//nolint:paralleltest // see above
func TestAThousandMessagesInFlightStayUnder20MB(t *testing.T) {
	queue, _ := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{MaxInFlight: 1000}})
	payloads := make([]string, 1000)
	for i := range payloads {
		payloads[i] = fmt.Sprintf("%4d%s", i, strings.Repeat("x", 251))
	}
	publish(t, queue, payloads...)

	before := heap()
	messages := subscribe(t, queue)
	for range payloads {
		receive(t, messages)
	}
	held := int64(heap()) - int64(before)
	require.Less(t, held, int64(20<<20))
	t.Logf("%d bytes for each of 1,000 messages in flight", held/1000)
}

func heap() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}
