package command

import (
	"io"
	"sync"
)

// output is where a command prints. It keeps the first error: a command whose result is lost must not end as if it had
// been read.
type output struct {
	to io.Writer

	mu   sync.Mutex
	lost error
}

// Write writes to what is printed to. After an error it writes nothing: of the rest, no part is to look like the whole.
func (o *output) Write(text []byte) (n int, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.lost != nil {
		return 0, o.lost
	}
	if n, err = o.to.Write(text); err != nil {
		o.lost = &outputError{err}
	}
	return n, o.lost
}

// err returns the first error.
func (o *output) err() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.lost
}

// outputError is why something was not printed.
type outputError struct{ err error }

func (e *outputError) Error() string {
	return "not all could be printed: " + e.err.Error() + "; what was done stays done"
}

func (e *outputError) Unwrap() error { return e.err }
