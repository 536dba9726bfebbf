package pgmq

import (
	"maps"
	"slices"
	"time"
)

// A CHECK that is added as NOT VALID, or a trigger, can refuse each UPDATE of a row that is there
// already. A claim is an UPDATE of many rows, and has the oldest first: that row would stop the queue.
// A claim that is refused looks for it by halves, in transactions that are rolled back, and passes it by
// from then on. It stays as it is: nothing of it can be changed, and only its owner knows whether it may go.

// refusedRows is the rows that PostgreSQL refuses to lease.
type refusedRows struct {
	rows  map[int64]bool
	since time.Time // when the first was found
	next  time.Time // when to try them again
}

// maxRefusedRows is how many rows are passed by. Each claim reads past them.
const maxRefusedRows = 1000

func (r *refusedRows) len() int { return len(r.rows) }

// ids returns what to pass by. It is not nil, which would be NULL.
func (r *refusedRows) ids() []int64 {
	return slices.AppendSeq(make([]int64, 0, len(r.rows)), maps.Keys(r.rows))
}

// add adds rows that were found now.
func (r *refusedRows) add(found []int64) {
	if len(r.rows) == 0 {
		r.since = time.Now()
	}
	r.set(append(found, r.ids()...))
}

// set leaves those rows, which are tried again after some time.
func (r *refusedRows) set(rows []int64) {
	r.rows = map[int64]bool{}
	for _, id := range rows {
		r.rows[id] = true
	}
	r.next = time.Now().Add(refusalPause(r.since))
}
