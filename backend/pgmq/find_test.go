package pgmq_test

import (
	"encoding/json"
	"errors"
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

// find returns what is found without an error.
func find(t *testing.T, client *pgmq.Client, s backend.Selection) []backend.Found {
	t.Helper()
	found, err := client.Find(t.Context(), "t", s)
	require.NoError(t, err)
	return found
}

// places returns where messages were found, and in which states.
func places(found []backend.Found) (all []string) {
	for _, f := range found {
		all = append(all, fmt.Sprint(f.ID, " ", f.Place, " ", f.State))
	}
	return all
}

func TestFind_TellsEachPlaceAndState(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{Archive: true, LeaseOnly: true}})
	publishOn(t, client, "a", unique("k"), time.Hour)
	found := find(t, client, backend.Selection{UniqueKey: "k"})
	require.Len(t, found, 1)
	require.WithinDuration(t, time.Now().Add(time.Hour), found[0].VisibleAt, time.Minute)
	require.WithinDuration(t, time.Now(), found[0].PublishedAt, time.Minute)
	found[0].VisibleAt, found[0].PublishedAt = time.Time{}, time.Time{}
	require.Equal(t, backend.Found{
		ID: "a", UniqueKey: "k", Queue: "t", State: backend.StateDelayed, Payload: []byte("a"), Size: 1, Metadata: message.Metadata{},
	}, found[0])

	execute(t, pool, "update pgmq.q_t set vt = now()")
	require.Equal(t, []string{"a topic waiting"}, places(find(t, client, backend.Selection{ID: "a"})))
	messages := subscribe(t, client)
	msg := receive(t, messages)
	require.Equal(t, []string{"a topic delivered"}, places(find(t, client, backend.Selection{ID: "a", UniqueKey: "k"})))
	backend.Nack(msg, backend.Redelivery{Failures: 1})
	msg = receive(t, messages)
	found = find(t, client, backend.Selection{ID: "a"})
	require.Equal(t, []string{"a topic delivered"}, places(found))
	require.Equal(t, []int{2, 1}, []int{found[0].Deliveries, found[0].Failures})
	require.True(t, backend.DeadLetter(msg, backend.DeadLetterTarget{Topic: "t_dead", Metadata: message.Metadata{backend.DeadLetterTopic: "t"}}))
	pgtest.Eventually(t, patience, "the message is a dead letter", func() bool {
		return len(find(t, client, backend.Selection{Header: backend.DeadLetterTopic, Value: "t"})) == 1
	})
	requireStored(t, client, "b", "k", "after the first was dead-lettered")
	receive(t, messages).Ack()
	pgtest.Eventually(t, patience, "the second message is archived", func() bool {
		return len(find(t, client, backend.Selection{ID: "b"})) == 1 && find(t, client, backend.Selection{ID: "b"})[0].Place == backend.InArchive
	})
	require.Equal(t, []string{"b archive archived"}, places(find(t, client, backend.Selection{UniqueKey: "k"})), "a dead letter has no key")
	require.Equal(t, []string{"a dead letters dead"}, places(find(t, client, backend.Selection{ID: "a"})))
}

func TestFind_LooksAtGroups(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	require.NoError(t, group(t, database, "mail").SubscribeInitialize("t"))
	require.NoError(t, group(t, database, "bills").SubscribeInitialize("t"))
	client := openAt(t, database, pgmq.Config{})
	execute(t, pgtest.Pool(t, database), "select pgmq.create('audit'), pgmq.bind_topic('#', 'audit')")
	publishOn(t, client, "a", unique("k"), 0)
	found := find(t, client, backend.Selection{ID: "a"})
	require.Equal(t, []string{"a group waiting", "a group waiting"}, places(found))
	for i, name := range []string{"bills", "mail"} {
		queue, err := pgmq.GroupQueueName("t", name)
		require.NoError(t, err)
		require.Equal(t, queue, found[i].Queue)
		require.Equal(t, "k", found[i].UniqueKey)
	}
	require.Len(t, find(t, client, backend.Selection{UniqueKey: "k"}), 2)
}

func TestFind_OfTopicWithoutQueueIsEmpty(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	require.Empty(t, find(t, client, backend.Selection{ID: "a"}))
	requireCount(t, pool, "pgmq.meta", 0)
	for _, s := range []backend.Selection{{}, {Limit: 1}, {Header: "ezq_uuid"}} {
		_, err := client.Find(t.Context(), "t", s)
		require.ErrorAs(t, err, new(*backend.RefusedError))
		require.ErrorIs(t, err, pgmq.ErrInvalidConfig)
	}
	_, err := client.Find(t.Context(), "", backend.Selection{ID: "a"})
	require.ErrorIs(t, err, pgmq.ErrInvalidTopic)
}

