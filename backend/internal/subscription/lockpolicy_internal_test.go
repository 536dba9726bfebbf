package subscription

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const tryLockFor = 50 * time.Millisecond

func newTestBatch(sizes ...int) *lockedBatch {
	b := newLockedBatch(nil, time.Time{})
	for _, size := range sizes {
		for range size {
			l := &held{phase: delivered, batch: b}
			b.leases = append(b.leases, l)
			b.open++
		}
	}
	return b
}

// isDue reports whether the lock of b should end, and takes the token that says so.
func isDue(b *lockedBatch) bool {
	select {
	case <-b.due:
		return true
	default:
		return false
	}
}

func TestLockPolicy_Next(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	for name, test := range map[string]struct {
		lockFor     time.Duration
		acks, late  int
		leaseOnly   bool
		sinceFailed time.Duration
		batches     int
		lock, ready bool
	}{
		"a policy without a history leases":             {lockFor: tryLockFor, sinceFailed: time.Hour, ready: true},
		"the policy locks after ten acks that are soon": {lockFor: tryLockFor, acks: 10, sinceFailed: time.Hour, lock: true, ready: true},
		"the policy leases if two of ten acks are late": {lockFor: tryLockFor, acks: 8, late: 2, sinceFailed: time.Hour, ready: true},
		"the policy leases if locking is off":           {acks: 10, sinceFailed: time.Hour, ready: true},
		"the policy leases once a lease was needed":     {lockFor: tryLockFor, acks: 10, leaseOnly: true, sinceFailed: time.Hour, ready: true},
		"the policy locks beside one batch":             {lockFor: tryLockFor, acks: 10, sinceFailed: time.Hour, batches: 1, lock: true, ready: true},
		"the policy waits beside two batches":           {lockFor: tryLockFor, acks: 10, sinceFailed: time.Hour, batches: 2, lock: true},
		"the policy leases in the cooldown":             {lockFor: tryLockFor, acks: 10, sinceFailed: lockCooldown, ready: true},
		"the policy waits in the cooldown for a batch":  {lockFor: tryLockFor, acks: 10, sinceFailed: lockCooldown, batches: 1},
		"the policy locks after the cooldown":           {lockFor: tryLockFor, acks: 10, sinceFailed: lockCooldown + 1, lock: true, ready: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := lockPolicy{lockFor: test.lockFor, leaseOnly: test.leaseOnly}
			for range test.acks {
				p.acked(test.lockFor/2 - 1)
			}
			for range test.late {
				p.acked(test.lockFor / 2)
			}
			p.failed(now.Add(-test.sinceFailed))
			for range test.batches {
				p.add(newTestBatch(8))
			}
			lock, ready := p.next(now)
			require.Equal(t, test.lock, lock)
			require.Equal(t, test.ready, ready)
		})
	}
}

func TestLockPolicy_EndsBatches(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	p := lockPolicy{lockFor: tryLockFor}
	for range firstAcks {
		p.acked(0)
	}
	first, second := newTestBatch(16), newTestBatch(16)
	p.add(first)
	p.add(second)
	p.next(now)
	require.Equal(t, 2, first.openAtEnd, "the oldest one ends when an eighth of it is open")
	require.False(t, isDue(first))
	for range 14 {
		first.closeOne()
	}
	require.True(t, isDue(first))
	require.False(t, isDue(second))
	p.remove(first)
	require.Equal(t, []*lockedBatch{second}, p.batches)
	p.failed(now)
	p.next(now)
	require.True(t, isDue(second), "all end in the cooldown")
}

func TestLockPolicy_MaxWait(t *testing.T) {
	t.Parallel()
	p := lockPolicy{lockFor: tryLockFor}
	require.Equal(t, maxWindow, p.maxWait())
	p.heuristic.locking = true
	require.Equal(t, tryLockFor/2, p.maxWait())
}

func TestLockHeuristic_LocksWhereAcksComeSoon(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		soon    []bool
		batches [][2]int // acked, and not
		locking bool
		want    bool
	}{
		"nine acks are too few for locking":                    {soon: acks(9, 0)},
		"ten acks are enough for locking":                      {soon: acks(10, 0), want: true},
		"locking begins if nine of ten acks are soon":          {soon: acks(9, 1), want: true},
		"locking does not begin if eight of ten acks are soon": {soon: acks(8, 2)},
		"locking goes on if eight of ten acks are soon":        {soon: acks(8, 2), locking: true, want: true},
		"locking stops if six of ten acks are soon":            {soon: acks(6, 4), locking: true},
		"locking goes on after one batch that is half acked":   {soon: acks(10, 0), batches: [][2]int{{5, 5}}, locking: true, want: true},
		"locking stops after two batches that are half acked":  {soon: acks(10, 0), batches: [][2]int{{5, 5}, {5, 5}}, locking: true},
		"locking goes on after empty batches":                  {soon: acks(10, 0), batches: [][2]int{{}, {}, {}}, locking: true, want: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := lockHeuristic{locking: test.locking}
			for _, soon := range test.soon {
				h.acked(soon)
			}
			for _, batch := range test.batches {
				h.batchEnded(batch[0], batch[1])
			}
			require.Equal(t, test.want, h.decide())
			require.Equal(t, test.want, h.locking)
		})
	}
}

// acks returns so many acks that were soon, and then those that were late.
func acks(soon, late int) []bool {
	all := make([]bool, soon+late)
	for i := range soon {
		all[i] = true
	}
	return all
}

func TestLockedBatch_Close(t *testing.T) {
	t.Parallel()
	b := newTestBatch(4)
	acked, nacked, released, open := b.leases[0], b.leases[1], b.leases[2], b.leases[3]
	b.settlements = []lockedSettlement{
		{acked, Settlement{Action: Ack}},
		{nacked, Settlement{Action: Nack}},
	}
	released.lockOutcome = lockReleased
	removed, rest := b.close()
	require.True(t, b.closed)
	require.Equal(t, []*held{acked}, removed)
	require.Equal(t, lockRemoved, acked.lockOutcome)
	require.Equal(t, []*held{nacked, open}, rest)
	b.detach()
	for _, l := range b.leases {
		require.Nil(t, l.batch)
	}
}
