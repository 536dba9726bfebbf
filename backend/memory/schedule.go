package memory

import (
	"time"

	"github.com/ezq-go/ezq/backend"
)

// schedule is what is known of one. The mutex of the topics guards it.
type schedule struct {
	last, next time.Time
	paused     *backend.Paused // which may have ended
}

// pauseAt returns a copy of the pause that holds, or nil.
func (s *schedule) pauseAt(now time.Time) *backend.Paused {
	if s.paused == nil || !s.paused.HoldsAt(now) {
		return nil
	}
	paused := *s.paused
	return &paused
}
