package memory_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
)

// deadLetters returns the IDs of the dead letters in a topic.
func deadLetters(t *testing.T, b *memory.Broker, from string) (ids []string) {
	t.Helper()
	synctest.Wait()
	found, err := b.DeadLetters(t.Context(), from, backend.DeadLetterSelection{})
	require.NoError(t, err)
	for _, d := range found {
		ids = append(ids, d.ID)
	}
	return ids
}

// graveyard is a topic whose messages become dead letters, which are kept for a day.
type graveyard struct {
	*memory.Broker
	t  *testing.T
	in <-chan *message.Message
}

func newGraveyard(t *testing.T) graveyard {
	t.Helper()
	b := memory.New(&memory.Config{DeadLettersFor: 24 * time.Hour})
	in, err := b.Subscribe(t.Context(), "t")
	require.NoError(t, err)
	return graveyard{b, t, in}
}

// bury makes the next message a dead letter of a topic.
func (g graveyard) bury(to string) {
	g.t.Helper()
	require.True(g.t, backend.DeadLetter(receive(g.t, g.in), backend.DeadLetterTarget{Topic: to, Metadata: backend.DeadLetterMetadata("t", "mail", 1, errors.New("r"))}))
	synctest.Wait()
}

func (g graveyard) publishAndBury(id, to string) {
	g.t.Helper()
	require.NoError(g.t, g.Publish("t", message.NewMessage(id, []byte("1"))))
	g.bury(to)
}

func TestDeadLettersFor_DeletesOldOnesOfItsOwn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGraveyard(t)
		defer func() { _ = g.Close() }()
		g.publishAndBury("old", "t_dead")
		g.publishAndBury("redriven", "t_dead")
		g.publishAndBury("elsewhere", "failed")
		require.NoError(t, g.Publish("t_dead", message.NewMessage("stray", nil)))
		time.Sleep(23 * time.Hour)
		g.publishAndBury("young", "t_dead")
		_, err := g.Redrive(t.Context(), "t_dead", backend.DeadLetterSelection{ID: "redriven"})
		require.NoError(t, err)
		g.bury("t_dead")
		time.Sleep(time.Hour - time.Second)
		require.Equal(t, []string{"old", "stray", "young", "redriven"}, deadLetters(t, g.Broker, "t_dead"))
		time.Sleep(2 * time.Second)
		require.Equal(t, []string{"stray", "young", "redriven"}, deadLetters(t, g.Broker, "t_dead"), "the time of one that comes again begins again")
		time.Sleep(24 * time.Hour)
		require.Equal(t, []string{"stray"}, deadLetters(t, g.Broker, "t_dead"))
		require.Equal(t, []string{"elsewhere"}, deadLetters(t, g.Broker, "failed"))
	})
}

func TestDeadLettersFor_LeavesWhatIsLeased(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGraveyard(t)
		defer func() { _ = g.Close() }()
		g.publishAndBury("leased", "t_dead")
		time.Sleep(24*time.Hour - time.Minute)
		ctx, stop := context.WithCancel(t.Context())
		dead, err := g.Subscribe(ctx, "t_dead")
		require.NoError(t, err)
		msg := receive(t, dead)
		time.Sleep(10 * time.Minute)
		require.Equal(t, []string{"leased"}, deadLetters(t, g.Broker, "t_dead"))
		stop()
		backend.Release(msg)
		time.Sleep(time.Minute)
		require.Empty(t, deadLetters(t, g.Broker, "t_dead"))
	})
}

func TestDeadLettersFor_IsForEverByDefault(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGraveyard(t)
		defer func() { _ = g.Close() }()
		g.publishAndBury("old", "t_dead")
		keeping := g.Connect(nil)
		defer func() { _ = keeping.Close() }()
		in, err := keeping.Subscribe(t.Context(), "u")
		require.NoError(t, err)
		require.NoError(t, keeping.Publish("u", message.NewMessage("kept", nil)))
		require.True(t, backend.DeadLetter(receive(t, in), backend.DeadLetterTarget{Topic: "u_dead", Metadata: backend.DeadLetterMetadata("u", "mail", 1, errors.New("r"))}))
		time.Sleep(10000 * time.Hour)
		require.Equal(t, []string{"kept"}, deadLetters(t, keeping, "u_dead"))
	})
}
