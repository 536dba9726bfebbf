package memory_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
)

func TestPauserOf_PausesOneGroup(t *testing.T) {
	t.Parallel()
	broker := memory.New(nil)
	t.Cleanup(func() { assert.NoError(t, broker.Close()) })
	for _, group := range []string{"", "audit"} {
		paused, err := broker.PauserOf(group).Pause(t.Context(), "t", backend.Pause{By: "ada", Reason: group + "!"})
		require.NoError(t, err)
		require.Equal(t, []string{"t", group}, []string{paused.Topic, paused.Group})
	}
	resumed, err := broker.PauserOf("audit").Resume(t.Context(), "t")
	require.NoError(t, err)
	require.True(t, resumed)
	left, err := broker.Pauses(t.Context(), "t")
	require.NoError(t, err)
	require.Len(t, left, 1)
	require.Empty(t, left[0].Group)
}

func TestPauserOf_EndsWithItsBroker(t *testing.T) {
	t.Parallel()
	broker := memory.New(nil)
	pauser := broker.PauserOf("audit")
	require.NoError(t, broker.Close())
	_, err := pauser.Pause(t.Context(), "t", backend.Pause{By: "ada", Reason: "r"})
	require.ErrorIs(t, err, backend.ErrClosed)
	_, err = pauser.Resume(t.Context(), "t")
	require.ErrorIs(t, err, backend.ErrClosed)
	_, err = pauser.Pauses(t.Context(), "t")
	require.ErrorIs(t, err, backend.ErrClosed)
}

func TestPause_LongerOneHolds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broker := memory.New(nil)
		pause := func(by string, d time.Duration) backend.Paused {
			t.Helper()
			paused, err := broker.Pause(t.Context(), "t", backend.Pause{By: by, Reason: "r", For: d})
			require.NoError(t, err)
			return paused
		}
		require.Equal(t, "a", pause("a", time.Minute).By)
		require.Equal(t, "a", pause("b", time.Second).By, "the shorter one changes nothing")
		require.Equal(t, "c", pause("c", time.Hour).By)
		require.Equal(t, "d", pause("d", 0).By, "until it is resumed")
		require.Equal(t, "d", pause("e", time.Hour).By)
		time.Sleep(24 * time.Hour)
		pauses, err := broker.Pauses(t.Context(), "t")
		require.NoError(t, err)
		require.Len(t, pauses, 1)
		resumed, err := broker.Resume(t.Context(), "t")
		require.NoError(t, err)
		require.True(t, resumed)
		resumed, err = broker.Resume(t.Context(), "t")
		require.NoError(t, err)
		require.False(t, resumed)

		pause("f", time.Minute)
		time.Sleep(time.Minute - 1)
		pauses, err = broker.Pauses(t.Context(), "t")
		require.NoError(t, err)
		require.Len(t, pauses, 1)
		require.Equal(t, "f", pauses[0].By)
		time.Sleep(2 * time.Nanosecond)
		pauses, err = broker.Pauses(t.Context(), "t")
		require.NoError(t, err)
		require.Empty(t, pauses, "its time is over")
	})
}
