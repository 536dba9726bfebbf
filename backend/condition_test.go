package backend_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
)

func TestResult_WithoutConditionAndTickIsStored(t *testing.T) {
	t.Parallel()
	result, reported := backend.PublishConditionFromContext(t.Context()).Result()
	require.False(t, reported)
	require.Equal(t, backend.PublishStored, result.Outcome)
	tick, reported := backend.ScheduleTickFromContext(t.Context()).Result()
	require.False(t, reported)
	require.Equal(t, backend.TickPublished, tick.Outcome)
}
