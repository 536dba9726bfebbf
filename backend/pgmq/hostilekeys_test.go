package pgmq_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
)

// keyedBomb is headers of which the key takes PostgreSQL a moment to write out, or cannot be written out at all.
func keyedBomb(n int) string {
	return "select jsonb_build_object('ezq_unique', (" + numbers(n, "1e131071") + "))"
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
	require.ErrorContains(t, err, `DROP INDEX "pgmq"."ezq_key_q_t"`)
	execute(t, pool, "drop index pgmq.ezq_key_q_t")
	publishOn(t, client, "a", unique("k"), 0)
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
