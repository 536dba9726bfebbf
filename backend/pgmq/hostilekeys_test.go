package pgmq_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
)

// keyedBomb is headers of which the key takes PostgreSQL a moment to write out, or cannot be written out at all.
func keyedBomb(n int) string {
	return "select jsonb_build_object('ezq_unique', " + parsedNumbers(n) + ")"
}

// parsedNumbers is numbers for more of them: PostgreSQL writes out each that it puts into an array by itself.
func parsedNumbers(n int) string {
	return fmt.Sprintf("('[1' || repeat(',1e131071', %d) || ']')::jsonb", n)
}

// The index, and each statement that changes a row, would write the key of each bomb out.
func TestUnique_KeysThatAreNoStringsDelayNothing(t *testing.T) {
	t.Parallel()
	for name, bombs := range map[string]struct{ rows, numbers int }{
		"many keys that take a moment to write out":     {1000, 100},
		"one key that is too large to write out at all": {1, 8200},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, pool := open(t, pgmq.Config{})
			execute(t, pool, "select pgmq.create('t')")
			start := time.Now()
			insertBombs(t, pool, bombs.rows, "'{}'", keyedBomb(bombs.numbers))
			require.Equal(t, backend.PublishStored, publishOn(t, client, "a", unique("k"), 0).Outcome, "the publish that makes the index")
			require.Equal(t, existed("a"), publishOn(t, client, "b", unique("k"), 0))
			require.Equal(t, backend.PublishReplaced, publishOn(t, client, "c", replacing("k", 0), 0).Outcome)
			require.Len(t, find(t, client, backend.Selection{UniqueKey: "k"}), 1)
			execute(t, pool, "update pgmq.q_t set vt = now(); analyze pgmq.q_t")
			execute(t, pool, "drop index pgmq.ezq_key_q_t")
			require.Equal(t, existed("c"), publishOn(t, client, "b", unique("k"), 0), "without the index")
			require.Len(t, find(t, client, backend.Selection{UniqueKey: "k"}), 1, "without the index")
			require.Less(t, time.Since(start), 10*time.Second) // less than one on a machine of its own
		})
	}
}

// The name may be taken by one that was built concurrently, and whose build has failed.
func TestUnique_NamesIndexThatIsInTheWay(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	execute(t, pool, "select pgmq.create('t'); create index ezq_key_q_t on pgmq.q_t (enqueued_at)")
	err := client.Publish("t", conditional(t.Context(), "a", unique("k"), 0))
	require.ErrorIs(t, err, pgmq.ErrNotPrepared)
	require.ErrorContains(t, err, `DROP INDEX CONCURRENTLY "pgmq"."ezq_key_q_t"`)
	execute(t, pool, "drop index pgmq.ezq_key_q_t")
	publishOn(t, client, "a", unique("k"), 0)
}

// An administrator builds the index of a large queue concurrently, which may be interrupted.
func TestUnique_RemedyReplacesIndexWhoseBuildWasInterrupted(t *testing.T) {
	t.Parallel()
	for name, large := range map[string]bool{"of a publisher that creates nothing": false, "of a large queue": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, pool := open(t, pgmq.Config{Publisher: pgmq.PublisherConfig{NoCreate: !large}})
			execute(t, pool, "select pgmq.create('t')")
			if large {
				execute(t, pool, "insert into pgmq.q_t (vt, message) select 'infinity', to_jsonb(repeat(md5(random()::text), 60)) from generate_series(1, 40000)")
			}
			publishing := func() error { return client.Publish("t", conditional(t.Context(), "a", unique("k"), 0)) }
			err := publishing()
			require.ErrorIs(t, err, pgmq.ErrNotPrepared)
			require.NotContains(t, err.Error(), "DROP")
			_, create, _ := strings.Cut(err.Error(), "run ")
			execute(t, pool, create)
			execute(t, pool, `update pg_index set indisvalid = false where indexrelid = 'pgmq.ezq_key_q_t'::regclass`)
			err = publishing()
			require.ErrorIs(t, err, pgmq.ErrNotPrepared)
			_, remedy, _ := strings.Cut(err.Error(), "run ")
			for statement := range strings.SplitSeq(remedy, "; ") {
				execute(t, pool, statement)
			}
			require.NoError(t, publishing())
		})
	}
}

