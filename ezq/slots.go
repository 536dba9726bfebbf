package ezq

import "sync/atomic"

// waitingPerSlot bounds how many events of a topic may wait for their turn: so
// many for each that its handlers want at a time.
const waitingPerSlot = 10

// slots bound how many events of a topic are handled at a time. An event is taken
// from the backend when there is a slot for it. If it has to wait for its turn, it
// gives the slot up until then.
type slots struct {
	taken chan struct{} // holds a token for each slot in use
	yield chan struct{} // hands over the slot of a taker that waits for an event
	lend  chan struct{} // hands over that of an event in a Watermill router's middleware

	waiting atomic.Int64  // events without a slot
	most    int           // more are taken only while fewer than these wait
	fewer   chan struct{} // holds a token when take should look again
}

// newSlots returns n slots for handlers that want so many events at a time.
func newSlots(n, demand int) *slots {
	return &slots{
		taken: make(chan struct{}, n),
		yield: make(chan struct{}),
		lend:  make(chan struct{}),
		most:  demand * waitingPerSlot,
		fewer: make(chan struct{}, 1),
	}
}

// take waits for a slot for an event that is yet to be taken. It returns false if
// stop is closed before. One goroutine at a time calls it, the topic's taker: the
// token in fewer wakes one.
func (s *slots) take(stop <-chan struct{}) bool {
	for s.waiting.Load() >= int64(s.most) {
		select {
		case <-s.fewer:
		case <-stop:
			return false
		}
	}
	select {
	case s.taken <- struct{}{}:
		return true
	case <-stop:
		return false
	}
}

// retake waits for a slot for an event that has given its own up. Such events go
// first: a taker that still waits for an event yields its slot, and then an event that
// is in the middleware of a Watermill router, where it may wait for this one. It returns
// false if stop or moot is closed before.
func (s *slots) retake(stop, moot <-chan struct{}) bool {
	select {
	case s.taken <- struct{}{}:
		return true
	case s.yield <- struct{}{}:
		return true
	default:
	}
	return s.wait(stop, moot, s.lend)
}

// wait waits as retake does, for an event that is not in the middleware of a Watermill
// router if lend is nil.
func (s *slots) wait(stop, moot <-chan struct{}, lend chan<- struct{}) bool {
	select {
	case s.taken <- struct{}{}:
	case s.yield <- struct{}{}:
	case lend <- struct{}{}:
	case <-stop:
		return false
	case <-moot:
		return false
	}
	return true
}

func (s *slots) free() { <-s.taken }

// await counts events as waiting, until done is called.
func (s *slots) await(events int) (done func()) {
	n, most := int64(events), int64(s.most)
	s.waiting.Add(n)
	return func() {
		if left := s.waiting.Add(-n); left < most && left+n >= most {
			select {
			case s.fewer <- struct{}{}:
			default:
			}
		}
	}
}
