package ezq

import (
	"sync/atomic"
	"time"
)

// TopicStats is what a router has done with the events of one topic since it was
// started. An event counts once for each delivery; control events do not count.
type TopicStats struct {
	Claimed      int64 // by this router; the sum of all that follow
	Succeeded    int64 // done; also those that a middleware has published as dead letters
	Failed       int64 // and will be delivered again
	DeadLettered int64 // moved by the backend; see [backend.Features].DeadLetter
	Released     int64 // to be delivered again, and has not failed
	Unknown      int64 // released, since no handler takes them: see Config.UnknownFor
	Ignored      int64 // acknowledged, as [Router.Ignore] says
	InFlight     int64 // being handled, or waiting for that

	// LastFailure is when an event failed last. It is the zero Time if none has.
	LastFailure time.Time

	// Paused says that nothing is taken until [Router.Resume].
	Paused bool
}

// Stats tells about each topic, by its name. It is cheap, and may be called while the
// router runs, and after that.
func (r *Router) Stats() map[string]TopicStats {
	stats := make(map[string]TopicStats, len(r.topics))
	for name, tp := range r.topics {
		stats[name] = tp.stats()
	}
	return stats
}

func (tp *topic) stats() TopicStats {
	// What has an outcome was taken before, so that is read last.
	s := TopicStats{
		Succeeded:    tp.counts.fates[succeeded].Load(),
		Failed:       tp.counts.fates[failed].Load(),
		DeadLettered: tp.counts.fates[givenUp].Load(),
		Released:     tp.counts.fates[givenBack].Load(),
		Unknown:      tp.counts.fates[unknown].Load(),
		Ignored:      tp.counts.fates[ignored].Load(),
	}
	s.Claimed = tp.counts.taken.Load()
	s.InFlight = s.Claimed - s.Succeeded - s.Failed - s.DeadLettered - s.Released - s.Unknown - s.Ignored
	if at := tp.counts.lastFailure.Load(); at != 0 {
		s.LastFailure = time.Unix(0, at)
	}
	s.Paused, _ = tp.pause.state()
	return s
}

type counts struct {
	taken       atomic.Int64
	fates       [ignored + 1]atomic.Int64
	lastFailure atomic.Int64 // in nanoseconds since 1970; 0: never
}

func (c *counts) conclude(f fate) {
	c.fates[f].Add(1)
	if f == failed {
		c.lastFailure.Store(time.Now().UnixNano())
	}
}