func TestFind_MatchesAllThatIsSet(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	for _, m := range []struct{ id, payload, tenant string }{
		{"1", `{"_type":"Paid","order":{"i'd\\":7}}`, "a"}, {"2", `{"_type":"Paid","order":{"i'd\\":"7"}}`, "b"}, {"3", `{"_type":7,"order":{"i'd\\":70e-1}}`, ""}, {"4", "text", "a"},
	} {
		msg := message.NewMessage(m.id, []byte(m.payload))
		msg.Metadata = message.Metadata{"ten'ant\\": m.tenant, "name": "Named", "content-type": "application/json"}
		require.NoError(t, client.Publish("t", msg))
	}
	const header, field = `ten'ant\`, `order.i'd\`
	check := func(when string) {
		for _, test := range []struct {
			selection backend.Selection
			want      []string
		}{
			{backend.Selection{Event: "Paid"}, []string{"2", "1"}},
			{backend.Selection{Event: "Paid", Limit: 1}, []string{"2"}},
			{backend.Selection{Event: "Paid", Header: header, Value: "a"}, []string{"1"}},
			{backend.Selection{Header: header, Value: "a"}, []string{"4", "1"}},
			{backend.Selection{Header: header}, []string{"3"}},
			{backend.Selection{Header: "other"}, nil},
			{backend.Selection{Event: "Named"}, []string{"4"}},
			{backend.Selection{ID: "1", UniqueKey: "k"}, nil},
			{backend.Selection{Field: field, Equals: 7}, []string{"3", "1"}},
			{backend.Selection{Field: field, Equals: "7"}, []string{"2"}},
			{backend.Selection{Field: field, Equals: 7, Event: "Paid"}, []string{"1"}},
			{backend.Selection{Field: field, Equals: true}, nil},
			{backend.Selection{Field: "order", Equals: 7}, nil},
		} {
			var ids []string
			for _, f := range find(t, client, test.selection) {
				ids = append(ids, f.ID)
			}
			require.Equal(t, test.want, ids, "%v %s", test.selection, when)
		}
	}
	check("without an index")
	for _, s := range []backend.Selection{{ID: "1"}, {UniqueKey: "k"}, {Event: "Paid"}, {Header: header}, {Field: field, Equals: 7}} {
		execute(t, pool, remedyOf(t, client, s))
	}
	client.SearchAtMost(4, time.Minute)
	check("with the indexes that errors name")
}

// remedyOf returns the statement with which the error says that everything can be looked at.
func remedyOf(t *testing.T, client *pgmq.Client, s backend.Selection) string {
	t.Helper()
	client.SearchAtMost(1, time.Minute)
	_, err := client.Find(t.Context(), "t", s)
	truncated := new(backend.TruncatedError)
	require.ErrorAs(t, err, &truncated)
	require.Equal(t, []string{`"pgmq"."q_t"`}, truncated.Tables)
	require.Contains(t, truncated.Reason, "the newest 1 rows")
	_, statement, ok := strings.Cut(truncated.Remedy, "run ")
	require.True(t, ok, truncated.Remedy)
	return statement
}

// PostgreSQL refuses to build an index of a partitioned table concurrently.
func TestFind_NamesAnIndexThatAPartitionedQueueTakes(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	partition(t, pool)
	execute(t, pool, `insert into pgmq.q_t (vt, message, headers) values
		(now(), '{"_type":"Paid","order":{"id":7}}', '{"ezq_uuid":"1","ezq_unique":"t/k","kind":"a"}'), (now(), '{}', '{}')`)
	for _, s := range []backend.Selection{{ID: "1"}, {UniqueKey: "k"}, {Event: "Paid"}, {Header: "kind", Value: "a"}, {Field: "order.id", Equals: 7}} {
		index, ok := strings.CutSuffix(remedyOf(t, client, s), ", when no program writes to it")
		require.True(t, ok, index)
		execute(t, pool, index)
		found := find(t, client, s)
		require.Len(t, found, 1, "%+v", s)
		require.Equal(t, "1", found[0].ID)
	}
}

