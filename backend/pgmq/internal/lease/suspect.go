package lease

import (
	"fmt"
	"time"

	"github.com/ezq-go/ezq/backend/internal/subscription"
)

// suspect is a message that is examined apart from the claims.
type suspect struct {
	unread
	small  bool // it is to be read with others
	sized  bool // it is to be read by itself
	slow   bool // that took long once
	failed bool // that failed for another reason than the message
	lease  time.Duration
	until  time.Time // when its lease ends, or earlier
}

// isUncertain reports whether it is not known that the message cannot be read.
func (s suspect) isUncertain() bool { return s.cause == nil }

// isBad reports whether it is known that the message cannot be read, or takes long.
func (s suspect) isBad() bool { return s.cause != nil || s.slow }

// isLate reports whether there is no time to read the message before its lease ends.
func (s suspect) isLate() bool { return time.Until(s.until) < s.lease/4 }

func (s suspect) tooLarge(size int64, limit int) suspect {
	s.cause = fmt.Errorf("the message has at least %d bytes, and MaxMessageBytes is %d", size, limit)
	return s
}

// examined is a message that could be read, and waits for the next claim. If that does not come, the
// consumer has no room.
type examined struct {
	subscription.Lease
	until time.Time // it is released then
}

func suspectsByID(some []suspect) map[int64]suspect {
	all := make(map[int64]suspect, len(some))
	for _, u := range some {
		all[u.row.ID] = u
	}
	return all
}

func suspectRows(some []suspect) []Row {
	rows := make([]Row, len(some))
	for i, u := range some {
		rows[i] = u.row
	}
	return rows
}

func unreadSuspects(some []suspect) []unread {
	all := make([]unread, len(some))
	for i, u := range some {
		all[i] = u.unread
	}
	return all
}
