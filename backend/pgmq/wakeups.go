package pgmq

import "sync"

// wakeups tells subscriptions at once what is published in the same process. They
// find messages of other processes by looking.
type wakeups struct {
	mu       sync.Mutex
	channels map[string]chan struct{} // by queue; closed at a change
}

func newWakeups() *wakeups {
	return &wakeups{channels: map[string]chan struct{}{}}
}

// next returns the channel that is closed at the next change of queue.
func (h *wakeups) next(queue string) <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	c, ok := h.channels[queue]
	if !ok {
		c = make(chan struct{})
		h.channels[queue] = c
	}
	return c
}

// signal says that queue has changed.
func (h *wakeups) signal(queue string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if c, ok := h.channels[queue]; ok {
		close(c)
		delete(h.channels, queue)
	}
}
