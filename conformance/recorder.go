package conformance

import (
	"fmt"
	"runtime"
	"sync"
)

// recorder keeps what went wrong in a case. The first failure counts: those after it may be its
// consequences. Any goroutine may call its methods, and fail and require end that goroutine only.
type recorder struct {
	mu     sync.Mutex
	failed string
}

// record notes a failure, and returns.
func (r *recorder) record(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed == "" {
		r.failed = fmt.Sprintf(format, args...)
	}
}

// fail notes a failure, and ends the case.
func (r *recorder) fail(format string, args ...any) {
	r.record(format, args...)
	runtime.Goexit()
}

// require ends the case unless ok.
func (r *recorder) require(ok bool, format string, args ...any) {
	if !ok {
		r.fail(format, args...)
	}
}

// failure returns what was recorded, or "".
func (r *recorder) failure() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}
