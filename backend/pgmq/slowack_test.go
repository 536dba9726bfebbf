package pgmq_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

func TestAck_SlowStopsNoOther(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		config       pgmq.SubscriberConfig
		event, table string
	}{
		"an ack of a locked message is slow": {pgmq.SubscriberConfig{}, "delete", "q_t"},
		"an ack of a leased message is slow": {pgmq.SubscriberConfig{LeaseOnly: true}, "delete", "q_t"},
		"an archived ack is slow":            {pgmq.SubscriberConfig{LeaseOnly: true, Archive: true}, "insert", "a_t"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.config.Lease, test.config.MaxInFlight = 20*time.Second, 50
			client, pool := open(t, pgmq.Config{Subscriber: test.config})
			messages := subscribe(t, client)
			if !test.config.LeaseOnly {
				warmUp(t, client, messages)
			}
			row := map[string]string{"insert": "new", "delete": "old"}[test.event]
			execute(t, pool, `create function sleep() returns trigger language plpgsql as $$ begin
					if `+row+`.headers->>'ezq_uuid' = 'odd' then perform pg_sleep(1000); end if;
					return `+row+`; end $$;
				create trigger sleep before `+test.event+` on pgmq.`+test.table+` for each row execute function sleep()`)
			publishOddAmong(t, client, 8)
			for range 8 {
				receive(t, messages).Ack()
			}
			requireCount(t, pool, "pgmq.q_t", 1)
			execute(t, pool, "drop trigger sleep on pgmq."+test.table)
			publish(t, client, "last")
			for again := ""; again != "last"; {
				msg := receive(t, messages)
				if again = msg.UUID; test.config.LeaseOnly && again != "last" {
					require.Equal(t, "odd", again, "its lease may have ended before it was found")
				}
				msg.Ack()
			}
			requireCount(t, pool, "pgmq.q_t", 0)
			pgtest.Eventually(t, patience, "nothing is kept", func() bool { return client.Stats()["t"].Unstored == 0 })
		})
	}
}
