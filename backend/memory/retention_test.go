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

// failing is a topic whose messages become dead letters, which are kept for a day.
type failing struct {
	*memory.Broker
	t  *testing.T
	in <-chan *message.Message
}

func newFailing(t *testing.T) failing {
	t.Helper()
	b := memory.New(&memory.Config{DeadLettersFor: 24 * time.Hour})
	in, err := b.Subscribe(t.Context(), "t")
	require.NoError(t, err)
	return failing{b, t, in}
}

// fail makes the next message a dead letter of a topic.
func (f failing) fail(to string) {
	f.t.Helper()
	require.True(f.t, backend.DeadLetter(receive(f.t, f.in), backend.DeadLetterTarget{Topic: to, Metadata: backend.DeadLetterMetadata("t", "mail", 1, errors.New("r"))}))
	synctest.Wait()
}

func (f failing) publishAndFail(id, to string) {
	f.t.Helper()
	require.NoError(f.t, f.Publish("t", message.NewMessage(id, []byte("1"))))
	f.fail(to)
}

func TestDeadLettersFor_DeletesOldOnesOfItsOwn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFailing(t)
		defer func() { _ = f.Close() }()
		f.publishAndFail("old", "t_dead")
		f.publishAndFail("redriven", "t_dead")
		f.publishAndFail("elsewhere", "failed")
		require.NoError(t, f.Publish("t_dead", message.NewMessage("stray", nil)))
		time.Sleep(23 * time.Hour)
		f.publishAndFail("young", "t_dead")
		_, err := f.Redrive(t.Context(), "t_dead", backend.DeadLetterSelection{ID: "redriven"})
		require.NoError(t, err)
		f.fail("t_dead")
		time.Sleep(time.Hour - time.Second)
		require.Equal(t, []string{"old", "stray", "young", "redriven"}, deadLetters(t, f.Broker, "t_dead"))
		time.Sleep(2 * time.Second)
		require.Equal(t, []string{"stray", "young", "redriven"}, deadLetters(t, f.Broker, "t_dead"), "the time of one that comes again begins again")
		time.Sleep(24 * time.Hour)
		require.Equal(t, []string{"stray"}, deadLetters(t, f.Broker, "t_dead"))
		require.Equal(t, []string{"elsewhere"}, deadLetters(t, f.Broker, "failed"))
	})
}

func TestDeadLettersFor_LeavesWhatIsLeased(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFailing(t)
		defer func() { _ = f.Close() }()
		f.publishAndFail("leased", "t_dead")
		time.Sleep(24*time.Hour - time.Minute)
		ctx, stop := context.WithCancel(t.Context())
		dead, err := f.Subscribe(ctx, "t_dead")
		require.NoError(t, err)
		msg := receive(t, dead)
		time.Sleep(10 * time.Minute)
		require.Equal(t, []string{"leased"}, deadLetters(t, f.Broker, "t_dead"))
		stop()
		backend.Release(msg)
		time.Sleep(time.Minute)
		require.Empty(t, deadLetters(t, f.Broker, "t_dead"))
	})
}

func TestDeadLettersFor_IsForEverByDefault(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFailing(t)
		defer func() { _ = f.Close() }()
		f.publishAndFail("old", "t_dead")
		keeping := f.Connect(nil)
		defer func() { _ = keeping.Close() }()
		in, err := keeping.Subscribe(t.Context(), "u")
		require.NoError(t, err)
		require.NoError(t, keeping.Publish("u", message.NewMessage("kept", nil)))
		require.True(t, backend.DeadLetter(receive(t, in), backend.DeadLetterTarget{Topic: "u_dead", Metadata: backend.DeadLetterMetadata("u", "mail", 1, errors.New("r"))}))
		time.Sleep(10000 * time.Hour)
		require.Equal(t, []string{"kept"}, deadLetters(t, keeping, "u_dead"))
	})
}
