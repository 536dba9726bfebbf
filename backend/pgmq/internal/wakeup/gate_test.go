package wakeup

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// Any role that may log in can notify in a loop.
func TestGate_PassesFewOfMany(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		passed := 0
		g := &gate{pass: func() { passed++ }}
		for range 100_000 {
			g.heard()
			time.Sleep(100 * time.Microsecond)
		}
		synctest.Wait()
		require.InDelta(t, 10*time.Second/notifyMax, passed, 10)
		before := passed
		g.heard()
		time.Sleep(notifyMax)
		synctest.Wait()
		require.Greater(t, passed, before, "the last one is passed on")
	})
}

func TestGate_PassesOnAtOnceWhatComesSeldom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		passed := 0
		g := &gate{pass: func() { passed++ }}
		for i := range 100 {
			g.heard()
			require.Equal(t, i+1, passed)
			time.Sleep(2 * notifyMin)
			synctest.Wait()
		}
	})
}
