package work

import (
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/ezq-go/ezq/bench/contender"
)

// ledger notes which messages were handled, and how often. The messages are numbered from 0.
type ledger struct {
	times      []atomic.Uint32
	distinct   atomic.Int64
	repeated   atomic.Int64
	unexpected atomic.Int64 // numbers that were never given out
	target     int64
	reached    chan struct{}
}

// newLedger is for n messages, and closes reached when target different ones have been handled.
func newLedger(n, target int) *ledger {
	return &ledger{times: make([]atomic.Uint32, n), target: int64(target), reached: make(chan struct{})}
}

// mark notes that a message was handled. It may be called concurrently.
func (l *ledger) mark(id int) {
	if id < 0 || id >= len(l.times) {
		l.unexpected.Add(1)
		return
	}
	if l.times[id].Add(1) > 1 {
		l.repeated.Add(1)
		return
	}
	if l.distinct.Add(1) == l.target {
		close(l.reached)
	}
}

// check returns an error that says what was lost or duplicated, given what is still stored after
// the consumers have stopped.
func (l *ledger) check(stored contender.Count) error {
	handled, all := int(l.distinct.Load()), len(l.times)
	var wrong []string
	if lost := all - handled - stored.Distinct; lost > 0 {
		wrong = append(wrong, fmt.Sprintf("lost %d of %d", lost, all))
	}
	if n := l.repeated.Load(); n > 0 {
		wrong = append(wrong, fmt.Sprintf("handled %d of %d more than once", n, all))
	}
	if handled == all && stored.Messages > 0 {
		wrong = append(wrong, fmt.Sprintf("handled all of %d, but keeps %d that were acked", all, stored.Messages))
	}
	if n := l.unexpected.Load(); n > 0 {
		wrong = append(wrong, fmt.Sprintf("delivered %d that were never published", n))
	}
	if len(wrong) > 0 {
		return fmt.Errorf("%s", strings.Join(wrong, "; "))
	}
	return nil
}
