package pgmq_test

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

func TestQueueStates_TellOfEachQueue(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	client, pool := openAt(t, database, pgmq.Config{}), pgtest.Pool(t, database)
	group := openAt(t, database, pgmq.Config{Subscriber: pgmq.SubscriberConfig{Group: "g"}})
	require.NoError(t, group.SubscribeInitialize("orders.eu"))
	execute(t, pool, "select pgmq.create('b'), pgmq.create('b_dead'), pgmq.create('a');"+
		"insert into pgmq.q_b (vt, message) select now() - interval '1 hour', '{}' from generate_series(1, 3);"+
		"insert into pgmq.q_b (vt, message) select now() + interval '1 hour', '{}' from generate_series(1, 2);"+
		"insert into pgmq.q_a (vt, message) select now(), '{}' from generate_series(1, 10001)")
	states, err := client.QueueStates(t.Context())
	require.NoError(t, err)
	var names []string
	for _, s := range states {
		names = append(names, s.Topic+" "+s.Group)
	}
	require.Equal(t, []string{"a ", "b ", "b_dead ", "orders.eu g"}, names)
	require.Equal(t, []any{backend.MaxQueueCount, true, 0, false}, []any{states[0].Waiting, states[0].WaitingCapped, states[0].Invisible, states[0].InvisibleCapped})
	require.Equal(t, []any{3, false, 2, false}, []any{states[1].Waiting, states[1].WaitingCapped, states[1].Invisible, states[1].InvisibleCapped})
	require.InDelta(t, time.Hour, states[1].Oldest, float64(time.Minute))
	require.WithinDuration(t, time.Now().Add(time.Hour), states[1].NextDue, time.Minute)
	execute(t, pool, "delete from pgmq.q_b where vt < now()")
	pgtest.Eventually(t, patience, "statistics", func() bool {
		states, err := client.QueueStates(t.Context())
		require.NoError(t, err)
		return states[1].Added == 5 && states[1].Removed == 3
	})
}

// statedQueues may be more than the gate has time for: go test -v -run TestQueueStates_OfMany ./backend/pgmq -states.queues=1000.
var statedQueues = flag.Int("states.queues", 110, "how many queues TestQueueStates_OfManyQueuesMissNone has")

// Many are looked at in several statements.
func TestQueueStates_OfManyQueuesMissNone(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	client, pool := openAt(t, database, pgmq.Config{}), pgtest.Pool(t, database)
	for from := 0; from < *statedQueues; from += 100 { // locks of one transaction are limited
		execute(t, pool, fmt.Sprintf("select pgmq.create('n' || i) from generate_series(%d, %d) as i", from, min(from+99, *statedQueues-1)))
	}
	execute(t, pool, fmt.Sprintf("do $$ begin for i in 0..%d loop execute format("+
		"'insert into pgmq.q_n%%s (vt, message) select now(), ''{}'' from generate_series(1, %%s)', i, i %% 7); end loop; end $$", *statedQueues-1))
	for _, look := range []string{"the first", "the second"} { // which knows that the tables are trusted
		start := time.Now()
		states, err := client.QueueStates(t.Context())
		require.NoError(t, err)
		t.Log(look, "took", time.Since(start).Round(time.Millisecond))
		require.Len(t, states, *statedQueues)
		for _, s := range states {
			var n int
			_, err := fmt.Sscanf(s.Topic, "n%d", &n)
			require.NoError(t, err)
			require.Equal(t, n%7, s.Waiting, s.Topic)
		}
	}
}

// The queue of the schedules is no topic: nothing can be published to it, nor found in it.
func TestQueueStates_TellNoTopicThatCannotBeAskedAbout(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	execute(t, pool, "select pgmq.create('orders'), pgmq.create('ezq_schedules')")
	states, err := client.QueueStates(t.Context())
	require.NoError(t, err)
	require.Len(t, states, 2)
	require.Equal(t, []string{"ezq_schedules", ""}, []string{states[0].Queue, states[0].Topic})
	for _, s := range states {
		if s.Topic != "" {
			_, err := client.Find(t.Context(), s.Topic, backend.Selection{ID: "1"})
			require.NoError(t, err, s.Topic)
		}
	}
}

