package pgmq_test

import (
	"fmt"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// What it costs to publish one message per call, small or large, alone and beside
// others, next to pgmq.send and to a prepared INSERT on the same pool.
func BenchmarkPublish(b *testing.B) {
	config, err := pgxpool.ParseConfig(pgtest.Database(b))
	require.NoError(b, err)
	config.MaxConns = 32
	pool, err := pgxpool.NewWithConfig(b.Context(), config)
	require.NoError(b, err)
	defer pool.Close()
	_, err = pool.Exec(b.Context(), "select pgmq.create('t')")
	require.NoError(b, err)
	publisher, err := pgmq.NewPublisher(pool, nil)
	require.NoError(b, err)
	var payload string
	contenders := []struct {
		name string
		send func() error
	}{
		{"ezq", func() error {
			msg := message.NewMessage("4a3e1f0c-6d0b-4b6e-9d57-0a1f6c7f2b11", []byte(payload))
			msg.Metadata.Set("content-type", "application/json")
			return publisher.Publish("t", msg)
		}},
		{"pgmq.send", func() error {
			_, err := pool.Exec(b.Context(), "select pgmq.send('t', $1::jsonb)", payload)
			return err
		}},
		{"INSERT", func() error {
			_, err := pool.Exec(b.Context(), "insert into pgmq.q_t (vt, message) values (clock_timestamp(), $1)", payload)
			return err
		}},
	}
	for _, load := range []struct{ size, goroutines int }{{256, 1}, {256, 8}, {256, 32}, {2 << 10, 32}, {20 << 10, 32}} {
		payload = fmt.Sprintf(`{"_type":"Benchmark","Text":"%0*d"}`, load.size-len(`{"_type":"Benchmark","Text":""}`), 1)
		for _, contender := range contenders {
			b.Run(fmt.Sprintf("%d bytes, %d goroutines/%s", load.size, load.goroutines, contender.name), func(b *testing.B) {
				b.ReportAllocs()
				benchmarkConcurrently(b, load.goroutines, contender.send)
				_, err := pool.Exec(b.Context(), "truncate pgmq.q_t")
				require.NoError(b, err)
			})
		}
	}
	require.NoError(b, publisher.Close())
}

func benchmarkConcurrently(b *testing.B, goroutines int, send func() error) {
	b.SetParallelism(max(goroutines/2, 1)) // times GOMAXPROCS, which is 2 where this is measured
	if goroutines == 1 {
		for b.Loop() {
			require.NoError(b, send())
		}
		return
	}
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := send(); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
