package pauses

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
)

func newTestWatcher(hears bool) *Watcher {
	return newWatcher(WatcherConfig{Interval: time.Second, Hears: func() bool { return hears }})
}

// The end of a pause is by the clock of PostgreSQL. Where that is behind, the pause holds although it is over here.
func TestWatcher_DoesNotSpinWhereTheClockOfTheServerIsBehind(t *testing.T) {
	t.Parallel()
	w := newTestWatcher(true)
	w.held["q"] = &backend.Paused{Until: time.Now().Add(-5 * time.Second)}
	require.Equal(t, endInterval, w.untilNext())
}

func TestWatcher_QueriesSeldomWhereItHears(t *testing.T) {
	t.Parallel()
	require.Equal(t, time.Second, newTestWatcher(false).untilNext())
	w := newTestWatcher(true)
	require.Equal(t, heardInterval, w.untilNext())
	w.held["q"] = &backend.Paused{Until: time.Now().Add(5 * time.Second)}
	require.InDelta(t, 5, w.untilNext().Seconds(), 1, "a pause ends")
	w.held["q"] = &backend.Paused{}
	require.Equal(t, heardInterval, w.untilNext())
}

func TestWatcher_TellsOfEachChange(t *testing.T) {
	t.Parallel()
	w := newTestWatcher(true)
	paused, changed := w.Paused("own", "group")
	require.Nil(t, paused)
	topic, group := &backend.Paused{By: "topic", Until: time.Unix(100, 0)}, &backend.Paused{By: "group"}
	w.set(map[string]*backend.Paused{"own": topic})
	<-changed
	paused, changed = w.Paused("own", "group")
	require.Equal(t, "topic", paused.By)
	copied := *topic
	w.set(map[string]*backend.Paused{"own": &copied})
	select {
	case <-changed:
		require.Fail(t, "nothing has changed")
	default:
	}
	w.set(map[string]*backend.Paused{"own": topic, "group": group})
	<-changed
	paused, _ = w.Paused("own", "group")
	require.Equal(t, "group", paused.By, "it lasts longer")
	paused, _ = w.Paused("own", "other")
	require.Equal(t, "topic", paused.By)
}
