package pgmq_test

import (
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

func TestLease_OfStoppedProcessChangesNothing(t *testing.T) {
	t.Parallel()
	for _, settle := range []string{"ack", "nack", "dead letter", "extend"} {
		t.Run("the "+settle+" of a stopped process", func(t *testing.T) {
			t.Parallel()
			database := pgtest.Database(t)
			pool, owner := pgtest.Pool(t, database), openAt(t, database, pgmq.Config{})
			publish(t, owner, "a")
			require.NoError(t, owner.SubscribeInitialize("dead"))
			zombie := startChild(t, settlesMessage, database, childOutcomeVariable+"="+settle)
			require.Equal(t, "a", zombie.next(t))
			zombie.signal(t, syscall.SIGSTOP)

			msg := receive(t, subscribe(t, owner))
			require.Equal(t, 2, delivery(msg).Number)
			row := func() string { return get[string](t, pool, "select m::text from pgmq.q_t m") }
			before := row()
			zombie.signal(t, syscall.SIGCONT)
			if settle == "extend" {
				require.Equal(t, backend.ErrLeaseLost.Error(), zombie.next(t))
			}
			require.Equal(t, "closed", zombie.next(t), "which stores what is settled")
			require.Equal(t, before, row(), "the owner's message")
			msg.Ack()
			requireCount(t, pool, "pgmq.q_t", 0)
			require.Zero(t, get[int](t, pool, "select count(*) from pgmq.q_dead"))
		})
	}
}

func TestLease_RedeliversMessagesOfKilledConsumer(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool, owner := pgtest.Pool(t, database), openAt(t, database, pgmq.Config{Subscriber: pgmq.SubscriberConfig{MaxInFlight: 20}})
	publish(t, owner, "a")
	killed := startChild(t, settlesMessage, database)
	require.Equal(t, "a", killed.next(t))
	killed.signal(t, syscall.SIGKILL)
	start := time.Now()
	msg := receive(t, subscribe(t, owner))
	took := time.Since(start)
	t.Log("it came back after", took)
	require.Equal(t, "a", msg.UUID)
	require.Less(t, took, time.Second+recovery(t, database), "the lease is a second")
	msg.Ack()
	requireCount(t, pool, "pgmq.q_t", 0)
}

func TestConsumers_TerminatedUnderLoadLoseAndRepeatNothing(t *testing.T) {
	t.Parallel()
	const restarts = 4
	requireAllHandled(t, syscall.SIGTERM, restarts)
}

func TestConsumers_KilledUnderLoadLoseNothing(t *testing.T) {
	t.Parallel()
	const restarts = 3
	requireAllHandled(t, syscall.SIGKILL, restarts)
}

// requireAllHandled publishes events, and ends the process that handles them again and again. Each event is
// handled, and an event is handled again only if it was still in the queue when a process that had handled it
// was gone: its ack was not stored. After SIGTERM there is none.
func requireAllHandled(t *testing.T, end os.Signal, restarts int) {
	t.Helper()
	const events = 2000
	database := pgtest.Database(t)
	pool, client := pgtest.Pool(t, database), openAt(t, database, pgmq.Config{})
	var all []userCreated
	for n := range events {
		all = append(all, userCreated{Email: fmt.Sprint(n)})
	}
	require.NoError(t, ezq.PublishBatch(t.Context(), client, all))
	handled, unsettled := map[string]int{}, 0
	handledAndLeft := func() (left int) {
		rows, err := pool.Query(t.Context(), "select message->>'Email' from pgmq.q_ezq")
		require.NoError(t, err)
		ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		for _, id := range ids {
			left += min(handled[id], 1)
		}
		return left
	}
	for n := 0; n <= restarts; n++ {
		consumer := startChild(t, handlesMessages, database)
		for range events / (restarts + 2) {
			handled[consumer.next(t)]++
		}
		if n == restarts {
			requireCount(t, pool, "pgmq.q_ezq", 0)
			end = syscall.SIGTERM // for the last one has done its work
		}
		consumer.signal(t, end)
		for _, id := range consumer.ended(t) {
			handled[id]++
		}
		left := handledAndLeft()
		unsettled += left
		if end == syscall.SIGTERM {
			require.True(t, consumer.ProcessState.Success(), "Run returns nil after the signal")
			require.Zero(t, left, "everything that was handled is settled")
			require.Zero(t, get[int](t, pool, "select count(*) from pgmq.q_ezq where vt > clock_timestamp()"), "and nothing is leased")
		}
	}
	require.Len(t, handled, events)
	duplicates := 0
	for _, n := range handled {
		duplicates += n - 1
	}
	t.Logf("%d events, %d ends, %d duplicates, %d handled and not settled", events, restarts, duplicates, unsettled)
	require.LessOrEqual(t, duplicates, unsettled)
}