func TestFind_RemedyReplacesIndexWhoseBuildWasInterrupted(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	execute(t, pool, `select pgmq.create('t'); insert into pgmq.q_t (vt, message, headers) values
		(now(), '{"_type":"Paid","order":{"id":7}}', '{"ezq_uuid":"1","ezq_unique":"t/k","a long name of a header, which PostgreSQL cuts":"a"}'), (now(), '{}', '{}')`)
	for _, s := range []backend.Selection{{ID: "1"}, {UniqueKey: "k"}, {Event: "Paid"}, {Header: "a long name of a header, which PostgreSQL cuts", Value: "a"}, {Field: "order.id", Equals: 7}} {
		execute(t, pool, remedyOf(t, client, s))
		execute(t, pool, `update pg_index set indisvalid = false where indexrelid in (select oid from pg_class where starts_with(relname, 'ezq_'))`)
		for statement := range strings.SplitSeq(remedyOf(t, client, s), "; ") {
			execute(t, pool, statement)
		}
		require.Len(t, find(t, client, s), 1, "%+v", s)
	}
}

func TestFind_RemedyIsForAnyName(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	execute(t, pool, `select pgmq.create('t'); insert into pgmq.q_t (vt, message, headers) select now(), '{}', '{}' from generate_series(1, 2)`)
	for _, name := range []string{`a\b`, `\'`, "a'b", "$8", "{table}", "größe\n", `a"b`} {
		for _, s := range []backend.Selection{{Field: "x." + name, Equals: 7}, {Header: name, Value: "7"}} {
			execute(t, pool, remedyOf(t, client, s))
			_, err := client.Find(t.Context(), "t", s)
			require.NoError(t, err, "%q", name)
		}
	}
}

func TestFind_IsBoundedUnlessThereIsAnIndex(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	publishOn(t, client, "a", unique("k"), 0)
	execute(t, pool, `insert into pgmq.q_t (vt, message, headers) select now(), '{}', jsonb_build_object('ezq_uuid', n::text) from generate_series(1, 200) n`)
	client.SearchAtMost(50, time.Minute)
	require.Len(t, find(t, client, backend.Selection{UniqueKey: "k"}), 1, "the index of keys")

	found, err := client.Find(t.Context(), "t", backend.Selection{ID: "a"})
	require.Empty(t, found)
	require.ErrorAs(t, err, new(*backend.TruncatedError))
	found, err = client.Find(t.Context(), "t", backend.Selection{ID: "200"})
	require.ErrorAs(t, err, new(*backend.TruncatedError), "an ID may be there more than once")
	require.Len(t, found, 1, "what was found is returned with the error")
	execute(t, pool, remedyOf(t, client, backend.Selection{ID: "a"}))
	client.SearchAtMost(50, time.Minute)
	require.Len(t, find(t, client, backend.Selection{ID: "a"}), 1)

	client.SearchAtMost(50, time.Millisecond)
	execute(t, pool, "insert into pgmq.q_t (vt, message) select now(), to_jsonb(repeat(md5(random()::text), 3000000)) from generate_series(1, 3)")
	_, err = client.Find(t.Context(), "t", backend.Selection{Event: "E"})
	require.ErrorContains(t, err, "a statement took longer than 1ms")
	require.ErrorAs(t, err, new(*backend.TruncatedError))
}

func TestFind_FindsMessagesWithoutAnID(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	client.SearchAtMost(3, time.Minute)
	execute(t, pool, "select pgmq.create('t')")
	execute(t, pool, `insert into pgmq.q_t (vt, message, headers) values
		(now(), '1', null), (now(), '2', '[]'), (now(), '3', '{"ezq_uuid":7}'), (now(), '4', '{"ezq_uuid":"t/1"}'), (now(), '5', '{"ezq_uuid":""}')`)
	for n := 1; n <= 5; n++ {
		id := fmt.Sprint("t/", n)
		found, err := client.Find(t.Context(), "t", backend.Selection{ID: id})
		require.ErrorAs(t, err, new(*backend.TruncatedError))
		require.Len(t, found, 1, id)
		require.Equal(t, id, found[0].ID, "as its consumers get it, whatever it says")
		require.Equal(t, fmt.Sprint(n), string(found[0].Payload))
	}
	execute(t, pool, "update pgmq.q_t set last_read_at = now() where msg_id = 4")
	client.SearchAtMost(5, time.Minute)
	require.Len(t, find(t, client, backend.Selection{ID: "t/1"}), 2, "one that was leased before has the ID that it says")
	require.Empty(t, find(t, client, backend.Selection{ID: "t/4"}))
}

