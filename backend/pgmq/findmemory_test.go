package pgmq_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/ezq"
)

// insertChain stores a chain of n events whose headers have many short names: they take Go several times their text.
func insertChain(t *testing.T, pool *pgxpool.Pool, n int) {
	t.Helper()
	execute(t, pool, fmt.Sprintf(`with many as materialized (select jsonb_object_agg(to_hex(i), '') as h from generate_series(1, 10500) i)
		insert into pgmq.q_t (vt, message, headers) select now(), '{"_type":"E"}',
			h || jsonb_build_object('correlation_id', 'c', 'ezq_uuid', 'e' || n) || case when n > 1 then jsonb_build_object('causation_id', 'e' || n-1) else '{}' end
		from many, generate_series(1, %d) n`, n))
}

// measured is a Finder that measures what each Find returns.
type measured struct {
	backend.Finder
	before, most uint64
}

func (m *measured) Find(ctx context.Context, topic string, s backend.Selection) ([]backend.Found, error) {
	found, err := m.Finder.Find(ctx, topic, s)
	m.most = max(m.most, heap()-min(heap(), m.before))
	return found, err
}

// Not in parallel: it measures the memory of the process.
func TestFind_TakesBoundedMemoryWhateverTheHeadersAre(t *testing.T) {
	const most, events = 8 << 20, 60
	client, pool := open(t, pgmq.Config{})
	execute(t, pool, "select pgmq.create('t')")
	insertChain(t, pool, events)
	client.SearchInMemory(most)
	chosen := backend.Selection{Header: "correlation_id", Value: "c", Limit: 1000}
	finder := &measured{Finder: client, before: heap()}
	found, err := finder.Find(t.Context(), "t", chosen)
	t.Logf("Find: %d kB of %d", finder.most>>10, most>>10)
	require.Less(t, finder.most, uint64(most*5/4))
	require.ErrorAs(t, err, new(*backend.TruncatedError))
	require.ErrorContains(t, err, "take 8192 KiB of memory")
	require.Len(t, found, events, "each of them is told")
	read := 0
	for _, f := range found[:events-10] { // of those that are read together, any may be left out
		if f.Err == nil {
			read++
		}
	}
	require.Greater(t, read, 8)
	left := found[events-1]
	require.ErrorIs(t, left.Err, pgmq.ErrTooLarge)
	require.Equal(t, []any{"e1", backend.StateWaiting, 0}, []any{left.ID, left.State, len(left.Metadata)})
	alone := find(t, client, backend.Selection{ID: "e1"})
	require.NoError(t, alone[0].Err)
	require.Len(t, alone[0].Metadata, 10_501)
}

func TestFindTree_TakesBoundedMemoryWhateverTheHeadersAre(t *testing.T) {
	const most, events = 8 << 20, 60
	client, pool := open(t, pgmq.Config{})
	execute(t, pool, "select pgmq.create('t')")
	insertChain(t, pool, events)
	client.SearchInMemory(most)
	finder := &measured{Finder: client, before: heap()}
	tree, err := ezq.FindTree(t.Context(), finder, "e3", "t")
	took := int64(heap()) - int64(finder.before)
	t.Logf("%d kB of %d, the tree %d kB", finder.most>>10, most>>10, took>>10)
	require.Less(t, finder.most, uint64(most*3/2))
	require.Less(t, took, int64(1<<20))
	require.ErrorAs(t, err, new(*backend.TruncatedError))
	require.ErrorContains(t, err, "it is not known what has caused them")
	unknown, ids := 0, map[string]int{}
	visit := func(e *ezq.TreeEvent) {
		ids[e.ID]++
		if e.CauseUnknown {
			unknown++
			require.NotEqual(t, "e3", e.ID, "it was read by its ID")
		}
	}
	for _, e := range tree.Roots {
		for visit(e); len(e.Children) > 0; visit(e) {
			e = e.Children[0]
		}
	}
	require.Len(t, ids, events)
	require.Greater(t, unknown, events/2)
	require.Contains(t, tree.String(), "waiting, cannot be read; its cause is not known")

	client.SearchInMemory(128 << 20)
	tree, err = ezq.FindTree(t.Context(), client, "e3", "t")
	require.NoError(t, err)
	require.Len(t, tree.Roots, 1, "there is memory for all")
}

func TestPeek_TakesBoundedMemoryWhateverTheHeadersAre(t *testing.T) {
	client, pool := open(t, pgmq.Config{})
	require.NoError(t, client.SubscribeInitialize("t"))
	insertChain(t, pool, 60)
	before := heap()
	found, err := client.Peek(t.Context(), "t", backend.Peek{Limit: 100})
	took := int64(heap()) - int64(before)
	t.Logf("%d kB", took>>10)
	require.Less(t, took, int64(20<<20))
	require.ErrorAs(t, err, new(*backend.TruncatedError))
	require.Len(t, found, 60)
	last := 0
	for found[last].Err == nil {
		last++
	}
	require.Greater(t, last, 10)
	require.Nil(t, found[last].Metadata)
	next, err := client.Peek(t.Context(), "t", backend.Peek{After: found[last-1].After, Limit: 1})
	require.NoError(t, err)
	require.Equal(t, found[last].ID, next[0].ID)
	require.NoError(t, next[0].Err)
}

// A tree whose events could not be read in time says so.
func TestFindTree_SaysThatItsTimeWasUp(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	execute(t, pool, "select pgmq.create('t')")
	execute(t, pool, `create function written(jsonb) returns text language plpgsql as $$ begin perform pg_sleep(60); return ''; end $$;
		create cast (jsonb as text) with function written(jsonb)`)
	execute(t, pool, `insert into pgmq.q_t (vt, message, headers) select now(), '1', '{"correlation_id":"c"}' from generate_series(1, 100)`)
	client.SearchAtMost(1000, time.Second)
	tree, err := ezq.FindTree(t.Context(), client, "c", "t")
	require.ErrorAs(t, err, new(*backend.TruncatedError))
	require.ErrorContains(t, err, "of 100 messages it is not known what has caused them")
	require.Len(t, tree.Roots, 100)
	require.True(t, tree.Roots[0].CauseUnknown)
}
