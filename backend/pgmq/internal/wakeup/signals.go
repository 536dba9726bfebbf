// Package wakeup tells consumers of new messages: in this process with channels, and other processes with
// NOTIFY. Each message is found without it, only later.
package wakeup

import "sync"

// Signals tells subscriptions at once what is published in the same process. They
// find messages of other processes by looking.
type Signals struct {
	mu       sync.Mutex
	channels map[string]chan struct{} // by queue; closed at a change
}

// NewSignals returns signals that nothing waits for.
func NewSignals() *Signals {
	return &Signals{channels: map[string]chan struct{}{}}
}

// Next returns the channel that is closed at the next change of queue.
func (s *Signals) Next(queue string) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.channels[queue]
	if !ok {
		c = make(chan struct{})
		s.channels[queue] = c
	}
	return c
}

// Signal says that queue has changed.
func (s *Signals) Signal(queue string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, ok := s.channels[queue]; ok {
		close(c)
		delete(s.channels, queue)
	}
}
