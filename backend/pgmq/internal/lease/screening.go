package lease

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
)

// A claim reads what it leases. If that fails, or takes long, the message at fault is unknown,
// and the oldest are claimed first, so every claim would fail. The messages are then
// screened: leased without being read, and looked at. Those that can be read are handed over in
// their order; the suspicious ones become suspects, and keep no other waiting.

const (
	// minClaimTimeout is how long a claim may take before its messages are screened. Where it was
	// the server that took long, and no message, it gets twice as long the next time.
	minClaimTimeout = 500 * time.Millisecond
	maxClaimTimeout = OperationTimeout - time.Second

	// screenTimeout is how long it is tried to tell those messages apart that are screened together,
	// and as long how to read them.
	screenTimeout = 500 * time.Millisecond

	// screeningPeriod is for how long messages are screened after the last one that was suspicious.
	// PostgreSQL does not stop while it writes one out, which takes seconds for a gigabyte:
	// if such messages were published one at a time, each claim would take that long.
	screeningPeriod = time.Minute

	// readingFor is how much longer than its patience a lock is waited for.
	// PostgreSQL has said by then that there was no time, unless it is writing
	// out a message, or waits for a lock on the table. A claim that leases has
	// all the time there is: it may have been committed.
	readingFor = 2 * time.Second

	// lockedFor is for how long messages are screened after a claim that was given up. Until PostgreSQL
	// notices that, it keeps the rows of the claim locked, and no other claim meets
	// them.
	lockedFor = 4 * OperationTimeout

	// maxScreenBatch is how many messages are screened at a time, where most were suspicious.
	maxScreenBatch = 1000
)

// screening is what a store knows about messages that make claims fail.
type screening struct {
	active      bool // the next messages are screened
	timedOut    bool // a claim took too long
	timeout     time.Duration
	batchLimit  int       // how many to screen at a time at least; 0: as many as are asked for
	limited     bool      // it is that many at most
	activeUntil time.Time // until when to go on

	refused refusedRows
}

func (s *screening) claimTimeout() time.Duration { return cmp.Or(s.timeout, minClaimTimeout) }

// recordFailure reports whether a claim failed with err because of what it was to read, as it may have if
// it was reading, or if the client has given up. The next messages are screened then.
func (s *screening) recordFailure(err error, reading bool) bool {
	givenUp := isGivenUp(err)
	if !givenUp && (!reading || !fault.IsUnreadable(err) && !fault.IsDoubtful(err)) {
		return false
	}
	s.active, s.timedOut = true, s.timedOut || givenUp || fault.IsCode(err, "57014")
	if end := time.Now().Add(lockedFor); givenUp && end.After(s.activeUntil) {
		s.activeUntil = end
	}
	return true
}

// isGivenUp reports whether the client has waited for the server long enough. What that was doing, it
// does not know.
func isGivenUp(err error) bool { return errors.Is(err, context.DeadlineExceeded) }

// activate is for messages that only a claim can do something about.
func (s *screening) activate() { s.active = true }

// limitFor is how many messages to screen, if limit are asked for.
func (s *screening) limitFor(limit int) int {
	if s.limited {
		return min(limit, s.batchLimit)
	}
	return max(limit, s.batchLimit)
}

// recordResult notes that so many messages have gone through, how many were suspicious, and for how
// many there was no time.
func (s *screening) recordResult(all, suspicious, untried int) {
	switch {
	case suspicious > 0:
		s.timeout, s.activeUntil = minClaimTimeout, time.Now().Add(screeningPeriod)
	case s.timedOut:
		s.timeout = min(2*s.claimTimeout(), maxClaimTimeout)
	}
	s.timedOut, s.active = false, time.Now().Before(s.activeUntil) || s.refused.len() > 0
	switch {
	case untried > 0:
		s.batchLimit, s.limited = max(all/4, 1), true
	case s.limited && all == s.batchLimit && all < maxScreenBatch:
		s.batchLimit = 2 * all
	case 2*suspicious > all:
		s.batchLimit, s.limited = min(4*all, maxScreenBatch), false
	default:
		s.batchLimit, s.limited = 0, false
	}
}

// OperationTimeout bounds every statement of a subscription.
const OperationTimeout = 5 * time.Second
