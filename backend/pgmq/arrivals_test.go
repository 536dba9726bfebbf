package pgmq_test

import (
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

func TestArrivals_AreThoseOfQueueAndArchiveInTheirOrder(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	client := openAt(t, database, pgmq.Config{})
	for _, id := range []string{"a", "b", "c", "d"} {
		require.NoError(t, client.Publish("orders", message.NewMessage(id, []byte(`{}`))))
	}
	pool := pgtest.Pool(t, database)
	pgtest.Exec(t, pool, `select pgmq.archive('orders', 2::bigint);
		insert into pgmq.a_orders (msg_id, read_ct, enqueued_at, vt, message) select msg_id, read_ct, enqueued_at, vt, message from pgmq.q_orders where msg_id = 3`)
	ids := func(a pgmq.ArrivalSelection) (all []string) {
		found, err := client.Arrivals(t.Context(), "orders", a)
		require.NoError(t, err)
		for _, f := range found {
			all = append(all, f.ID)
		}
		return all
	}
	require.Equal(t, []string{"a", "b", "c", "d"}, ids(pgmq.ArrivalSelection{}), "one that is in both is there once")
	require.Equal(t, []string{"c", "d"}, ids(pgmq.ArrivalSelection{After: 2}))
	require.Equal(t, []string{"b", "c", "d"}, ids(pgmq.ArrivalSelection{Newest: 3}))
	require.Equal(t, []string{"b", "d"}, ids(pgmq.ArrivalSelection{Known: func(row int64) bool { return row%2 == 1 }}))
	require.Empty(t, ids(pgmq.ArrivalSelection{After: 4}))
	found, err := client.Arrivals(t.Context(), "oders", pgmq.ArrivalSelection{})
	require.NoError(t, err)
	require.Empty(t, found)
}
