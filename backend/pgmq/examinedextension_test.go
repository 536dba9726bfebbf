package pgmq_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// insertLarge inserts messages that are examined while a queue is screened. The kind is in their ids.
const insertLarge = `insert into pgmq.q_%s (vt, message, headers)
	select clock_timestamp(), jsonb_build_object('x', (select jsonb_agg(md5(random()::text)) from generate_series(1, 700))), jsonb_build_object('ezq_uuid', '%s')
	from generate_series(1, %d)`

// One message has the queue screened, so that the others, of 23 KB, are examined. Of some the extension is refused, or
// gets no answer.
func TestExamination_ExtensionOfOneKeepsNoOtherBack(t *testing.T) {
	t.Parallel()
	for name, misbehaviour := range map[string]string{"it is refused": "raise 'no'", "it sleeps": "perform pg_sleep(60)"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, pool := open(t, pgmq.Config{})
			require.NoError(t, client.SubscribeInitialize("t"))
			require.NoError(t, client.SubscribeInitialize("u"))
			execute(t, pool, `create function refuse() returns trigger language plpgsql as $$ begin
					if new.headers->>'ezq_uuid' = 'odd' and new.read_ct = old.read_ct then `+misbehaviour+`; end if;
					return new; end $$;
				create trigger refuse before update on pgmq.q_t for each row execute function refuse()`)
			for _, queue := range []string{"t", "u"} {
				execute(t, pool, "insert into pgmq.q_"+queue+" (vt, message) select clock_timestamp(), (select jsonb_agg('1e131071'::numeric) from generate_series(1, 600))")
			}
			execute(t, pool, fmt.Sprintf(insertLarge, "t", "odd", 3))
			began := time.Now()
			execute(t, pool, fmt.Sprintf(insertLarge, "t", "good", 20))
			writing := time.Since(began) // which says how fast the machine is
			began = time.Now()
			for _, topic := range []string{"t", "u"} {
				messages, err := client.Subscribe(t.Context(), topic)
				require.NoError(t, err)
				go func() {
					for msg := range messages {
						msg.Ack()
					}
				}()
			}
			pgtest.Eventually(t, patience, "there is something to examine", func() bool { return get[int](t, pool, "select count(*) from pgmq.a_u") == 1 })
			execute(t, pool, fmt.Sprintf(insertLarge, "u", "good", 20))
			for _, queue := range []string{"t", "u"} {
				pgtest.Eventually(t, patience, "the good ones are handled", func() bool {
					return get[int](t, pool, "select count(*) from pgmq.q_"+queue+" where headers->>'ezq_uuid' = 'good'") == 0
				})
			}
			took := time.Since(began)
			began = time.Now()
			execute(t, pool, "create table pgmq.q_machine (like pgmq.q_t including all)")
			execute(t, pool, fmt.Sprintf(insertLarge, "machine", "good", 20))
			require.Less(t, took, max(45*time.Second, 20*max(writing, time.Since(began)))) // less than the sleep of one
			pgtest.Eventually(t, patience, "the others are handled, too", func() bool { return get[int](t, pool, "select count(*) from pgmq.q_t") == 0 })
		})
	}
}
