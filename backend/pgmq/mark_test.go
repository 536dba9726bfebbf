package pgmq

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// looks takes looks at a queue, each of which finds a message a second later than the one
// before, and returns where it has begun.
type looks struct {
	mark
	now   time.Time
	found time.Time
}

func (l *looks) look(took time.Duration) (from time.Time) {
	from = l.begin(l.now)
	l.found = l.found.Add(time.Second)
	l.pass(l.found)
	l.now = l.now.Add(took)
	l.end(l.now)
	l.pass(l.now.Add(time.Hour)) // of a claim, which is none of its business
	return from
}

func newLooks() *looks {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	return &looks{now: start, found: start.Add(-time.Hour)}
}

var bottom = time.Unix(0, 0)

func TestAHoldLooksAtTheWholeQueueWhereThatIsQuick(t *testing.T) {
	t.Parallel()
	l := newLooks()
	for range 100 {
		require.Equal(t, bottom, l.look(slowLook-1))
	}
}

func TestAHoldBeginsWhereTheLastOneEndedWhereLookingIsSlow(t *testing.T) {
	t.Parallel()
	l := newLooks()
	require.Equal(t, bottom, l.look(slowLook))
	for range 10 {
		before := l.found
		require.Equal(t, before, l.look(time.Millisecond))
	}
}

func TestAHoldLooksAtTheWholeQueueForATenthOfItsTime(t *testing.T) {
	t.Parallel()
	l := newLooks()
	whole, start := 0, l.now
	for l.now.Sub(start) < time.Minute {
		if l.begin(l.now).Equal(bottom) {
			whole++
			l.look(100 * time.Millisecond)
		} else {
			l.look(time.Millisecond)
		}
	}
	require.InDelta(t, 60/1.1, whole, 2)
}

func TestAHoldLooksAtTheWholeQueueWhereAPartTakesAsLong(t *testing.T) {
	t.Parallel()
	l := newLooks()
	l.look(100 * time.Millisecond)
	require.NotEqual(t, bottom, l.look(60*time.Millisecond), "it tries")
	for range 10 {
		require.Equal(t, bottom, l.look(100*time.Millisecond))
	}
	l.look(time.Second)
	require.NotEqual(t, bottom, l.look(60*time.Millisecond), "now it pays")
}
