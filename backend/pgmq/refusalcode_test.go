package pgmq_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// codes are SQLSTATEs with which a trigger may refuse a row: PL/pgSQL's own, one that PostgreSQL
// does not know, and those that stand for a state or a table in other places.
func codes() []string {
	return []string{"P0001", "U0001", "55000", "40001", "40P01", "42501", "53400", "55P03", "57014", "08006", "XX000"}
}

// refusing returns SQL for a trigger that refuses what it sees of the message odd.
func refusing(code, event, table string) string {
	row := map[string]string{"insert": "new", "delete": "old"}[event]
	return fmt.Sprintf(`create function refuse() returns trigger language plpgsql as $$ begin
			if %[1]s.headers->>'ezq_uuid' = 'odd' then raise 'not this one' using errcode = '%[2]s'; end if;
			return %[1]s; end $$;
		create trigger refuse before %[3]s on pgmq.%[4]s for each row execute function refuse()`, row, code, event, table)
}

func TestAck_RefusedWithAnyCodeStopsNoOther(t *testing.T) {
	t.Parallel()
	for name, archive := range map[string]bool{"": false, ", with an archive": true} {
		for _, code := range codes() {
			t.Run(code+name, func(t *testing.T) {
				t.Parallel()
				const lease = 6 * time.Second
				client, pool := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{Archive: archive, MaxInFlight: 50, LeaseOnly: true, Lease: lease}})
				messages := subscribe(t, client)
				event, table := "delete", "q_t"
				if archive {
					event, table = "insert", "a_t"
				}
				execute(t, pool, refusing(code, event, table))
				publishOddAmong(t, client, 30)
				for range 30 {
					receive(t, messages).Ack()
				}
				requireCount(t, pool, "pgmq.q_t", 1)
				began := get[time.Time](t, pool, "select clock_timestamp()")
				pgtest.Eventually(t, patience, "its lease goes on", func() bool {
					return get[int](t, pool, "select count(*) from pgmq.q_t where read_ct = 1 and vt > '"+began.Add(lease).Format(time.RFC3339Nano)+"'") == 1
				})
				execute(t, pool, "drop trigger refuse on pgmq."+table)
				publish(t, client, "last")
				require.Equal(t, "last", receive(t, messages).UUID, "it has not come again")
				pgtest.Eventually(t, patience, "it is stored", func() bool { return client.Stats()["t"].Unstored == 0 })
			})
		}
	}
}

// A deferred constraint would refuse the commit, in which there are others.
func TestAck_RefusedByDeferredConstraintStopsNoOther(t *testing.T) {
	t.Parallel()
	for name, leaseOnly := range map[string]bool{"the messages are locked": false, "the messages are leased": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, pool := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{MaxInFlight: 100, LeaseOnly: leaseOnly, Lease: time.Minute}})
			messages := subscribe(t, client)
			warmUp(t, client, messages)
			trigger := strings.Replace(refusing("P0001", "delete", "q_t"), "create trigger refuse before", "create constraint trigger refuse after", 1)
			execute(t, pool, strings.Replace(trigger, "for each row", "deferrable initially deferred for each row", 1))
			publishOddAmong(t, client, 100)
			for range 100 {
				receive(t, messages).Ack()
			}
			requireCount(t, pool, "pgmq.q_t", 1)
			execute(t, pool, "drop trigger refuse on pgmq.q_t")
			publish(t, client, "last")
			require.Equal(t, "last", receive(t, messages).UUID, "none has come again")
		})
	}
}

func TestDeadLetter_RefusedWithAnyCodeStopsNoOther(t *testing.T) {
	t.Parallel()
	for _, code := range codes() {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			client, pool := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{MaxInFlight: 50, NackDelay: time.Hour}})
			require.NoError(t, client.SubscribeInitialize("t_dead"))
			messages := subscribe(t, client)
			execute(t, pool, refusing(code, "insert", "q_t_dead"))
			publishOddAmong(t, client, 30)
			for range 30 {
				require.True(t, backend.DeadLetter(receive(t, messages), backend.DeadLetterTarget{Topic: "t_dead"}))
			}
			requireCount(t, pool, "pgmq.q_t_dead", 29)
			requireCount(t, pool, "pgmq.q_t where headers->>'ezq_uuid' = 'odd' and vt > now() + interval '50 minutes'", 1)
		})
	}
}

func TestRedrive_RefusedWithAnyCodeStopsNoOther(t *testing.T) {
	t.Parallel()
	for _, code := range codes() {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			client, pool := open(t, pgmq.Config{})
			insertDeadLetters(t, pool, 30)
			execute(t, pool, "select pgmq.create('t'); update pgmq.q_dead set headers = headers || '{\"ezq_uuid\":\"odd\"}' where msg_id = 1")
			execute(t, pool, refusing(code, "insert", "q_t"))
			moved, err := redrive(t.Context(), client, "dead", 100, "t")
			require.Equal(t, 29, moved)
			require.ErrorContains(t, err, "not this one")
			require.ErrorContains(t, err, `dead letters that stay: 1; the first is the row 1 and goes to the queues of "t"`)
			requireCount(t, pool, "pgmq.q_dead", 1)
		})
	}
}

func publishOddAmong(t *testing.T, client *pgmq.Client, n int) {
	t.Helper()
	all := []*message.Message{message.NewMessage("odd", []byte("{}"))}
	for i := range n - 1 {
		all = append(all, message.NewMessage(fmt.Sprint(i), []byte("{}")))
	}
	require.NoError(t, client.Publish("t", all...))
}

func TestQuarantine_RefusedByArchiveStopsNoOther(t *testing.T) {
	t.Parallel()
	for _, code := range codes() {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			client, pool := open(t, withMaxMessage(1<<20))
			require.NoError(t, client.SubscribeInitialize("t"))
			execute(t, pool, strings.ReplaceAll(refusing(code, "insert", "a_t"), "new.headers->>'ezq_uuid' = 'odd'", "new.msg_id = 1"))
			insertBombs(t, pool, 2, numbers(100, "1e131071"), "null")
			publish(t, client, "after")
			messages := subscribe(t, client)
			receive(t, messages).Ack()
			requireCount(t, pool, "pgmq.a_t", 1)
			requireCount(t, pool, "pgmq.q_t where vt > now() + interval '50 minutes' and headers ? 'reason_poisoned'", 1)
		})
	}
}