func TestFind_ReadsHostileRows(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	client.SearchAtMost(1000, 2*time.Minute) // writing the sizes out takes seconds on a busy machine
	execute(t, pool, "select pgmq.create('t')")
	insertBombs(t, pool, 1, numbers(100, "1e131071"), `select jsonb_build_object('h', 'v', 'ezq_uuid', 'digits')`)
	insertBombs(t, pool, 1, "'{}'", `select jsonb_build_object('h', 'v', 'ezq_uuid', 'headers', 'n', (`+numbers(2, "1e131071")+`))`)
	refuseToRead(t, pool, "54000")
	insertBombs(t, pool, 1, `'"`+unreadableText+`"'`, `select jsonb_build_object('h', 'v', 'ezq_uuid', 'unreadable')`)
	insertBombs(t, pool, 1, "select to_jsonb(repeat('x', 100000000))", `select jsonb_build_object('h', 'v', 'ezq_uuid', 'large')`)
	insertBombs(t, pool, 1, "'1'", `select jsonb_build_object('h', 'v', 'ezq_uuid', 'plain', 'ezq_failures', 7, 'ezq_unique', 'other/k')`)
	insertBombs(t, pool, 1, "'1'", `select jsonb_build_object('h', '1e131071'::numeric, 'ezq_unique', (`+numbers(10, "1e131071")+`))`)
	found := find(t, client, backend.Selection{Header: "h", Value: "v"})
	require.Equal(t, []string{"plain topic waiting", "large topic waiting", "unreadable topic waiting", "headers topic waiting", "digits topic waiting"}, places(found))
	plain, large, unreadable, headers, digits := found[0], found[1], found[2], found[3], found[4]
	require.Equal(t, "1", string(plain.Payload))
	require.Zero(t, plain.Failures, "a message that was never leased has none")
	require.Empty(t, plain.UniqueKey, "of another topic")
	require.Nil(t, large.Payload)
	require.Equal(t, 100_000_002, large.Size)
	require.ErrorContains(t, unreadable.Err, "SQLSTATE")
	require.Nil(t, unreadable.Metadata)
	require.ErrorContains(t, headers.Err, "the headers have")
	require.Nil(t, digits.Payload)
	require.NoError(t, digits.Err)
	require.Greater(t, digits.Size, 1_000_000)
}

func TestFind_EndsSoonThoughEachMessageTakesLong(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	execute(t, pool, "select pgmq.create('t')")
	execute(t, pool, `create function written(jsonb) returns text language plpgsql as $$ begin perform pg_sleep(60); return ''; end $$;
		create cast (jsonb as text) with function written(jsonb)`)
	execute(t, pool, `insert into pgmq.q_t (vt, message, headers) select now(), '1', '{"h":"v"}' from generate_series(1, 100)`)
	client.SearchAtMost(1000, 2*time.Second)
	start := time.Now()
	found, err := client.Find(t.Context(), "t", backend.Selection{Header: "h", Value: "v"})
	require.ErrorAs(t, err, new(*backend.TruncatedError))
	require.ErrorContains(t, err, "of 99 messages were left out")
	require.Len(t, found, 100)
	for _, f := range found {
		require.ErrorContains(t, f.Err, "SQLSTATE 57014")
		require.Nil(t, f.Payload)
		require.NotEmpty(t, f.ID)
	}
	require.Less(t, time.Since(start), time.Minute, "each of them took as long as a statement may")
}

func TestFind_NeedsReadingRightsAlone(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	owner := openAt(t, database, pgmq.Config{})
	publish(t, owner, "a")
	tables := []string{"pgmq.q_t", "pgmq.a_t", "pgmq.topic_bindings"}
	grants := []string{"grant usage on schema pgmq to {role}"}
	for _, table := range tables {
		grants = append(grants, "grant select on "+table+" to {role}")
	}
	client := openAt(t, pgtest.Role(t, database, grants...), pgmq.Config{})
	require.Len(t, find(t, client, backend.Selection{ID: "a"}), 1)
	for i, table := range tables {
		without := append(append([]string{}, grants[:i+1]...), grants[i+2:]...)
		found, err := openAt(t, pgtest.Role(t, database, without...), pgmq.Config{}).Find(t.Context(), "t", backend.Selection{ID: "a"})
		require.ErrorIs(t, err, pgmq.ErrPermission)
		require.ErrorContains(t, err, "GRANT SELECT ON")
		require.ErrorContains(t, err, strings.TrimPrefix(table, "pgmq."))
		require.Equal(t, table == "pgmq.a_t", len(found) == 1, "what may be read is found")
	}
	none := openAt(t, pgtest.Role(t, database, grants[0], grants[3]), pgmq.Config{})
	_, err := none.Find(t.Context(), "t", backend.Selection{ID: "a"})
	var joined interface{ Unwrap() []error }
	require.True(t, errors.As(err, &joined))
	require.ErrorContains(t, err, "q_t")
	require.ErrorContains(t, err, "a_t")
}

