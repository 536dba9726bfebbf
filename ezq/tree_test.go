package ezq_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
)

// store publishes an event that is never due and says where it comes from, as a program without ezq may.
func store(t *testing.T, b *memory.Broker, topic, id, correlation, cause string) {
	t.Helper()
	msg := message.NewMessage(id, []byte(`{"_type":"E"}`))
	for header, value := range map[string]string{"correlation_id": correlation, "causation_id": cause} {
		if value != "" {
			msg.Metadata.Set(header, value)
		}
	}
	backend.SetDelay(msg, time.Hour)
	require.NoError(t, b.Publish(topic, msg))
}

func newBroker(t *testing.T) *memory.Broker {
	t.Helper()
	b := memory.New(nil)
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func treeOf(t *testing.T, f backend.Finder, id string, topics ...string) string {
	t.Helper()
	tree, err := ezq.FindTree(t.Context(), f, id, topics...)
	require.NoError(t, err)
	return tree.String()
}

func TestFindTree_IsThatOfEachOfItsEvents(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	store(t, b, "orders", "order", "", "")
	store(t, b, "orders", "paid", "order", "order")
	store(t, b, "mails", "receipt", "order", "paid")
	store(t, b, "mails", "thanks", "order", "gone")
	store(t, b, "mails", "other", "another", "order")
	const want = `E order on orders: delayed
  E paid on orders: delayed
    E receipt on mails: delayed
E thanks on mails: delayed; its cause gone is gone
`
	for _, id := range []string{"order", "paid", "receipt", "thanks", "gone"} {
		require.Equal(t, want, treeOf(t, b, id, "orders", "mails", "none", "orders"), id)
	}
	require.Equal(t, "E receipt on mails: delayed; its cause paid is gone\nE thanks on mails: delayed; its cause gone is gone\n", treeOf(t, b, "receipt", "mails"))
	require.Empty(t, treeOf(t, b, "unknown", "orders"))
	require.Empty(t, treeOf(t, b, "order"), "it is not in the default topic")
}

// A dead letter is found by its topic, and as a message of the dead-letter topic, if that is asked for too.
func TestFindTree_HasDeadLetterOnceIfBothTopicsAreAskedFor(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	store(t, b, "orders", "order", "", "")
	store(t, b, "orders_dead", "paid", "order", "order")
	store(t, b, "mails", "paid", "order", "order")
	const want = `E order on orders: delayed
  E paid on orders: dead
  E paid on mails: delayed
`
	require.Equal(t, want, treeOf(t, b, "order", "mails", "orders", "orders_dead"))
	require.Equal(t, want, treeOf(t, b, "paid", "orders_dead", "orders", "mails"))
}

func TestFindTree_HasEventsOfRequest(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	ctx := ezq.WithCorrelationID(t.Context(), "request 7")
	require.NoError(t, ezq.Publish(ctx, b, orderPlaced{}, ezq.ID("a"), ezq.Delay(time.Hour)))
	require.NoError(t, ezq.Publish(ctx, b, orderPlaced{}, ezq.ID("b\n"), ezq.Delay(time.Hour)))
	name := ezq.EventName[orderPlaced]()
	require.Equal(t, name+" a on ezq: delayed\n"+name+` "b\n" on ezq: delayed`+"\n", treeOf(t, b, "request 7"))
	require.Equal(t, treeOf(t, b, "request 7"), treeOf(t, b, "a"))
}

// Any publisher may write any headers: they hide no event, and nothing goes round in circles.
func TestFindTree_ForgedCausesHideNoEvent(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	store(t, b, "t", "order", "", "")
	store(t, b, "t", "self", "order", "self")
	store(t, b, "t", "one", "order", "three")
	store(t, b, "t", "two", "order", "one")
	store(t, b, "t", "three", "order", "two")
	store(t, b, "t", "beside", "order", "two")
	store(t, b, "t", "order", "forged", "three")
	store(t, b, "t", "victim", "forged", "order")
	require.Equal(t, `E order on t: delayed
  E victim on t: delayed
E self on t: delayed; its cause self leads back to it
E one on t: delayed; its cause three leads back to it
  E two on t: delayed
    E three on t: delayed
      E order on t: delayed
    E beside on t: delayed
`, treeOf(t, b, "order", "t"))
}

func TestFindTree_HasEachEventOnceWhateverItsCauses(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 0))
		b := newBroker(t)
		n := 1 + random.IntN(12)
		for i := range n {
			store(t, b, "t", fmt.Sprint("e", i), "c", fmt.Sprint("e", random.IntN(n+1)))
		}
		tree, err := ezq.FindTree(t.Context(), b, "c", "t")
		require.NoError(t, err)
		seen := map[string]int{}
		var visit func(cause *ezq.TreeEvent, events []*ezq.TreeEvent)
		visit = func(cause *ezq.TreeEvent, events []*ezq.TreeEvent) {
			for _, e := range events {
				seen[e.ID]++
				require.Len(t, e.Found, 1)
				if cause != nil {
					require.Equal(t, cause.ID, e.CausationID)
				} else {
					require.True(t, e.CauseGone != e.CauseLoops, "%+v", e)
					require.Equal(t, e.CauseGone, e.CausationID == fmt.Sprint("e", n))
				}
				visit(e, e.Children)
			}
		}
		visit(nil, tree.Roots)
		require.Len(t, seen, n, "seed %d", seed)
		for id, times := range seen {
			require.Equal(t, 1, times, id)
		}
	}
}

