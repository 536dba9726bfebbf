package fault

import "time"

const (
	refusalPauseMin = time.Second
	refusalPauseMax = time.Minute
)

// Pause returns how long until PostgreSQL is asked again for what it has refused since
// then: as long as it has done so, within limits.
func Pause(since time.Time) time.Duration {
	return min(max(time.Since(since), refusalPauseMin), refusalPauseMax)
}
