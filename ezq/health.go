package ezq

import "sync/atomic"

// subscriptionHealth is what the backend reports about one subscription. One that has
// ended may still be reported about, when its topic has another one.
type subscriptionHealth struct {
	failure atomic.Pointer[error] // nil while events can be fetched
}

// report is called by the backend, with why it cannot fetch events, or nil if it can.
func (h *subscriptionHealth) report(err error) {
	if err == nil {
		h.failure.Store(nil)
		return
	}
	h.failure.Store(&err)
}

func (h *subscriptionHealth) err() error {
	if failure := h.failure.Load(); failure != nil {
		return *failure
	}
	return nil
}