func TestFindTree_IsBounded(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	store(t, b, "t", "order", "", "")
	for range ezq.MaxTree {
		store(t, b, "t", "flood", "order", "order")
	}
	tree, err := ezq.FindTree(t.Context(), b, "order", "t", "u")
	truncated, ok := errors.AsType[*backend.TruncatedError](err)
	require.True(t, ok, err)
	require.Contains(t, truncated.Reason, "more than 1000 messages")
	require.Equal(t, "order", tree.Roots[0].ID, "many others do not take its room")
	require.Len(t, tree.Roots, 1)
	require.Len(t, tree.Roots[0].Children[0].Found, ezq.MaxTree-1, "they have one ID")

	for i := range 9 {
		store(t, b, "u", "x", fmt.Sprint("forged ", i), "")
	}
	tree, err = ezq.FindTree(t.Context(), b, "x", "u")
	require.ErrorContains(t, err, "events of 10 correlations have the ID, and 8 were looked at")
	require.Len(t, tree.CorrelationIDs, 8)
	require.Len(t, tree.Roots[0].Found, 9)
	_, err = ezq.FindTree(t.Context(), b, "")
	require.ErrorContains(t, err, "there is no ID")
}

// partial is a Finder that fails for a topic, and returns what it has found.
type partial struct {
	backend.Finder
	topic string
	err   error
}

func (p partial) Find(ctx context.Context, topic string, s backend.Selection) ([]backend.Found, error) {
	found, err := p.Finder.Find(ctx, topic, s)
	if topic == p.topic {
		err = p.err
	}
	return found, err
}

func TestFindTree_ReturnsWhatIsThereWithTheErrors(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	store(t, b, "a", "order", "", "")
	store(t, b, "b", "paid", "order", "order")
	failed := errors.New("no SELECT on b")
	tree, err := ezq.FindTree(t.Context(), partial{b, "b", failed}, "order", "a", "b")
	require.ErrorIs(t, err, failed)
	require.Equal(t, 1, strings.Count(err.Error(), failed.Error()))
	require.Equal(t, "E order on a: delayed\n  E paid on b: delayed\n", tree.String())
}

func TestFindTree_OfGoneEventIsFoundInSpiteOfErrors(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	store(t, b, "a", "order", "", "")
	store(t, b, "a", "receipt", "order", "gone")
	failed := errors.New("no SELECT on the archive of b")
	tree, err := ezq.FindTree(t.Context(), partial{b, "b", failed}, "gone", "a", "b")
	require.ErrorIs(t, err, failed)
	require.Equal(t, "E order on a: delayed\nE receipt on a: delayed; its cause gone is gone\n", tree.String())
}

// many is a Finder that finds many messages, whatever it is asked for.
type many struct{ headers int }

func (m many) Find(_ context.Context, _ string, s backend.Selection) (all []backend.Found, err error) {
	for i := range s.Limit {
		f := backend.Found{
			ID: fmt.Sprint(s.ID, s.Value, i), Payload: bytes.Repeat([]byte(" "), 10_000),
			Metadata: message.Metadata{"correlation_id": fmt.Sprint("c", i), "name": strings.Repeat("n", 20_000), backend.DeadLetterReason: strings.Repeat("é", 20_000)},
		}
		for n := range m.headers {
			f.Metadata[fmt.Sprint("h", n)] = ""
		}
		all = append(all, f)
	}
	return all, nil
}

// Not in parallel: it measures the memory of the process.
func TestFindTree_KeepsWhatItShowsAlone(t *testing.T) {
	heap := func() int64 {
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return int64(stats.HeapAlloc)
	}
	before := heap()
	tree, err := ezq.FindTree(t.Context(), many{100}, "x", "t")
	took := heap() - before
	t.Logf("%d kB", took>>10)
	require.ErrorAs(t, err, new(*backend.TruncatedError))
	require.Less(t, took, int64(8<<20))
	require.Len(t, tree.Roots, ezq.MaxTree)
	for _, e := range tree.Roots {
		require.LessOrEqual(t, len(e.Event), 1024)
		require.True(t, utf8.ValidString(e.Found[0].Metadata[backend.DeadLetterReason]))
		require.Len(t, e.Found[0].Metadata, 3)
		require.Nil(t, e.Found[0].Payload)
	}
}

func TestFindTree_OfMessagesThatWereNotReadSaysSo(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	store(t, b, "t", "order", "", "")
	store(t, b, "t", "paid", "order", "order")
	tree, err := ezq.FindTree(t.Context(), unread{b, "paid"}, "order", "t")
	truncated, ok := errors.AsType[*backend.TruncatedError](err)
	require.True(t, ok, err)
	require.Contains(t, truncated.Reason, "of 1 messages it is not known what has caused them")
	require.Contains(t, truncated.Reason, "no time")
	require.Equal(t, "E order on t: delayed\nan event paid on t: delayed, cannot be read; its cause is not known\n", tree.String())
	// Found by its ID it is read, and the tree has it once.
	tree, err = ezq.FindTree(t.Context(), unread{b, "paid"}, "paid", "t")
	require.NoError(t, err)
	require.Equal(t, "E order on t: delayed\n  E paid on t: delayed\n", tree.String())
}

// unread is a Finder that reads a message by its ID alone.
type unread struct {
	backend.Finder
	id string
}

func (u unread) Find(ctx context.Context, topic string, s backend.Selection) ([]backend.Found, error) {
	found, err := u.Finder.Find(ctx, topic, s)
	for i := range found {
		if found[i].ID == u.id && s.ID == "" {
			found[i].Payload, found[i].Metadata, found[i].Err = nil, nil, errors.New("no time")
		}
	}
	return found, err
}
