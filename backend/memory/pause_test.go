package memory_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
)

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