func TestUnique_MakesOneIndexBesideAnotherOne(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	execute(t, pool, "select pgmq.create('t'); create index on pgmq.q_t (left(headers->>'ezq_unique', 400)) where headers ? 'ezq_unique'")
	for i := range 3 {
		other, err := pgmq.New(pool, nil) // which knows of no index
		require.NoError(t, err)
		t.Cleanup(func() { _ = other.Close() })
		publishOn(t, other, fmt.Sprint(i), unique("k"), 0)
	}
	publishOn(t, client, "a", unique("k"), 0)
	require.Equal(t, "ezq_key_q_t,q_t_left_idx", get[string](t, pool, `select string_agg(relname, ',' order by relname)
		from pg_index join pg_class c on c.oid = indexrelid where indrelid = 'pgmq.q_t'::regclass and indexprs is not null`))
}

// A row that another program has written says with which ID a publisher is answered.
func TestUnique_IDOfTheMessageThatIsThereIsBounded(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ id, want string }{
		"an ID that is as long as it may be": {"to_jsonb(repeat('x', 255))", strings.Repeat("x", 255)},
		"an ID that is too long":             {"to_jsonb(repeat('x', 256))", "t/1"},
		"an ID of megabytes":                 {"to_jsonb(repeat('x', 10000000))", "t/1"},
		"an ID without characters":           {`'""'`, "t/1"},
		"an ID that is a number":             {"'7'", "t/1"},
		"an ID of numbers with many digits":  {parsedNumbers(8200), "t/1"},
		"an ID that is null":                 {"'null'", "t/1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, pool := open(t, pgmq.Config{})
			execute(t, pool, "select pgmq.create('t')")
			insertBombs(t, pool, 1, "'{}'", "select jsonb_build_object('ezq_unique', 't/k', 'ezq_uuid', "+test.id+"::jsonb)")
			require.Equal(t, existed(test.want), publishOn(t, client, "a", unique("k"), 0))
			require.Equal(t, backend.PublishResult{Outcome: backend.PublishReplaced, ID: test.want}, publishOn(t, client, "b", replacing("k", 0), 0))
		})
	}
}

// Consumers archive it, so that it is not a message that is pending.
func TestUnique_MessageWithHeadersThatNoneReceivesHasNoKey(t *testing.T) {
	t.Parallel()
	for name, headers := range map[string]string{
		"headers of megabytes": "jsonb_build_object('ezq_unique', 't/k', 'x', repeat('x', 40000000))",
		"an ID of megabytes":   "jsonb_build_object('ezq_unique', 't/k', 'ezq_uuid', repeat('x', 40000000))",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, pool := open(t, pgmq.Config{})
			execute(t, pool, "select pgmq.create('t')")
			insertBombs(t, pool, 1, "'{}'", "select "+headers)
			require.Equal(t, backend.PublishResult{ID: "a"}, publishOn(t, client, "a", unique("k"), 0))
			require.Equal(t, backend.PublishResult{Outcome: backend.PublishReplaced, ID: "a"}, publishOn(t, client, "b", replacing("k", 0), 0))
		})
	}
}

// The largest headers that ezq stores count.
func TestUnique_MessageWithLargestHeadersHasItsKey(t *testing.T) {
	t.Parallel()
	client, _ := open(t, pgmq.Config{})
	msg := conditional(t.Context(), "a", unique("k"), 0)
	for i := range 5800 {
		msg.Metadata.Set(base36(i), "")
	}
	require.NoError(t, client.Publish("t", msg))
	require.Equal(t, existed("a"), publishOn(t, client, "b", unique("k"), 0))
}