func TestFind_WorksOnEveryKindOfQueue(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	client := openAt(t, database, pgmq.Config{})
	pool := pgtest.Pool(t, database)
	partition(t, pool)
	publishOn(t, client, "a", unique("k"), 0)
	execute(t, pool, "alter table pgmq.q_t drop column last_read_at; alter table pgmq.a_t drop column headers")
	found, err := client.Find(t.Context(), "t", backend.Selection{UniqueKey: "k"})
	require.Equal(t, []string{"a topic waiting"}, places(found))
	require.ErrorIs(t, err, pgmq.ErrTooOld)
	require.ErrorContains(t, err, `ALTER TABLE "pgmq"."a_t" ADD COLUMN headers jsonb`)
}

func TestFind_PlansDoNotDependOnStatistics(t *testing.T) {
	t.Parallel()
	for name, history := range pgtest.Histories() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			database := pgtest.Database(t)
			pool, plans := pgtest.Explain(t, database)
			client, err := pgmq.New(pool, nil)
			require.NoError(t, err)
			t.Cleanup(func() { _ = client.Close() })
			publishOn(t, client, "a", unique("k"), 0)
			execute(t, pool, "create index on pgmq.q_t using hash ((headers->'ezq_uuid'))")
			pgtest.MakeQueueHistory(t, database, history)
			plans.Forget()
			client.SearchAtMost(100, time.Minute)
			for _, s := range []backend.Selection{{ID: "a"}, {UniqueKey: "k"}, {ID: "t/7"}, {Header: "h"}, {Event: "E"}, {Field: "order.id", Equals: 7}} {
				_, err := client.Find(t.Context(), "t", s)
				if truncated := new(backend.TruncatedError); errors.As(err, &truncated) {
					err = nil
				}
				plans.RequireFewRows(t, fmt.Sprintf("%+v", s), 100, err)
			}
			for _, s := range []backend.Selection{{ID: "t/7"}, {UniqueKey: "k"}, {ID: "a"}} {
				_, err := client.Cancel(t.Context(), "t", s)
				plans.RequireFewRows(t, fmt.Sprintf("to cancel %+v", s), 100, err)
				_, err = client.Reschedule(t.Context(), "t", s, time.Time{})
				plans.RequireFewRows(t, fmt.Sprintf("to reschedule %+v", s), 100, err)
			}
		})
	}
}

// A body of any program is looked into, as far as a path leads through objects.
func TestFind_LooksIntoHostileBodies(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	execute(t, pool, `select pgmq.create('t'); insert into pgmq.q_t (vt, message, headers) select now(), message::jsonb, '{"ezq_uuid":"other"}' from unnest(array[
		'null', '7', '"order"', '[{"order":{"id":7}}]', '{"order":7}', '{"order":[{"id":7}]}', '{"order":{"ID":7}}', '{"order":{"id":[7]}}', '{"order":{"id":null}}', '{"order.id":7}',
		'{"0":[7]}', '{"order":{"id":{"id":7}}}', '{"order":{"id":7.01}}', '{"order":{"id":1e131071}}', '{"order":{"id":"7"}}']) as t(message)`)
	execute(t, pool, `insert into pgmq.q_t (vt) values (now())`)
	insertBombs(t, pool, 1, numbers(100, "1e131071"), `'{}'`)
	insertBombs(t, pool, 1, `select jsonb_build_object('order', jsonb_build_object('id', repeat('x', 100000000)))`, `'{}'`)
	insertBombs(t, pool, 1, `select (repeat('{"order":', 500) || '7' || repeat('}', 500))::jsonb`, `'{}'`)
	execute(t, pool, `insert into pgmq.q_t (vt, message, headers) values (now(), '{"order":{"id":7.00}}', '{"ezq_uuid":"it"}')`)
	for _, s := range []backend.Selection{{Field: "order.id", Equals: 7}, {Field: "order.id", Equals: json.Number("70e-1")}} {
		require.Equal(t, []string{"it topic waiting"}, places(find(t, client, s)))
	}
	for _, s := range []backend.Selection{{Field: "0.0", Equals: 7}, {Field: "order.id.0", Equals: 7}, {Field: `order"->'id`, Equals: 7}, {Field: "' or true --", Equals: "' or true --"}} {
		require.Empty(t, find(t, client, s), "%+v", s)
	}
}
