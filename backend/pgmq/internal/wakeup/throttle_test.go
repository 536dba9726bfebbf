package wakeup

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq/internal/bounded"
)

// A program may publish to any number of topics that come and go.
func TestThrottle_BoundsMemoryOfQueues(t *testing.T) {
	t.Parallel()
	throttle := NewThrottle()
	for n := range 2 * bounded.Max {
		require.True(t, throttle.Allow(strconv.Itoa(n)))
	}
	require.LessOrEqual(t, len(throttle.last), bounded.Max)
}
