package lease

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/internal/subscription"
)

func rowsTo(n int64) []Row {
	rows := make([]Row, n)
	for i := range rows {
		rows[i].ID = int64(i) + 1
	}
	return rows
}

// A server that takes a millisecond for a message, and for one of them very long.
func TestBisect_FindsSlowMessageAmongHundred(t *testing.T) {
	t.Parallel()
	for slow := range int64(100) {
		synctest.Test(t, func(t *testing.T) {
			var failed, read []Row
			rounds := 0
			for waiting := rowsTo(100); len(waiting) > 0; rounds++ {
				alone, untried := bisect(waiting, examineTimeout, func(part []Row, timeout time.Duration) error {
					took := time.Duration(len(part)) * time.Millisecond
					if slices.ContainsFunc(part, func(r Row) bool { return r.ID == slow+1 }) {
						took = time.Hour
					}
					if took > timeout {
						time.Sleep(timeout)
						return errors.New("canceled")
					}
					time.Sleep(took)
					read = append(read, part...)
					return nil
				})
				failed, waiting = append(failed, alone...), untried
			}
			require.Equal(t, []Row{{ID: slow + 1}}, failed)
			require.Len(t, read, 99)
			require.LessOrEqual(t, rounds, 10)
		})
	}
}

func TestBisect_KeepsToItsTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		failed, untried := bisect(rowsTo(1000), screenTimeout, func(_ []Row, timeout time.Duration) error {
			time.Sleep(timeout)
			return errors.New("canceled")
		})
		require.Equal(t, rowsTo(1000)[:1], failed)
		require.Equal(t, rowsTo(1000)[1:], untried)
		require.Less(t, time.Since(start), 4*screenTimeout)
	})
}

// Each stays in the list with a lease that had ended, and was leased and listed once more.
func TestQuarantine_ReturnsLateSuspects(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := &suspects{limit: 3, working: true}
		add := func(id int64) []unread { return q.add([]unread{{row: Row{ID: id}}}, 20*time.Second) }
		require.Empty(t, add(1))
		time.Sleep(4 * time.Second)
		require.Empty(t, add(2))
		require.Empty(t, add(3))
		require.Equal(t, []unread{{row: Row{ID: 4}}}, add(4), "there is no room for it")
		require.Empty(t, q.takeLate())
		time.Sleep(12 * time.Second)
		require.Equal(t, []unread{{row: Row{ID: 1}}}, q.takeLate(), "a quarter of its lease is left")
		time.Sleep(4 * time.Second)
		late := outOfTime(q.takeLate())
		require.Len(t, late, 2)
		require.True(t, late[0].doubtful)
		require.ErrorIs(t, late[1].cause, errOutOfTime)
		require.Empty(t, add(5))
		time.Sleep(20 * time.Second)
		require.Empty(t, q.takeLate(), "its lease has ended, and it is claimed again")
		require.Empty(t, q.waiting)
	})
}

func TestQuarantine_ReadsMeasuredMessageDespiteSlowOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := &suspects{limit: maxSuspects, working: true}
		q.add([]unread{{row: Row{ID: 1}}, {row: Row{ID: 2}}, {row: Row{ID: 3}}}, time.Second)
		some, _ := q.nextBatch()
		require.Len(t, some, 3)
		some[1].sized, some[2].sized, some[2].slow = true, true, true
		q.requeue(some...)
		time.Sleep(900 * time.Millisecond)
		require.Equal(t, []unread{{row: Row{ID: 1}}, {row: Row{ID: 3}}}, q.takeLate())
		require.Equal(t, []Row{{ID: 2}}, suspectRows(q.takeOverdue()), "its lease is to be extended")

		q.add([]unread{{row: Row{ID: 3, Number: 2}}, {row: Row{ID: 1, Number: 2}}}, time.Second)
		time.Sleep(300 * time.Millisecond)
		some, _ = q.nextBatch()
		require.Equal(t, []Row{{ID: 3, Number: 2}}, suspectRows(some), "it need not be weighed again, and it is its turn")
		require.True(t, some[0].slow)
		some, _ = q.nextBatch()
		require.Equal(t, []Row{{ID: 1, Number: 2}}, suspectRows(some))
		some[0].sized, some[0].failed = true, true
		q.requeue(some...)
		time.Sleep(600 * time.Millisecond)
		require.Len(t, q.takeLate(), 1, "it fails again and again, for another reason, and comes back later")

		q.add([]unread{{row: Row{ID: 1, Number: 3}}}, time.Second)
		some, _ = q.nextBatch()
		require.Len(t, some, 1)
		require.False(t, some[0].sized, "there may be time for it now")
	})
}

func TestQuarantine_MeasuresFewerWhenOutOfTime(t *testing.T) {
	t.Parallel()
	q := &suspects{limit: maxSuspects}
	width := func() int {
		q.waiting = make([]suspect, 100)
		q.singleNext = false
		some, _ := q.nextBatch()
		return len(some)
	}
	require.Equal(t, 50, width())
	for _, want := range []int{12, 3, 1, 1} {
		all := width()
		q.recordSizes(all, 0, all-1)
		require.Equal(t, want, width())
	}
	q.recordSizes(1, 0, 1)
	require.Equal(t, 1, width(), "it took too long, by itself")
	for _, want := range []int{2, 4, 8, 16, 32, 50, 50} {
		all := width()
		q.recordSizes(all, all, 0)
		require.Equal(t, want, width())
	}
}

