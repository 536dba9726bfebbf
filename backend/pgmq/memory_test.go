package pgmq_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// Not parallel: the heap is that of all tests.
//
//nolint:paralleltest // see above
func TestMemory_ThousandMessagesStayUnder20MB(t *testing.T) {
	client, _ := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{MaxInFlight: 1000}})
	payloads := make([]string, 1000)
	for i := range payloads {
		payloads[i] = fmt.Sprintf("%4d%s", i, strings.Repeat("x", 251))
	}
	publish(t, client, payloads...)

	before := heap()
	messages := subscribe(t, client)
	for range payloads {
		receive(t, messages)
	}
	held := int64(heap()) - int64(before)
	require.Less(t, held, int64(20<<20))
	t.Logf("%d bytes for each of 1,000 messages in flight", held/1000)
}

// Not parallel: the heap is that of all tests.
//
//nolint:paralleltest // see above
func TestMemory_StaysUnderTwiceMaxInFlightBytes(t *testing.T) {
	const most = 4 << 20
	for name, c := range map[string]struct {
		rows    int
		content string
	}{
		"many small headers":          {50, `'1', (select jsonb_object_agg(to_hex(i), 0) from generate_series(n, n + 9000) i)`},
		"headers of two letters":      {4000, `'1', (select jsonb_object_agg(chr(97 + i / 26) || chr(97 + i % 26), 1) from generate_series(0, 112) i)`},
		"handlers without a name":     {4000, `'1', jsonb_build_object('ezq_done', (select jsonb_agg(''::text) from generate_series(1, 220)))`},
		"many handlers that are done": {50, `'1', jsonb_build_object('ezq_done', (select jsonb_agg(''::text) from generate_series(1, 25000)))`},
		"deep JSON":                   {50, `(repeat('{"a":', 400) || '[' || repeat('{},', 25000) || '1]' || repeat('}', 400))::jsonb, null`},
		"base64":                      {50, `to_jsonb(repeat('AAAA', 30000)), '{"ezq_enc":"base64"}'`},
	} {
		t.Run(name, func(t *testing.T) {
			client, pool := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{MaxInFlight: 10_000, MaxInFlightBytes: most}})
			require.NoError(t, client.SubscribeInitialize("t"))
			execute(t, pool, fmt.Sprintf(`insert into pgmq.q_t (vt, read_ct, last_read_at, message, headers)
				select now(), 1, now(), %s from generate_series(1, %d) n`, c.content, c.rows))
			before := heap()
			messages := subscribe(t, client)
			held := []*message.Message{receive(t, messages)}
			quiet := 0
			pgtest.Eventually(t, time.Minute, "it takes no more", func() bool {
				select {
				case msg := <-messages:
					held, quiet = append(held, msg), 0
				default:
					quiet++
				}
				return quiet > 50
			})
			took := int64(heap()) - int64(before)
			for _, msg := range held {
				msg.Ack()
			}
			t.Logf("%d messages, %d kB of %d", len(held), took>>10, most>>10)
			require.Less(t, took, int64(2*most))
		})
	}
}

// Each takes more memory for what it is than for what it says.
// Not parallel: the heap is that of all tests.
//
//nolint:paralleltest // see above
func TestMemory_OfSmallMessagesIsBounded(t *testing.T) {
	const most = 512 << 10
	for name, leaseOnly := range map[string]bool{"the messages are leased": true, "the messages are locked": false} {
		t.Run(name, func(t *testing.T) {
			client, pool := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{MaxInFlight: 100_000, MaxInFlightBytes: most, LeaseOnly: leaseOnly}})
			require.NoError(t, client.SubscribeInitialize("t"))
			execute(t, pool, `insert into pgmq.q_t (vt, message) select now(), '1' from generate_series(1, 3000)`)
			before := heap()
			messages := subscribe(t, client)
			var held []*message.Message
			pgtest.Eventually(t, time.Minute, "it takes no more", func() bool {
				for {
					select {
					case msg := <-messages:
						held = append(held, msg)
					default: // while messages are locked, they are not leased yet
						return len(held) > most/7000 && len(held) == get[int](t, pool, "select count(*) from pgmq.q_t where vt > now()")
					}
				}
			})
			took := int64(heap()) - int64(before)
			t.Logf("%d messages, %d kB of %d, %d bytes each", len(held), took>>10, most>>10, took/int64(len(held)))
			require.Less(t, took, int64(2*most))
			for _, msg := range held {
				msg.Ack()
			}
		})
	}
}

// Not parallel: the heap is that of all tests.
//
//nolint:paralleltest // see above
func TestMemory_OfLargeMessagesAfterSmallIsBounded(t *testing.T) {
	const most, large = 1 << 20, 120
	for name, leaseOnly := range map[string]bool{"the messages are leased": true, "the messages are locked": false} {
		t.Run(name, func(t *testing.T) {
			client, pool := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{MaxInFlight: 500, MaxInFlightBytes: most, LeaseOnly: leaseOnly}})
			require.NoError(t, client.SubscribeInitialize("t"))
			messages := subscribe(t, client)
			for range 3 {
				warmUp(t, client, messages)
			}
			before := heap()
			execute(t, pool, fmt.Sprintf(`insert into pgmq.q_t (vt, message) select now(), to_jsonb(repeat('x', 100000) || n) from generate_series(1, %d) n`, large))
			held := []*message.Message{receive(t, messages)}
			took := int64(heap()) - int64(before)
			t.Logf("%d kB of %d", took>>10, most>>10)
			require.Less(t, took, int64(2*most))

			ids := map[string]bool{held[0].UUID: true}
			held[0].Ack()
			for len(ids) < large {
				msg := receive(t, messages)
				require.Equal(t, 1, backend.DeliveryFromContext(msg.Context()).Number, "what there was no memory for, was not delivered")
				require.False(t, ids[msg.UUID])
				ids[msg.UUID] = true
				msg.Ack()
			}
		})
	}
}

// heap returns how much memory is in use, with the stacks of goroutines.
func heap() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc + stats.StackInuse
}
