package pgmq

import "sync"

// hints tells subscriptions at once what is published in the same process. What
// others publish, they find out by looking.
type hints struct {
	mu      sync.Mutex
	changed map[string]chan struct{} // by queue; closed at a change
}

func newHints() *hints {
	return &hints{changed: map[string]chan struct{}{}}
}

// of returns the channel that is closed at the next change of queue.
func (h *hints) of(queue string) <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	c, ok := h.changed[queue]
	if !ok {
		c = make(chan struct{})
		h.changed[queue] = c
	}
	return c
}

// give says that queue has changed.
func (h *hints) give(queue string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if c, ok := h.changed[queue]; ok {
		close(c)
		delete(h.changed, queue)
	}
}
