package memory

import (
	"time"

	"github.com/ezq-go/ezq/backend"
)

// schedule is what is known of one. The mutex of the topics guards it.
type schedule struct {
	last, next time.Time
	paused     *backend.Paused // the last pause, which may have ended
}

// passes reports whether a tick that is due passes in a pause: in one that holds now, or that held when its time came.
func (s *schedule) passes(at, now time.Time) bool {
	return s.paused != nil && (s.paused.HoldsAt(now) || s.paused.Covers(at))
}

// pause stores a pause. What has passed before the end of the one that it replaces is taken.
func (s *schedule) pause(wanted backend.Paused) {
	if s.paused != nil {
		if end := s.paused.EndBy(wanted.Since); end.After(s.last) {
			s.last = end
		}
	}
	s.paused = &wanted
}

// pauseAt returns a copy of the pause that holds, or nil.
func (s *schedule) pauseAt(now time.Time) *backend.Paused {
	if s.paused == nil || !s.paused.HoldsAt(now) {
		return nil
	}
	paused := *s.paused
	return &paused
}
