package backend_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
)

func TestScheduleState_IsOverdueIfNoProgramTicks(t *testing.T) {
	t.Parallel()
	now := time.Date(2027, 1, 31, 9, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		state backend.ScheduleState
		want  bool
	}{
		"a tick to come":     {backend.ScheduleState{Next: now.Add(time.Second)}, false},
		"one that is due":    {backend.ScheduleState{Next: now.Add(-10 * time.Second)}, false},
		"one that was due":   {backend.ScheduleState{Next: now.Add(-11 * time.Second)}, true},
		"one that is paused": {backend.ScheduleState{Next: now.Add(-time.Hour), Paused: &backend.Paused{}}, false},
		"one without a tick": {backend.ScheduleState{}, false},
	} {
		require.Equal(t, c.want, c.state.OverdueAt(now), name)
	}
}
