package condition

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq/internal/insert"
)

// sharing is an Insert of messages that are named by their IDs, and share what is between the letters.
func sharing(condition func(id string) *backend.PublishCondition, ids ...string) *Insert {
	i := &Insert{}
	for _, id := range ids {
		i.Batch.Messages = append(i.Batch.Messages, "payload of "+id)
		i.Batch.Headers = append(i.Batch.Headers, "{}")
		i.Batch.Delays, i.Batch.Times = append(i.Batch.Delays, 0), append(i.Batch.Times, nil)
		i.Batch.IDs, i.Batch.Conditions = append(i.Batch.IDs, id), append(i.Batch.Conditions, condition(id))
	}
	return i
}

func byKey(replace bool) func(id string) *backend.PublishCondition {
	return func(id string) *backend.PublishCondition {
		return &backend.PublishCondition{UniqueKey: id[:1], Replace: replace}
	}
}

func results(all []insert.Result) (texts []string) {
	for _, r := range all {
		text := r.Outcome.String() + " " + r.ID
		if r.Taken {
			text = "taken"
		}
		texts = append(texts, text)
	}
	return texts
}

func found(ids ...string) (all []*string) {
	for _, id := range ids {
		all = append(all, &id)
	}
	return all
}

func TestShare_OfDifferentMessagesSendsAll(t *testing.T) {
	t.Parallel()
	require.Nil(t, sharing(byKey(false), "a1", "b1").share())
	i := sharing(func(string) *backend.PublishCondition { return nil }, "a1", "a1")
	require.Nil(t, i.share(), "what has no condition shares nothing")
}

func TestShare_StoresAnIDOnce(t *testing.T) {
	t.Parallel()
	i := sharing(func(string) *backend.PublishCondition { return &backend.PublishCondition{Once: true} }, "a", "b", "a", "c", "b")
	shared := i.share()
	batch := shared.batch(i.Batch)
	require.Equal(t, []string{"a", "b", "c"}, batch.IDs)
	require.Equal(t, []string{"stored a", "existed b", "existed a", "stored c", "existed b"}, results(i.onceResults(shared, "1,3")))
}

func TestShare_StoresTheFirstOfAUniqueKey(t *testing.T) {
	t.Parallel()
	i := sharing(byKey(false), "a1", "a2", "b1", "b2", "c1", "c2")
	shared := i.share()
	batch := shared.batch(i.Batch)
	require.Equal(t, []string{"payload of a1", "payload of b1", "payload of c1"}, batch.Messages)
	require.Equal(t, []string{"stored a1", "existed a1", "existed old", "existed old", "taken", "taken"}, results(i.keyedResults(shared, append(found("", "old"), nil))))
}

// Each has replaced the one before it.
func TestShare_SendsTheLastOfThoseThatReplaceEachOther(t *testing.T) {
	t.Parallel()
	i := sharing(byKey(true), "a1", "a2", "b1", "a3", "b2")
	shared := i.share()
	batch := shared.batch(i.Batch)
	require.Equal(t, []string{"payload of a3", "payload of b2"}, batch.Messages)
	require.Equal(t, []string{"stored a1", "replaced a1", "replaced old", "replaced a2", "replaced b1"}, results(i.keyedResults(shared, found("", "old"))))
}

func TestShare_LeavesOutWhatWouldBeDueAtAnotherTime(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*insert.Batch){
		"a delay of its own":          func(b *insert.Batch) { b.Delays[1] = 1 },
		"a time of its own":           func(b *insert.Batch) { b.Times[1] = new(time.Time) },
		"a longest time of its own":   func(b *insert.Batch) { b.Conditions[1].Debounce = time.Second },
		"one before it without an ID": func(b *insert.Batch) { b.IDs[0] = "" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := sharing(byKey(true), "a1", "a2")
			change(&i.Batch)
			shared := i.share()
			batch := shared.batch(i.Batch)
			require.Equal(t, []string{"payload of a1"}, batch.Messages)
			require.True(t, i.keyedResults(shared, found(""))[1].Taken)
		})
	}
}

func TestPrepared_ForgetsTwiceAsManyIDsAsWerePublished(t *testing.T) {
	t.Parallel()
	prepared, published, forgotten := NewPrepared(), 0, 0
	require.Positive(t, NewPrepared().Forgettable(1), "a program that publishes one ID and ends")
	for range 1000 {
		published += 3
		forgotten += prepared.Forgettable(3)
	}
	require.GreaterOrEqual(t, forgotten, 2*(published-forgetAfter))
}
