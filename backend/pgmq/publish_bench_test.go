package pgmq_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
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

// What a condition costs: each message has an ID or a key of its own, or replaces the one before it.
func BenchmarkPublishOnCondition(b *testing.B) {
	config, err := pgxpool.ParseConfig(pgtest.Database(b))
	require.NoError(b, err)
	config.MaxConns = 8
	pool, err := pgxpool.NewWithConfig(b.Context(), config)
	require.NoError(b, err)
	defer pool.Close()
	publisher, err := pgmq.NewPublisher(pool, nil)
	require.NoError(b, err)
	var count atomic.Int64
	payload := []byte(fmt.Sprintf(`{"_type":"Benchmark","Text":"%0*d"}`, 230, 1))
	send := func(condition func(n int64) *backend.PublishCondition) func() error {
		return func() error {
			n := count.Add(1)
			msg := message.NewMessage(fmt.Sprintf("4a3e1f0c-6d0b-4b6e-9d57-%012d", n), payload)
			msg.Metadata.Set("content-type", "application/json")
			if condition != nil {
				msg.SetContext(backend.WithPublishCondition(b.Context(), condition(n)))
			}
			return publisher.Publish("t", msg)
		}
	}
	for _, goroutines := range []int{1, 8} {
		for _, contender := range []struct {
			name string
			send func() error
		}{
			{"plain", send(nil)},
			{"ID", send(func(int64) *backend.PublishCondition { return once() })},
			{"Unique", send(func(n int64) *backend.PublishCondition { return unique(fmt.Sprint(n)) })},
			{"Unique, of which nine in ten exist", send(func(n int64) *backend.PublishCondition { return unique(fmt.Sprint("often ", n/10)) })},
			{"Replace", send(func(n int64) *backend.PublishCondition { return replacing(fmt.Sprint("r", n%1000), 0) })},
		} {
			b.Run(fmt.Sprintf("%d goroutines/%s", goroutines, contender.name), func(b *testing.B) {
				b.ReportAllocs()
				benchmarkConcurrently(b, goroutines, contender.send)
			})
		}
	}
	require.NoError(b, publisher.Close())
}

// What the groups of other topics cost: those that take a pattern, and those that take one topic. None of them gets the
// message.
func BenchmarkPublishBesideGroups(b *testing.B) {
	for _, groups := range []struct {
		count int
		topic string
	}{{0, ""}, {100, "other%d"}, {100, "other%d.*"}, {1000, "other%d.*"}} {
		b.Run(fmt.Sprintf("%d groups of %s", groups.count, groups.topic), func(b *testing.B) {
			pool := pgtest.Pool(b, pgtest.Database(b))
			publisher, err := pgmq.NewPublisher(pool, nil)
			require.NoError(b, err)
			subscriber, err := pgmq.NewSubscriber(pool, &pgmq.SubscriberConfig{Group: "g"}, nil)
			require.NoError(b, err)
			for i := range groups.count {
				require.NoError(b, subscriber.SubscribeInitialize(fmt.Sprintf(groups.topic, i)))
			}
			b.ReportAllocs()
			for b.Loop() {
				require.NoError(b, publisher.Publish("t.eu", message.NewMessage("4a3e1f0c-6d0b-4b6e-9d57-0a1f6c7f2b11", []byte(`{"_type":"Benchmark"}`))))
			}
			require.NoError(b, subscriber.Close())
			require.NoError(b, publisher.Close())
		})
	}
}
