package pgmq_test

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// How long after the call of Publish a subscription, in what counts as another
// process, hands the message over.
func BenchmarkLatency(b *testing.B) {
	for _, perSecond := range []int{20, 50, 1000} {
		b.Run(fmt.Sprintf("%d per second", perSecond), func(b *testing.B) {
			benchmarkLatency(b, time.Second/time.Duration(perSecond))
		})
	}
}

func benchmarkLatency(b *testing.B, pause time.Duration) {
	database := pgtest.Database(b)
	publisher, subscriber := openFor(b, database), openFor(b, database)
	messages, err := subscriber.Subscribe(b.Context(), "t")
	require.NoError(b, err)
	took := make([]time.Duration, 0, b.N)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for len(took) < b.N {
			msg := <-messages
			published, _ := strconv.ParseInt(string(msg.Payload), 10, 64)
			took = append(took, time.Since(time.Unix(0, published)))
			msg.Ack()
		}
	}()
	tick := time.NewTicker(pause)
	defer tick.Stop()
	b.ResetTimer()
	for range b.N {
		<-tick.C
		now := strconv.FormatInt(time.Now().UnixNano(), 10)
		require.NoError(b, publisher.Publish("t", message.NewMessage("a", []byte(now))))
	}
	<-done
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}

func openFor(b *testing.B, database string) *pgmq.Client {
	b.Helper()
	client, err := pgmq.Open(b.Context(), database, nil)
	require.NoError(b, err)
	b.Cleanup(func() { _ = client.Close() })
	return client
}