func TestQueueStates_OfOneThatIsLockedHideNoOther(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	execute(t, pool, "select pgmq.create('a'), pgmq.create('b'), pgmq.create('c')")
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, tx.Rollback(t.Context())) }()
	_, err = tx.Exec(t.Context(), "lock table pgmq.q_b in access exclusive mode")
	require.NoError(t, err)
	states, err := client.QueueStates(t.Context())
	require.ErrorContains(t, err, `"b"`)
	require.Len(t, states, 2)
}

func TestPeek_GoesThroughAQueueInTheOrderOfDelivery(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	require.NoError(t, client.SubscribeInitialize("t"))
	execute(t, pool, `insert into pgmq.q_t (vt, message, headers) select date_trunc('day', now()), '{"n": 1}', '{"a": "b"}' from generate_series(1, 5); `+
		"insert into pgmq.q_t (vt, message) values ('infinity', '6'), ('-infinity', '7'), (now() + interval '1 hour', '8')")
	before := get[string](t, pool, "select string_agg(q::text, ' ' order by msg_id) from pgmq.q_t q")
	var ids []string
	for after := ""; ; {
		found, err := client.Peek(t.Context(), "t", backend.Peek{After: after, Limit: 3})
		require.NoError(t, err)
		if len(found) == 0 {
			break
		}
		for _, f := range found {
			require.Equal(t, backend.InTopic, f.Place)
			ids, after = append(ids, f.ID), f.After
		}
	}
	require.Equal(t, []string{"t/7", "t/1", "t/2", "t/3", "t/4", "t/5", "t/8", "t/6"}, ids)
	require.Equal(t, before, get[string](t, pool, "select string_agg(q::text, ' ' order by msg_id) from pgmq.q_t q"), "something has changed")
	found, err := client.Peek(t.Context(), "t", backend.Peek{Limit: 2})
	require.NoError(t, err)
	require.JSONEq(t, `{"n": 1}`, string(found[1].Payload))
	require.Equal(t, message.Metadata{"a": "b"}, found[1].Metadata)
	found, err = client.Peek(t.Context(), "unknown", backend.Peek{})
	require.NoError(t, err)
	require.Empty(t, found)
}

func TestPeek_LooksIntoGroupsAndDeadLetters(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	client := openAt(t, database, pgmq.Config{})
	group := openAt(t, database, pgmq.Config{Subscriber: pgmq.SubscriberConfig{Group: "g"}})
	require.NoError(t, group.SubscribeInitialize("t"))
	require.NoError(t, client.Publish("t", message.NewMessage("1", []byte(`1`))))
	require.NoError(t, client.Publish("t_dead", message.NewMessage("2", []byte(`2`))))
	found, err := client.Peek(t.Context(), "t", backend.Peek{Group: "g"})
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.Equal(t, []any{"1", backend.InGroup, backend.StateWaiting}, []any{found[0].ID, found[0].Place, found[0].State})
	found, err = client.Peek(t.Context(), "t_dead", backend.Peek{})
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.Equal(t, []any{"2", backend.InDeadLetters, backend.StateDead}, []any{found[0].ID, found[0].Place, found[0].State})
}

func TestPeek_SaysThatItHasNotLookedAtAll(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	require.NoError(t, client.SubscribeInitialize("t"))
	execute(t, pool, "insert into pgmq.q_t (vt, message) select date_trunc('day', now()), '1' from generate_series(1, 10020)")
	found, err := client.Peek(t.Context(), "t", backend.Peek{Limit: 5})
	require.NoError(t, err)
	require.Len(t, found, 5)
	after := backend.PeekPlace{Due: found[0].VisibleAt.UnixMicro(), Row: 9_999}
	found, err = client.Peek(t.Context(), "t", backend.Peek{After: after.String(), Limit: 5})
	var truncated *backend.TruncatedError
	require.ErrorAs(t, err, &truncated)
	require.Less(t, len(found), 5)
}

