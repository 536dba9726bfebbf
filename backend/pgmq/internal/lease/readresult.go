package lease

import (
	"cmp"
	"slices"

	"github.com/ezq-go/ezq/backend/internal/subscription"
)

// memoryOverhead is how many bytes a message counts beside what it says: while it is in flight, 6 KB
// are what there is of each, however small it is, with the stack of the goroutine that waits for its
// outcome; and as many again if a router has a handler work on it.
const memoryOverhead = 6 << 10

// readResult is what a statement has read.
type readResult struct {
	leases   []subscription.Lease
	tooLarge []unread
	forged   []forgery
	surplus  []subscription.Token // of messages for which there is no memory

	bytes        int64 // of leases
	firstSurplus int64 // id in surplus
}

// isSurplus reports whether there is no memory for the message. To keep their order, none is
// kept that comes after one that is not.
func (r *readResult) isSurplus(id int64) bool { return len(r.surplus) > 0 && id > r.firstSurplus }

// add keeps a message, and gives the last ones up for it if they are more than maxBytes in
// all. One is always kept. How large messages are is not known when a claim says how many it
// wants: after a thousand small ones it may meet as many that are large.
func (r *readResult) add(lease subscription.Lease, maxBytes int64) {
	r.leases = append(r.leases, lease)
	r.bytes += int64(lease.Size)
	for r.bytes > maxBytes && len(r.leases) > 1 {
		last := 0
		for i := range r.leases {
			if r.leases[i].ID > r.leases[last].ID {
				last = i
			}
		}
		r.firstSurplus = r.leases[last].ID
		r.surplus = append(r.surplus, r.leases[last].Token)
		r.bytes -= int64(r.leases[last].Size)
		r.leases = slices.Delete(r.leases, last, last+1)
	}
}

// merge adds what another part of the messages has brought. In their order, all messages after
// one that is released are released, too.
func (r *readResult) merge(part readResult, maxBytes int64) {
	if len(part.surplus) > 0 && (len(r.surplus) == 0 || part.firstSurplus < r.firstSurplus) {
		r.firstSurplus = part.firstSurplus
	}
	r.surplus = append(r.surplus, part.surplus...)
	r.tooLarge = append(r.tooLarge, part.tooLarge...)
	r.forged = append(r.forged, part.forged...)
	all := slices.Concat(r.leases, part.leases)
	slices.SortFunc(all, func(a, b subscription.Lease) int { return cmp.Compare(a.ID, b.ID) })
	r.leases, r.bytes = nil, 0
	for _, lease := range all {
		if r.isSurplus(lease.ID) {
			r.surplus = append(r.surplus, lease.Token)
		} else {
			r.add(lease, maxBytes)
		}
	}
}

// surplusResult is what has been read of messages that there was no time for.
func surplusResult(rows []Row) (none readResult) {
	for _, r := range rows {
		if len(none.surplus) == 0 || r.ID < none.firstSurplus {
			none.firstSurplus = r.ID
		}
		none.surplus = append(none.surplus, r.token())
	}
	return none
}
