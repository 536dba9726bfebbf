package lease

import (
	"cmp"
	"slices"

	"github.com/ezq-go/ezq/backend/internal/subscription"
)

// memoryOverhead is how many bytes a message counts beside its text: 1.1 to 1.9 KB of the heap are
// what there is of each while it is in flight, however small it is, and there is the stack of the
// goroutine that waits for its outcome.
const memoryOverhead = 2 << 10

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
func (f *readResult) isSurplus(id int64) bool { return len(f.surplus) > 0 && id > f.firstSurplus }

// add keeps a message, and gives the last ones up for it if they are more than most bytes in
// all. One is always kept. How large messages are is not known when a claim says how many it
// wants: after a thousand small ones it may meet as many that are large.
func (f *readResult) add(lease subscription.Lease, maxBytes int64) {
	f.leases = append(f.leases, lease)
	f.bytes += int64(lease.Size)
	for f.bytes > maxBytes && len(f.leases) > 1 {
		last := 0
		for i := range f.leases {
			if f.leases[i].ID > f.leases[last].ID {
				last = i
			}
		}
		f.firstSurplus = f.leases[last].ID
		f.surplus = append(f.surplus, f.leases[last].Token)
		f.bytes -= int64(f.leases[last].Size)
		f.leases = slices.Delete(f.leases, last, last+1)
	}
}

// merge adds what another part of the messages has brought. In their order, all messages after
// one that is released are released, too.
func (f *readResult) merge(part readResult, maxBytes int64) {
	if len(part.surplus) > 0 && (len(f.surplus) == 0 || part.firstSurplus < f.firstSurplus) {
		f.firstSurplus = part.firstSurplus
	}
	f.surplus = append(f.surplus, part.surplus...)
	f.tooLarge = append(f.tooLarge, part.tooLarge...)
	f.forged = append(f.forged, part.forged...)
	all := slices.Concat(f.leases, part.leases)
	slices.SortFunc(all, func(a, b subscription.Lease) int { return cmp.Compare(a.ID, b.ID) })
	f.leases, f.bytes = nil, 0
	for _, lease := range all {
		if f.isSurplus(lease.ID) {
			f.surplus = append(f.surplus, lease.Token)
		} else {
			f.add(lease, maxBytes)
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
