package lease

import "sync"

// unleasable is what the ends of lock transactions have found out about rows that cannot be leased. The
// next claim does something about them: a lock transaction would lock them again, and end the same way.
type unleasable struct {
	mu        sync.Mutex
	refused   bool    // PostgreSQL has refused to lease some, and it is not known which
	unchanged []int64 // it has leased all but these, and said nothing
}

func (u *unleasable) addRefused() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.refused = true
}

func (u *unleasable) addUnchanged(ids []int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.unchanged = append(u.unchanged, ids...)
}

func (u *unleasable) take() (refused bool, unchanged []int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	refused, unchanged = u.refused, u.unchanged
	u.refused, u.unchanged = false, nil
	return refused, unchanged
}
