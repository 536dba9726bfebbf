package pgmq_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/internal/pgtest"
)

// Suspects of a queue that was dropped belong to no queue; their ids are those of other messages in the
// next queue of the same name.
func TestSuspects_OfDroppedQueueDoNotAffectNextOne(t *testing.T) {
	t.Parallel()
	for name, create := range map[string]string{"the next queue is of the same kind": "select pgmq.create('t')", "the next queue is partitioned": partitionSQL} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, pool := open(t, withMaxMessage(1<<20))
			messages := subscribe(t, client)
			warmUp(t, client, messages)
			requireCount(t, pool, "pgmq.q_t", 0)
			for round := range 5 {
				insertBombs(t, pool, 300, numbers(100, "1e131071"), "null")
				insertBombs(t, pool, 100, numbers(3, "1e131071"), "null") // may be read
				pgtest.Eventually(t, patience, "some are suspects", func() bool {
					return get[bool](t, pool, "select exists (select from pgmq.q_t where read_ct > 0)")
				})
				execute(t, pool, "select pgmq.drop_queue('t'); drop table if exists pgmq.template;"+create)
				execute(t, pool, `insert into pgmq.q_t (vt, message, headers) select now(), to_jsonb('new'::text), jsonb_build_object('ezq_uuid', 'new ' || n)
					from generate_series(1, 410) as n`)
				got := map[string]int{}
				for len(got) < 410 {
					msg := receive(t, messages)
					if len(msg.Payload) < 100 {
						got[msg.UUID]++
					}
					msg.Ack()
				}
				requireCount(t, pool, "pgmq.q_t", 0)
				for id, times := range got {
					require.Equal(t, 1, times, "%s in round %d", id, round)
				}
				require.Zero(t, get[int](t, pool, "select count(*) from pgmq.a_t"), "a good message was archived")
			}
			publish(t, client, "after")
			requireReceives(t, messages, "after")
			require.NoError(t, client.Stats()["t"].Failing)
		})
	}
}
