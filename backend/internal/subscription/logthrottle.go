package subscription

import "time"

// logMin and logMax bound the time between two log records about one fault. It doubles with each.
const (
	logMin = time.Second
	logMax = time.Minute
)

// logThrottle lets through the first of many log records, and then ever fewer, until there was none for logMax.
type logThrottle struct {
	next     time.Time // when to log again; zero: nothing has been logged
	interval time.Duration
	asked    time.Time // when there was last something to log
}

// allows reports whether to log, and if so decides when next.
func (t *logThrottle) allows(now time.Time) bool {
	if now.Sub(t.asked) > logMax {
		*t = logThrottle{}
	}
	t.asked = now
	if now.Before(t.next) {
		return false
	}
	t.interval = min(max(2*t.interval, logMin), logMax)
	t.next = now.Add(t.interval)
	return true
}
