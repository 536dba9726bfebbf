package pgmq_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// A role that may bind queues gives them any name. Each is a name for all that a publisher does, and no SQL.
func TestBoundQueue_NameIsNoSQL(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool := pgtest.Pool(t, database)
	execute(t, pool, `create table loot (n int); create function steal() returns text language plpgsql as $$ begin insert into loot values (1); return ''; end $$`)
	for i, name := range []string{
		`x'||steal()||'`, `x', steal(), '`, `x') is null and steal() is null and to_regclass('`, `it's`, `"`, `a"b`, `\`, `\'||steal()||'`, `\\`, "new\nline", "a\r--",
		`$1`, `$5`, `$6`, `$$`, `{table}`, `{queue}`, `{i}`, `{copies}`, `%s`, `%[1]s`, `--`, `/*`, `;select steal();`, `é`, ` `, `t.t`,
	} {
		t.Run(name, func(t *testing.T) {
			topic := fmt.Sprintf("t%d", i)
			client := openAt(t, database, pgmq.Config{})
			require.NoError(t, client.SubscribeInitialize(topic))
			table := pgx.Identifier{"pgmq", "q_" + name}.Sanitize()
			execute(t, pool, "create table "+table+" (like pgmq.q_"+topic+" including all)")
			_, err := pool.Exec(t.Context(), "with m as (insert into pgmq.meta (queue_name, is_partitioned, is_unlogged) values ($1::text, false, false)) select", name)
			require.NoError(t, err)
			_, err = pool.Exec(t.Context(), "insert into pgmq.topic_bindings (pattern, queue_name) values ($1, $2)", topic, name)
			require.NoError(t, err)
			publishEveryWay(t, client, topic)
			requireCount(t, pool, table, 6)
			execute(t, pool, "update "+table+" set headers = headers - 'ezq_uuid'")
			existing := unique("k")
			publishOnTopic(t, client, topic, "y", existing)
			result, _ := existing.Result()
			require.Equal(t, backend.PublishExisted, result.Outcome)
			execute(t, pool, "delete from "+table+" where not headers ? 'ezq_unique'; delete from pgmq.q_"+topic) // the name is that of the message's default ID
			publishOnTopic(t, client, topic, "z", replacing("k", time.Hour))
			execute(t, pool, "drop table "+table) // its binding is left
			publishEveryWay(t, client, topic)
			_, err = client.Find(t.Context(), topic, backend.Selection{ID: "x"})
			require.NoError(t, err)
			_, err = client.AllMetrics(t.Context())
			require.NoError(t, err)
			requireCount(t, pool, "loot", 0)
		})
	}
}

// publishEveryWay publishes six messages, of which each way has at least one.
func publishEveryWay(t *testing.T, client *pgmq.Client, topic string) {
	t.Helper()
	require.NoError(t, client.Publish(topic, message.NewMessage("a", nil)))
	require.NoError(t, client.Publish(topic, message.NewMessage("b", nil), message.NewMessage("c", nil)))
	publishOnTopic(t, client, topic, fmt.Sprint(topic, time.Now()), once())
	publishOnTopic(t, client, topic, "e", unique("k"))
	publishOnTopic(t, client, topic, "f", replacing("r", time.Hour))
}