func TestQuarantine_ArchivesCertainSuspectsFirst(t *testing.T) {
	t.Parallel()
	q := &suspects{limit: maxSuspects, working: true}
	q.requeue(suspect{unread: unread{row: Row{ID: 5}}, sized: true}, suspect{unread: unread{row: Row{ID: 6}}, sized: true, slow: true})
	q.add([]unread{{row: Row{ID: 1}}, {row: Row{ID: 2}, cause: errors.New("too large")}, {row: Row{ID: 3}}}, time.Minute)
	var order [][]int64
	for some, _ := q.nextBatch(); len(some) > 0; some, _ = q.nextBatch() {
		var ids []int64
		for _, u := range some {
			ids = append(ids, u.row.ID)
		}
		order = append(order, ids)
	}
	require.Equal(t, [][]int64{{2}, {1, 3}, {5}, {6}}, order)
	require.False(t, q.working)
}

func TestQuarantine_LockedArchiveDelaysNoOtherSuspect(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := &suspects{limit: maxSuspects, working: true}
		q.requeue(suspect{unread: unread{row: Row{ID: 1}, cause: errors.New("too large")}, lease: time.Minute, until: time.Now().Add(time.Minute)})
		q.pauseArchiving(time.Minute)
		_, wait := q.capacity(1)
		require.Equal(t, 5*time.Second, wait)
		q.add([]unread{{row: Row{ID: 2}}}, time.Minute)
		_, wait = q.capacity(1)
		require.Zero(t, wait)
		some, more := q.nextBatch()
		require.Equal(t, []Row{{ID: 2}}, suspectRows(some))
		require.True(t, more)
		some, more = q.nextBatch()
		require.Empty(t, some)
		require.True(t, more, "it waits")
		require.Empty(t, q.takeOverdue())
		time.Sleep(50 * time.Second)
		require.Empty(t, q.takeLate(), "there is no time needed to read it")
		require.Equal(t, []Row{{ID: 1}}, suspectRows(q.takeOverdue()))
		_, more = q.nextBatch()
		require.False(t, more)
	})
}

func TestScreening_NarrowsWhenOutOfTime(t *testing.T) {
	t.Parallel()
	var s screening
	require.Equal(t, 100, s.limitFor(100))
	for _, want := range []int{25, 6, 1, 1} {
		s.recordResult(s.limitFor(100), 0, 1)
		require.Equal(t, want, s.limitFor(100))
	}
	for _, want := range []int{2, 4, 8, 16, 32, 64, 100} {
		s.recordResult(s.limitFor(100), 0, 0)
		require.Equal(t, want, s.limitFor(100))
	}
	s.recordResult(30, 0, 0)
	require.Equal(t, 100, s.limitFor(100), "there were no more")
	s.recordResult(100, 60, 0)
	require.Equal(t, 400, s.limitFor(100))
	s.recordResult(400, 300, 0)
	require.Equal(t, maxScreenBatch, s.limitFor(100))
	s.recordResult(1000, 0, 0)
	require.Equal(t, 100, s.limitFor(100))
}

// Large messages are suspicious, and most are good: they do not have their queue screened for ever.
func TestScreening_LastsForNoMoreThanBadMessages(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s screening
		q := newSuspects()
		s.activate()
		for range 2 {
			for range 6 {
				s.recordResult(10, 3, 0)
				require.True(t, s.active)
				time.Sleep(10 * time.Second)
				q.requeue(suspect{sized: true})
				s.extend(q.lastBad())
			}
			q.requeue(suspect{slow: true})
			s.extend(q.lastBad())
		}
		for range 6 {
			s.recordResult(10, 3, 0)
			require.True(t, s.active)
			time.Sleep(10 * time.Second)
		}
		s.recordResult(10, 3, 0)
		require.False(t, s.active)
	})
}

// The one that a claim has failed for may not be among the first that there is time for.
func TestScreening_LastsUntilWhatItHasFailedForIsMet(t *testing.T) {
	t.Parallel()
	var s screening
	s.activate()
	s.recordResult(10, 0, 5)
	require.True(t, s.active)
	s.recordResult(2, 1, 0)
	require.True(t, s.active)
	require.False(t, s.activeUntil.IsZero())
}

// Parts come in any order, and each has given up what there was no room for in itself.
func TestClaim_KeepsFirstMessagesThatFit(t *testing.T) {
	t.Parallel()
	for seed := range uint64(2000) {
		random := rand.New(rand.NewPCG(seed, 0))
		most := random.Int64N(40) + 1
		var all readResult
		sizes := map[int64]int{}
		kept := map[int64]bool{}
		for _, part := range random.Perm(1 + random.IntN(6)) {
			var partResult readResult
			for i := range random.IntN(8) {
				id := int64(10*part + i)
				sizes[id] = 1 + random.IntN(12)
				if partResult.isSurplus(id) {
					partResult.surplus = append(partResult.surplus, subscription.Token{ID: id})
				} else {
					partResult.add(leaseOf(id, sizes[id]), most)
				}
			}
			all.merge(partResult, most)
		}
		bytes, last := int64(0), int64(-1)
		for _, l := range all.leases {
			kept[l.ID] = true
			bytes, last = bytes+int64(l.Size), max(last, l.ID)
		}
		require.Equal(t, all.bytes, bytes, "seed %d", seed)
		require.True(t, bytes <= most || len(all.leases) == 1, "seed %d: %d bytes of %d", seed, bytes, most)
		require.Len(t, sizes, len(all.leases)+len(all.surplus), "seed %d", seed)
		for _, token := range all.surplus {
			require.False(t, kept[token.ID], "seed %d: %d is kept and given up", seed, token.ID)
			require.Greater(t, token.ID, last, "seed %d: what comes after it is kept", seed)
		}
	}
}

func leaseOf(id int64, size int) subscription.Lease {
	return subscription.Lease{Token: subscription.Token{ID: id}, Size: size}
}