// A build keeps all that publish and consume waiting.
func TestUnique_IndexThatTakesLongIsNotBuilt(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	execute(t, pool, "select pgmq.create('t')")
	insertBombs(t, pool, 1, "'{}'", "select jsonb_build_object('x', repeat('x', 50000000))")
	execute(t, pool, "insert into pgmq.q_t (vt, message, headers) select 'infinity', message, headers from pgmq.q_t, generate_series(1, 150)")
	require.Equal(t, backend.PublishStored, publishOn(t, client, "a", unique("k"), 0).Outcome)
	start := time.Now()
	require.Equal(t, existed("a"), publishOn(t, client, "b", unique("k"), 0))
	require.Less(t, time.Since(start), time.Second, "it is not tried again soon")
	require.False(t, get[bool](t, pool, "select to_regclass('pgmq.ezq_key_q_t') is not null"))
}

// PGMQ takes an index for the table of a queue, if that has its name.
func TestIndexes_TakeNoNameOfQueue(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	publishOn(t, client, "a", unique("k"), 0)
	publish(t, client, "b") // more than the search below looks at
	for _, s := range []backend.Selection{{ID: "1"}, {Event: "Paid"}, {Header: "tenant"}, {Header: `other"one`}} {
		execute(t, pool, remedyOf(t, client, s))
	}
	require.Equal(t, "ezq_event_q_t,ezq_header_q_t_other\"one,ezq_header_q_t_tenant,ezq_id_q_t,ezq_key_q_t", get[string](t, pool, `
		select string_agg(relname, ',' order by relname collate "C")
		from pg_index join pg_class c on c.oid = indexrelid where indrelid = 'pgmq.q_t'::regclass and indexprs is not null`))
	for _, topic := range []string{"t_left_idx", "t_expr_idx", "t_expr_idx1", "t_coalesce_idx"} {
		require.NoError(t, client.Publish(topic, message.NewMessage("a", []byte("{}"))))
		requireCount(t, pool, "pgmq.q_"+topic, 1)
	}
}

// In the place of a row that is due never, or in a hundred thousand years, the event would be lost.
func TestReplace_LeavesRowThatIsNeverDue(t *testing.T) {
	t.Parallel()
	for _, vt := range []string{"'infinity'", "'294276-12-31 23:59:59.999999Z'", "'10000-01-01'", "'9999-12-31'", "now() + interval '367 days'"} {
		for name, condition := range map[string]*backend.PublishCondition{
			"a key that repeats":    replacing("k", 0),
			"a key that is delayed": replacing("k", time.Minute),
		} {
			t.Run(name+" behind a row due at "+vt, func(t *testing.T) {
				t.Parallel()
				client, pool := open(t, pgmq.Config{})
				execute(t, pool, `select pgmq.create('t'); insert into pgmq.q_t (vt, message, headers) values (`+vt+`, '{}', '{"ezq_unique":"t/k"}')`)
				require.Equal(t, backend.PublishResult{ID: "a"}, publishOn(t, client, "a", condition, 0))
				require.Equal(t, "a", receive(t, subscribe(t, client)).UUID)
			})
		}
	}
}

// The times of a row that a role with INSERT on the whole table has written are no time to count from.
func TestDebounce_TakesNoTimeFromTheRowBeyondItsOwn(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"'infinity'", "'294276-12-31 23:59:59.999999Z'", "'-infinity'", "'4713-01-01 BC'", "now() + interval '1 year'"} {
		t.Run("a row that was stored at "+at, func(t *testing.T) {
			t.Parallel()
			client, pool := open(t, pgmq.Config{})
			execute(t, pool, `select pgmq.create('t'); insert into pgmq.q_t (vt, enqueued_at, message, headers) values (now() + interval '1 hour', `+at+`, '{}', '{"ezq_unique":"t/k"}')`)
			require.Equal(t, backend.PublishReplaced, publishOn(t, client, "a", replacing("k", time.Minute), time.Hour).Outcome)
			require.True(t, get[bool](t, pool, "select vt <= now() + interval '1 minute' from pgmq.q_t"), "it waits longer than its longest time")
		})
	}
}

func base36(i int) string { return strconv.FormatInt(int64(i), 36) }
