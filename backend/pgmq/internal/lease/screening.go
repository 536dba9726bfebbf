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

	// maxLeaseTimeout leaves time for what comes before and after it.
	maxLeaseTimeout = maxClaimTimeout / 2

	// screenTimeout is how long it is tried to tell those messages apart that are screened together,
	// and as long how to read them.
	screenTimeout = 500 * time.Millisecond

	// screeningPeriod is for how long messages are screened after something has failed, if some were suspicious then,
	// and after the last one that was found to be unreadable, or slow. Those that are suspicious in the meantime have it
	// last no longer: large messages are, and most of them are good.
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

	// shortFor is for how long claims bring less than is due before rows are looked for that PostgreSQL
	// does not lease.
	shortFor = time.Second

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
	failed      bool      // since messages were last screened
	slow        bool      // the last lease took half of its time

	refused    refusedRows
	searching  bool          // rows are to be looked for that PostgreSQL does not lease
	shortSince time.Time     // since when claims bring less than is due
	shortPause time.Duration // until rows are looked for, then
}

func (s *screening) claimTimeout() time.Duration { return cmp.Or(s.timeout, minClaimTimeout) }

// leaseTimeout is how long messages may take to be leased that are screened.
func (s *screening) leaseTimeout() time.Duration { return min(s.claimTimeout(), maxLeaseTimeout) }

// extendTimeout has one message take longer to be leased, and reports whether it can.
func (s *screening) extendTimeout() bool {
	if s.leaseTimeout() == maxLeaseTimeout {
		return false
	}
	s.timeout = min(2*s.claimTimeout(), maxLeaseTimeout)
	return true
}

// recordLease notes how long messages have taken to be leased. Twice as many could take too long.
func (s *screening) recordLease(took time.Duration) { s.slow = took > s.leaseTimeout()/2 }

// reduce has no more than n messages screened at a time.
func (s *screening) reduce(n int) { s.batchLimit, s.limited = n, true }

// search has rows looked for that PostgreSQL does not lease.
func (s *screening) search() { s.searching = true }

func (s *screening) takeSearch() (due bool) {
	due, s.searching = s.searching, false
	return due
}

// recordClaim notes how many messages a claim has brought, and whether there were more that are due. For a moment,
// other consumers may have locked those. PostgreSQL does not say if a trigger keeps rows as they are.
func (s *screening) recordClaim(n int, short bool) {
	if n > 0 {
		s.refused.claimed()
	}
	switch now := time.Now(); {
	case !short:
		s.shortSince, s.shortPause, s.refused.unblamed = time.Time{}, 0, nil
	case s.shortSince.IsZero():
		s.shortSince = now
	case now.Sub(s.shortSince) >= max(s.shortPause, shortFor):
		s.search()
		s.shortSince, s.shortPause = now, min(2*max(s.shortPause, shortFor), time.Minute)
	}
}

// recordFailure reports whether a claim failed with err because of what it was to read, as it may have if
// it was reading, or if the client has given up. The next messages are screened then.
func (s *screening) recordFailure(err error, reading bool) bool {
	givenUp := isGivenUp(err)
	if !givenUp && (!reading || !fault.IsUnreadable(err) && !fault.IsDoubtful(err)) {
		return false
	}
	s.active, s.failed, s.timedOut = true, true, s.timedOut || givenUp || fault.IsCode(err, "57014")
	if end := time.Now().Add(lockedFor); givenUp && end.After(s.activeUntil) {
		s.activeUntil = end
	}
	return true
}

// isGivenUp reports whether the client has waited for the server long enough. What that was doing, it
// does not know.
func isGivenUp(err error) bool { return errors.Is(err, context.DeadlineExceeded) }

// activate is for messages that only a claim can do something about.
func (s *screening) activate() { s.active, s.failed = true, true }

// extend has messages screened until a period after one was found to be bad.
func (s *screening) extend(bad time.Time) {
	if end := bad.Add(screeningPeriod); end.After(s.activeUntil) {
		s.activeUntil = end
	}
}

// limitFor is how many messages to screen, if limit are asked for.
func (s *screening) limitFor(limit int) int {
	if s.limited {
		return min(limit, s.batchLimit)
	}
	return max(limit, s.batchLimit)
}

// recordResult notes how many messages have gone through, how many were suspicious, and for how
// many there was no time.
func (s *screening) recordResult(all, suspicious, untried int) {
	if suspicious > 0 && s.failed {
		s.extend(time.Now())
	}
	switch {
	case suspicious > 0:
		s.timeout = minClaimTimeout
	case s.timedOut && !s.limited:
		s.timeout = min(2*s.claimTimeout(), maxClaimTimeout)
	}
	s.timedOut = false
	if suspicious > 0 || untried == 0 && !s.limited {
		s.failed = false // else what it has failed for may come yet
	}
	switch {
	case untried > 0:
		s.batchLimit, s.limited = max(all/4, 1), true
	case s.limited && s.slow:
	case s.limited && all == s.batchLimit && all < maxScreenBatch:
		s.batchLimit = 2 * all
	case 2*suspicious > all:
		s.batchLimit, s.limited = min(4*all, maxScreenBatch), false
	default:
		s.batchLimit, s.limited = 0, false
	}
	s.active = time.Now().Before(s.activeUntil) || s.refused.len() > 0 || s.limited
}
