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
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

func TestFindTree_TellsGroupsDeadLettersAndArchive(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	client := openAt(t, database, pgmq.Config{Subscriber: pgmq.SubscriberConfig{Archive: true, LeaseOnly: true}})
	for _, name := range []string{"audit", "bills"} {
		require.NoError(t, group(t, database, name).SubscribeInitialize("paid"))
	}
	pool := pgtest.Pool(t, database)
	execute(t, pool, `select pgmq.create(q) from unnest(array['t', 't_dead']) q;
		insert into pgmq.a_t (msg_id, enqueued_at, vt, message, headers) values
			(1, now() - interval '5s', now(), '{"_type":"Placed"}', '{"ezq_uuid":"order"}'),
			(2, now() - interval '4s', 'infinity', '{"_type":"Odd"}', '{"ezq_uuid":"odd","correlation_id":"order","causation_id":"order"}');
		insert into pgmq.q_t_dead (enqueued_at, vt, message, headers) values
			(now() - interval '3s', now(), '{"_type":"Mailed"}', '{"ezq_uuid":"mail","correlation_id":"order","causation_id":"order","topic_poisoned":"t","reason_poisoned":"no such user"}');
		insert into pgmq.q_t (enqueued_at, vt, read_ct, message, headers) values
			(now() - interval '2s', now() + interval '1h', 1, '{"_type":"Sent"}', '{"ezq_uuid":"sent","correlation_id":"order","causation_id":"mail"}')`)
	for _, name := range []string{"audit", "bills"} {
		execute(t, pool, fmt.Sprintf(`insert into pgmq.%q (enqueued_at, vt, message, headers) values
			(now() - interval '1s', now(), '{"_type":"Paid"}', '{"ezq_uuid":"paid","correlation_id":"order","causation_id":"order"}')`, "q_"+queueOfGroup(t, name)))
	}
	tree, err := ezq.FindTree(t.Context(), client, "paid", "t", "paid")
	require.NoError(t, err)
	queues := strings.NewReplacer(queueOfGroup(t, "audit"), "AUDIT", queueOfGroup(t, "bills"), "BILLS")
	require.Equal(t, `Placed order on t: archived
  Odd odd on t: quarantined
  Mailed mail on t: dead (no such user)
    Sent sent on t: delivered
  Paid paid on paid: waiting in AUDIT, waiting in BILLS
`, queues.Replace(tree.String()))
}

func queueOfGroup(t *testing.T, name string) string {
	t.Helper()
	queue, err := pgmq.GroupQueueName("paid", name)
	require.NoError(t, err)
	return queue
}

func TestFindTree_IsBoundedUnlessThereIsAnIndex(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	execute(t, pool, `select pgmq.create('t'); insert into pgmq.q_t (vt, message, headers) values (now(), '{"_type":"Paid"}', '{"ezq_uuid":"paid","correlation_id":"order"}');
		insert into pgmq.q_t (vt, message, headers) select now(), '{}', '{}' from generate_series(1, 200)`)
	client.SearchAtMost(50, time.Minute)
	tree, err := ezq.FindTree(t.Context(), client, "order", "t")
	require.Empty(t, tree.Roots)
	require.ErrorAs(t, err, new(*backend.TruncatedError))
	execute(t, pool, `create index ezq_header_q_t_correlation_id on pgmq.q_t using hash ((headers->'correlation_id'::text)); create index ezq_id_q_t on pgmq.q_t using hash ((headers->'ezq_uuid'::text))`)
	tree, err = ezq.FindTree(t.Context(), client, "order", "t")
	require.NoError(t, err)
	require.Equal(t, "Paid paid on t: waiting\n", tree.String())
}

func TestFindTree_HasCopyOnceThoughPatternAndTopicFindIt(t *testing.T) {
	t.Parallel()
	client := group(t, pgtest.Database(t), "g")
	require.NoError(t, client.SubscribeInitialize("t.*"))
	queue, err := pgmq.GroupQueueName("t.*", "g")
	require.NoError(t, err)
	for range 2 { // and one that is there twice is told twice
		msg := message.NewMessage("x", nil)
		msg.Metadata.Set("correlation_id", "x")
		require.NoError(t, client.Publish("t.a", msg))
	}
	tree, err := ezq.FindTree(t.Context(), client, "x", "t.a", "t.*")
	require.NoError(t, err)
	require.Len(t, tree.Roots, 1)
	require.Equal(t, "t.a", tree.Roots[0].Topic)
	require.Len(t, tree.Roots[0].Found, 2)
	require.Equal(t, queue, tree.Roots[0].Found[0].Queue)
}
