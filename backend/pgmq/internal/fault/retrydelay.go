package fault

import "time"

const (
	shortestRetryDelay = time.Second
	longestRetryDelay  = time.Minute
)

// RetryDelay returns how long until PostgreSQL is asked again for what it has refused since
// then: as long as it has done so, within limits.
func RetryDelay(since time.Time) time.Duration {
	return min(max(time.Since(since), shortestRetryDelay), longestRetryDelay)
}
