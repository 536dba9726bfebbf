package conformance

import "time"

// next returns what a handler, or another goroutine of the case, has sent. It must come.
func next[T any](h *harness, from <-chan T, what string) (v T) {
	timer := time.NewTimer(h.timeout)
	defer timer.Stop()
	select {
	case v = <-from:
	case <-timer.C:
		h.fail("%s within %v", what, h.timeout)
	}
	return v
}

// nothing fails if a handler sends something in that time.
func nothing[T any](h *harness, from <-chan T, d time.Duration, format string) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case v := <-from:
		h.fail(format, v)
	case <-timer.C:
	}
}

// collect waits until a handler has sent each label. Any label may come again, though not
// for ever.
func collect(h *harness, from <-chan string, labels ...string) {
	missing := setOf(labels)
	for again := 100 * len(labels); len(missing) > 0; again-- {
		h.require(again > 0, "some events are handled again and again, and others, among them %s, are not", anyOf(missing))
		delete(missing, next(h, from, "not all events were handled, among them "+anyOf(missing)))
	}
}
