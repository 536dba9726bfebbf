package pgmq_test

import (
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

const refuseUpdates = `create function refuse() returns trigger language plpgsql as $$ begin
	if new.message ? 'Bad' then raise 'not today'; end if; return new; end $$; `

// refusals is what has PostgreSQL refuse to update rows, and what ends that.
func refusals() map[string]struct{ begins, ends string } {
	const dropped = "drop trigger refuse on pgmq.q_t"
	return map[string]struct{ begins, ends string }{
		"a CHECK": {
			"alter table pgmq.q_t add constraint c check (not message ? 'Bad') not valid",
			"alter table pgmq.q_t drop constraint c",
		},
		"a trigger": {refuseUpdates + "create trigger refuse before update on pgmq.q_t for each row execute function refuse()", dropped},
		"a deferred trigger": {
			refuseUpdates + "create constraint trigger refuse after update on pgmq.q_t deferrable initially deferred for each row execute function refuse()", dropped,
		},
	}
}

func publishJSON(t *testing.T, client *pgmq.Client, payload string, n int) {
	t.Helper()
	var all []*message.Message
	for i := range n {
		msg := message.NewMessage(fmt.Sprint(payload, i), []byte(payload))
		msg.Metadata.Set("content-type", "application/json")
		all = append(all, msg)
	}
	require.NoError(t, client.Publish("t", all...))
}

// A row whose UPDATE is refused cannot be leased, and is the first that a claim would lease.
func TestClaim_PassesByARowWhoseUpdateIsRefused(t *testing.T) {
	t.Parallel()
	for mode, config := range map[string]pgmq.SubscriberConfig{
		"by default": {}, "with LeaseOnly": {LeaseOnly: true}, "one at a time": {SyncAck: true, MaxInFlight: 1, Archive: true},
	} {
		for name, refusal := range refusals() {
			t.Run(name+", "+mode, func(t *testing.T) {
				t.Parallel()
				log := &logRecorder{}
				client, pool := open(t, pgmq.Config{Subscriber: config, Logger: slog.New(slog.NewTextHandler(log, nil))})
				require.NoError(t, client.SubscribeInitialize("t"))
				publishJSON(t, client, `{"Bad":1}`, 1)
				publishJSON(t, client, `{}`, 60)
				execute(t, pool, refusal.begins)
				handled := handleSlowly(t, client)
				pgtest.Eventually(t, patience, "the good ones are handled", func() bool {
					return get[int](t, pool, "select count(*) from pgmq.q_t where not message ? 'Bad'") == 0
				})
				if handled.bad.Load() == 0 { // else it was locked, and acked in time
					requirePassedBy(t, client, pool, log)
					execute(t, pool, refusal.ends)
				}
				requireCount(t, pool, "pgmq.q_t", 0)
			})
		}
	}
}

func requirePassedBy(t *testing.T, client *pgmq.Client, pool *pgxpool.Pool, log *logRecorder) {
	t.Helper()
	requireCount(t, pool, "pgmq.q_t where message ? 'Bad' and read_ct = 0", 1)
	require.EqualValues(t, 1, client.Stats()["t"].Quarantined)
	require.Contains(t, log.String(), "refuses to lease a message")
	require.Contains(t, log.String(), "msg_id=1 ")
	require.Contains(t, log.String(), "change what is refused, or remove that")
}

// handled counts what was handled.
type handled struct{ good, bad atomic.Int64 }

// handleSlowly handles messages, each in 40 ms, so that a lock transaction has to lease some.
func handleSlowly(t *testing.T, client *pgmq.Client) *handled {
	t.Helper()
	h := &handled{}
	messages := subscribe(t, client)
	for range 4 {
		go func() {
			for msg := range messages {
				<-time.After(40 * time.Millisecond)
				if string(msg.Payload) == `{}` {
					h.good.Add(1)
				} else {
					h.bad.Add(1)
				}
				msg.Ack()
			}
		}()
	}
	return h
}

// Where all rows are refused, none of them is to blame.
func TestClaim_PassesByNothingWhereEachUpdateIsRefused(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	publishJSON(t, client, `{"Bad":1}`, 20)
	execute(t, pool, refusals()["a trigger"].begins)
	store, err := client.Store(t.Context(), "t")
	require.NoError(t, err)
	for range 3 {
		_, err := store.Claim(t.Context(), nil, 10, time.Minute)
		require.ErrorContains(t, err, "not today")
	}
	requireCount(t, pool, "pgmq.q_t where read_ct = 0", 20)
	execute(t, pool, refusals()["a trigger"].ends)
	claim, err := store.Claim(t.Context(), nil, 10, time.Minute)
	require.NoError(t, err)
	require.Len(t, claim.Leases, 10)
}

func TestClaim_PassesByManyRowsThatAreRefused(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	publishJSON(t, client, `{"Bad":1}`, 120)
	publishJSON(t, client, `{}`, 20)
	execute(t, pool, refusals()["a CHECK"].begins)
	store, err := client.Store(t.Context(), "t")
	require.NoError(t, err)
	claimed := 0
	pgtest.Eventually(t, patience, "all good ones are claimed", func() bool {
		claim, err := store.Claim(t.Context(), nil, 10, time.Minute)
		require.NoError(t, err)
		claimed += len(claim.Leases)
		return claimed == 20
	})
	claim, err := store.Claim(t.Context(), nil, 10, time.Minute)
	require.NoError(t, err)
	require.Empty(t, claim.Leases)
	require.NotZero(t, claim.Next, "it does not look again at once")
}
