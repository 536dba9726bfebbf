package pgmq

import "time"

const (
	refusalPauseMin = time.Second
	refusalPauseMax = time.Minute
)

// refusalPause returns how long until PostgreSQL is asked again for what it has refused since
// then: as long as it has done so, within limits.
func refusalPause(since time.Time) time.Duration {
	return min(max(time.Since(since), refusalPauseMin), refusalPauseMax)
}
