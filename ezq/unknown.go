package ezq

import (
	"math/rand/v2"
	"sync"
	"time"
)

const (
	minUnknownDelay = time.Second // before an unknown event is delivered again, at first
	maxUnknownDelay = time.Minute // and in the end

	unknownLogInterval = 10 * time.Minute // how often one name is logged
	maxUnknownNames    = 1000             // of a topic, that are told apart
)

// unknownEvents are the events without a handler that a router has received on one topic,
// by their names.
type unknownEvents struct {
	mu   sync.Mutex
	seen map[string]*unknownEvent
}

type unknownEvent struct {
	first  time.Time
	logged time.Time
}

// observe returns when an event of that name was first received, and whether to log it.
func (u *unknownEvents) observe(event string, now time.Time) (first time.Time, log bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.seen == nil {
		u.seen = map[string]*unknownEvent{}
	}
	if u.seen[event] == nil && len(u.seen) >= maxUnknownNames {
		event = "" // those that are too many share one
	}
	known := u.seen[event]
	if known == nil {
		known = &unknownEvent{first: now}
		u.seen[event] = known
	}
	if log = known.logged.IsZero() || now.Sub(known.logged) >= unknownLogInterval; log {
		known.logged = now
	}
	return known.first, log
}

// unknownDelay is how long an event waits that has been unknown for age: as long
// again, and up to a fifth less.
func unknownDelay(age time.Duration) time.Duration {
	wait := min(max(age, minUnknownDelay), maxUnknownDelay)
	return wait - rand.N(wait/5) //nolint:gosec // chance only spreads load, and may be guessed
}
