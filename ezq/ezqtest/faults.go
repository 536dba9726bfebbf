package ezqtest

import "slices"

// fault is what goes wrong with a delivery. Its outcome is lost in any case, so that
// the event is delivered again, without a failure on its account.
type fault int32

const (
	none fault = iota
	duplicate
	crash
	lease
)

// says ends a sentence about a delivery.
func (what fault) says() string {
	switch what {
	case duplicate:
		return "is repeated"
	case crash:
		return "crashes and is repeated"
	default:
		return "loses its lease and is repeated"
	}
}

// Duplicate lets the next n deliveries happen twice: their handlers run to their end,
// and nobody is told, as when a process is killed right after its work.
func (f *Flow) Duplicate(n int) { f.queue.expect(duplicate, n) }

// Crash lets the handlers of the next n deliveries die in the middle of their work:
// right after they have published something, or else at their end. To the handler it
// looks like [runtime.Goexit].
func (f *Flow) Crash(n int) { f.queue.expect(crash, n) }

// Expire takes the lease from the next n deliveries as their handlers begin: their
// contexts end with the cause [ezq.ErrLeaseLost], and the event goes to another.
func (f *Flow) Expire(n int) { f.queue.expect(lease, n) }

func (q *queue) expect(what fault, n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.faults = append(q.faults, slices.Repeat([]fault{what}, n)...)
}