func TestPeek_TakesAnyPlace(t *testing.T) {
	t.Parallel()
	client, _ := open(t, pgmq.Config{})
	require.NoError(t, client.SubscribeInitialize("t"))
	for _, after := range []string{"-9223372036854775808.1", "-9223372036854775807.1", "9223372036854775807.1", "9223372036854775806.1", "-210866803200000001.0", "0.0"} {
		_, err := client.Peek(t.Context(), "t", backend.Peek{After: after})
		require.NoError(t, err, after)
	}
}

func TestPeek_OfOneThatCannotBeReadHidesNoOther(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	require.NoError(t, client.SubscribeInitialize("t"))
	execute(t, pool, fmt.Sprintf(`insert into pgmq.q_t (vt, message, headers) values (now(), '1', '{}'), (now(), '2', '{"x": "%s"}'), (now(), '3', '{}')`, strings.Repeat("y", 300_000)))
	found, err := client.Peek(t.Context(), "t", backend.Peek{})
	require.NoError(t, err)
	require.Len(t, found, 3)
	require.Error(t, found[1].Err)
	require.NoError(t, found[2].Err)
}

func TestBindings_TellGroupsFromOthers(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	client, pool := openAt(t, database, pgmq.Config{}), pgtest.Pool(t, database)
	for topic, group := range map[string]string{"orders": "billing", "orders.*": "audit"} {
		c := openAt(t, database, pgmq.Config{Subscriber: pgmq.SubscriberConfig{Group: group}})
		require.NoError(t, c.SubscribeInitialize(topic))
	}
	execute(t, pool, "select pgmq.create('other'), pgmq.create('gone'); select pgmq.bind_topic('#', 'other'), pgmq.bind_topic('x', 'gone'); drop table pgmq.q_gone")
	bound, err := client.Bindings(t.Context())
	require.NoError(t, err)
	var all []string
	for _, b := range bound {
		all = append(all, fmt.Sprint(b.Topic, " ", b.Group, " ", b.Missing))
	}
	require.Equal(t, []string{"#  false", "orders billing false", "orders.* audit false", "x  true"}, all)
}

// programNamed returns the program of a name, if it is listed.
func programNamed(t *testing.T, client *pgmq.Client, name string) (found backend.Program) {
	t.Helper()
	all, err := client.Programs(t.Context())
	require.NoError(t, err)
	for _, p := range all {
		if p.Name == name {
			found = p
		}
	}
	return found
}

func TestPrograms_AreThoseThatAreConnected(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	other := pgtest.Pool(t, database+"&application_name=<billing>")
	begin, owner := get[time.Time](t, pgtest.Pool(t, database), "select clock_timestamp()"), get[string](t, other, "select current_user")
	seen := programNamed(t, openAt(t, database, pgmq.Config{}), "<billing>")
	require.NotEmpty(t, seen.Host)
	require.WithinDuration(t, begin, seen.Since, patience)
	require.Equal(t, backend.Program{Name: "<billing>", Role: owner, Host: seen.Host, Connections: 1, Since: seen.Since}, seen)

	role := openAt(t, pgtest.Role(t, database, "grant usage on schema pgmq to {role}"), pgmq.Config{})
	require.Equal(t, backend.Program{Name: "<billing>", Role: owner, Connections: 1}, programNamed(t, role, "<billing>"), "as far as the role may see it")
	all, err := role.Programs(t.Context())
	require.NoError(t, err)
	require.True(t, slices.ContainsFunc(all, func(p backend.Program) bool { return p.Name == "ezq" && !p.Since.IsZero() }), "it sees itself")
	require.Zero(t, programNamed(t, openAt(t, pgtest.Database(t), pgmq.Config{}), "<billing>"), "that is connected to another database")
}
