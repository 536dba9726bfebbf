package pgmq_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// SECURITY.md lists what a role sees that was granted nothing.
func TestGrants_ShowAnyLoginNamesAndCountsAlone(t *testing.T) {
	t.Parallel()
	database := ordersDatabase(t)
	require.NoError(t, group(t, database, "mailer").SubscribeInitialize("orders"))
	stranger, err := pgx.Connect(t.Context(), pgtest.Role(t, database))
	require.NoError(t, err)
	defer func() { require.NoError(t, stranger.Close(t.Context())) }()
	seen := func(sql string) (value string) {
		require.NoError(t, stranger.QueryRow(t.Context(), sql).Scan(&value), sql)
		return value
	}
	require.Equal(t, "q_orders", seen("select relname from pg_class where relname = 'q_orders'"))
	require.Contains(t, seen("select description from pg_description join pg_class c on c.oid = objoid where starts_with(relname, 'q_orders_mailer')"), "mailer")
	seen("select n_tup_ins::text from pg_stat_all_tables where relname = 'q_orders'")
	_, err = stranger.Exec(t.Context(), "listen ezq")
	require.NoError(t, err)
	publishOnTopic(t, openAt(t, database, pgmq.Config{}), "orders", "a", once())
	heard, err := stranger.WaitForNotification(t.Context())
	require.NoError(t, err)
	require.Contains(t, heard.Payload, "orders")
	require.NotContains(t, heard.Payload, "{")

	for _, table := range []string{"q_orders", "a_orders", "q_orders_dead", "meta", "topic_bindings", "ezq_pauses", "ezq_ids"} {
		_, err := stranger.Exec(t.Context(), "select * from pgmq."+table)
		require.ErrorContains(t, err, "SQLSTATE 42501", table)
	}
	require.Equal(t, "0", seen("select count(*)::text from pg_stats where schemaname = 'pgmq'"), "what ANALYZE has sampled of columns")
}

// With the simple protocol of PostgreSQL, pgx writes parameters into the text of a statement, which a monitor sees.
func TestPublish_ShowsNoMessageInTextOfStatement(t *testing.T) {
	t.Parallel()
	database := ordersDatabase(t)
	monitor := pgtest.Pool(t, pgtest.Role(t, database, grantsOf(t, "ezq_monitor")...))
	client := openAt(t, database+"&default_query_exec_mode=simple_protocol&pool_max_conns=1&application_name=publisher", pgmq.Config{})
	require.NoError(t, client.Publish("orders", conditional(t.Context(), confidential, unique(confidential), 0)))
	publishOnTopic(t, client, "orders", confidential, once())
	require.Positive(t, get[int](t, monitor, "select count(*) from pg_stat_activity where application_name = 'publisher' and query <> ''"))
	const showing = "select count(*) from pg_stat_activity where query like '%c0nfid'||'3ntial%'"
	require.Zero(t, get[int](t, monitor, showing))
	other, err := pgx.Connect(t.Context(), database)
	require.NoError(t, err)
	_, err = other.Exec(t.Context(), "select pgmq.send('orders', '\""+confidential+"\"')")
	require.NoError(t, err)
	require.Equal(t, 1, get[int](t, monitor, showing), "as SECURITY.md says")
	require.NoError(t, other.Close(t.Context()))
}
