package pgmq_test

import (
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

func TestSubscription_LosesOnlyTheLeaseThatCannotBeExtended(t *testing.T) {
	t.Parallel()
	for name, trigger := range map[string]string{
		"one extension is refused":     `raise 'no'`,
		"one extension gets no answer": `perform pg_sleep(1000)`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const lease = 10 * time.Second
			client, pool := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{LeaseOnly: true, Lease: lease, MaxInFlight: 50}})
			messages := subscribe(t, client)
			execute(t, pool, `create function refuse() returns trigger language plpgsql as $$ begin
					if new.headers->>'ezq_uuid' = 'odd' and new.read_ct = old.read_ct then `+trigger+`; end if;
					return new; end $$;
				create trigger refuse before update on pgmq.q_t for each row execute function refuse()`)
			publishOddAmong(t, client, 10)
			var odd *message.Message
			var others []*message.Message
			for range 10 {
				if msg := receive(t, messages); msg.UUID == "odd" {
					odd = msg
				} else {
					others = append(others, msg)
				}
			}
			pgtest.Eventually(t, 10*lease, "its lease is lost", func() bool { return odd.Context().Err() != nil })
			execute(t, pool, "drop trigger refuse on pgmq.q_t")
			for _, msg := range others {
				require.NoError(t, msg.Context().Err())
				msg.Ack()
			}
			again := receive(t, messages)
			require.Equal(t, "odd", again.UUID)
			again.Ack()
			requireCount(t, pool, "pgmq.q_t", 0)
		})
	}
}
