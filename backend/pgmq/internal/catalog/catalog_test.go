package catalog

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq/internal/bounded"
)

// A program may publish to any number of topics that come and go.
func TestCatalog_BoundsMemoryOfQueues(t *testing.T) {
	t.Parallel()
	queues := New()
	for n := range 2 * bounded.Max {
		queues.remember(strconv.Itoa(n))
	}
	require.LessOrEqual(t, len(queues.known), bounded.Max)
}
