package memory

// signal tells those that wait for it that something has changed. The mutex of the topics guards it. The zero value is ready
// for use.
type signal struct {
	channel chan struct{} // nil if none has asked since the last change
}

// send tells those that have asked that there is a change.
func (s *signal) send() {
	if s.channel != nil {
		close(s.channel)
		s.channel = nil
	}
}

// next returns the channel that is closed at the next change.
func (s *signal) next() <-chan struct{} {
	if s.channel == nil {
		s.channel = make(chan struct{})
	}
	return s.channel
}
