package ezq

import "sync/atomic"

// waitingPerSlot bounds how many events of a topic may wait without a slot: so many
// for each that its handlers want at a time.
const waitingPerSlot = 10

// slots bound how many events of a topic are handled at a time. An event is fetched
// from the backend when there is a slot for it. An event that has to wait, for its key
// or for its handler, gives up its slot until then.
type slots struct {
	inUse         chan struct{} // holds a token for each slot in use
	fromConsumer  chan struct{} // hands over the slot of a consumer that waits for an event
	fromWatermill chan struct{} // hands over that of an event in a Watermill router's middleware

	waiting    atomic.Int64  // events without a slot
	maxWaiting int           // more are fetched only while fewer than these wait
	recheck    chan struct{} // holds a token when acquire should look again
}

// newSlots returns n slots for handlers that want that many events at a time.
func newSlots(n, demand int) *slots {
	return &slots{
		inUse:         make(chan struct{}, n),
		fromConsumer:  make(chan struct{}),
		fromWatermill: make(chan struct{}),
		maxWaiting:    demand * waitingPerSlot,
		recheck:       make(chan struct{}, 1),
	}
}

// acquire waits for a slot for an event that is yet to be fetched. It returns false if
// stop is closed before. One goroutine at a time calls it, the topic's consumer: the
// token in recheck wakes one.
func (s *slots) acquire(stop <-chan struct{}) bool {
	for s.waiting.Load() >= int64(s.maxWaiting) {
		select {
		case <-s.recheck:
		case <-stop:
			return false
		}
	}
	select {
	case s.inUse <- struct{}{}:
		return true
	case <-stop:
		return false
	}
}

// reacquire waits for a slot for an event that has given up its own. Such events go
// first: a consumer that still waits for an event hands its slot over, and then an
// event that is in the middleware of a Watermill router, where it may wait for this
// one. It returns false if stop or moot is closed before.
func (s *slots) reacquire(stop, moot <-chan struct{}) bool {
	select {
	case s.inUse <- struct{}{}:
		return true
	case s.fromConsumer <- struct{}{}:
		return true
	default:
	}
	return s.reacquireFrom(stop, moot, s.fromWatermill)
}

// reacquireFrom waits as reacquire does. With a nil fromWatermill it takes no slot of
// an event that is in the middleware of a Watermill router.
func (s *slots) reacquireFrom(stop, moot <-chan struct{}, fromWatermill chan<- struct{}) bool {
	select {
	case s.inUse <- struct{}{}:
	case s.fromConsumer <- struct{}{}:
	case fromWatermill <- struct{}{}:
	case <-stop:
		return false
	case <-moot:
		return false
	}
	return true
}

func (s *slots) free() { <-s.inUse }

// countWaiting counts events as waiting, until done is called.
func (s *slots) countWaiting(events int) (done func()) {
	n, limit := int64(events), int64(s.maxWaiting)
	s.waiting.Add(n)
	return func() {
		if left := s.waiting.Add(-n); left < limit && left+n >= limit {
			select {
			case s.recheck <- struct{}{}:
			default:
			}
		}
	}
}
