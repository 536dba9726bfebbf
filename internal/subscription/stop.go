package subscription

import "slices"

// What a subscription that ends asks of its leases.

// takeWaiting returns the messages that wait for a slot, or to be leased before that;
// they wait no longer.
func (ls *leases) takeWaiting() []*lease {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return slices.Clone(ls.queue)
}

// interrupt ends the contexts of all messages.
func (ls *leases) interrupt(cause error) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for _, l := range ls.byID {
		l.cancel(cause)
	}
}

// abandon forgets what is still held when the subscription has ended.
func (ls *leases) abandon() {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for _, l := range ls.byID {
		ls.drop(l)
	}
}

// empty returns a channel that is closed once nothing is held. Nothing may be
// added any more.
func (ls *leases) empty() <-chan struct{} {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if len(ls.byID) == 0 {
		return closedChannel()
	}
	ls.drained = make(chan struct{})
	return ls.drained
}

func (ls *leases) held() int {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return len(ls.byID)
}
