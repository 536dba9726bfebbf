package subscription

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func newTestLease(id int64) *held { return &held{Lease: Lease{Token: Token{ID: id, Number: 1}}} }

func TestTable_HandsOutOldestMessageFirst(t *testing.T) {
	t.Parallel()
	table := newTable()
	first, second, third := newTestLease(3), newTestLease(1), newTestLease(2)
	for _, l := range []*held{first, second, third} {
		table.insert(l)
	}
	require.Same(t, first, table.next())
	require.Equal(t, sending, first.phase)
	table.putBack(first)
	require.Equal(t, waiting, first.phase)
	require.Same(t, first, table.next())
	table.remove(second)
	require.Same(t, third, table.next())
	require.Nil(t, table.next())
	require.Equal(t, 2, table.len())
}

func TestTable_FindsLeaseByLatestToken(t *testing.T) {
	t.Parallel()
	table := newTable()
	old, latest := newTestLease(1), newTestLease(1)
	latest.Number = 2
	table.insert(old)
	require.Same(t, old, table.find(old.Token))
	table.remove(old)
	table.insert(latest)
	require.Nil(t, table.find(old.Token))
	require.Same(t, latest, table.find(latest.Token))
	require.False(t, table.contains(old))
	require.True(t, table.contains(latest))
	require.Nil(t, table.find(Token{ID: 2}))
	require.Equal(t, []*held{latest}, slices.Collect(table.all()))
}

func TestRefusedAcks_CountUntilStored(t *testing.T) {
	t.Parallel()
	owner := newLeases(t.Context(), Config{})
	refuse := func(r *refusedAcks, id int64, phase phase) bool {
		return r.add(newRefusedAck(owner, Token{ID: id}, phase, time.Unix(0, 0)))
	}
	settled := func(ids ...int64) (batch []Settlement) {
		for _, id := range ids {
			batch = append(batch, Settlement{Token: Token{ID: id}})
		}
		return batch
	}

	t.Run("an ack is new in each phase once", func(t *testing.T) {
		r := newRefusedAcks()
		require.True(t, refuse(&r, 1, ackSuspected))
		require.False(t, refuse(&r, 1, ackSuspected))
		require.Zero(t, r.count())
		require.True(t, refuse(&r, 1, ackRefused))
		require.False(t, refuse(&r, 1, ackSuspected))
		require.Equal(t, 1, r.count())
		require.Equal(t, 1, r.len())
	})
	t.Run("a refused ack that is stored makes the others suspected", func(t *testing.T) {
		r := newRefusedAcks()
		refuse(&r, 1, ackRefused)
		refuse(&r, 2, ackRefused)
		refuse(&r, 3, ackSuspected)
		r.stored(settled(3, 4))
		require.Equal(t, 2, r.count(), "a suspected one says nothing about them")
		r.stored(settled(1))
		require.Zero(t, r.count())
		require.Equal(t, 1, r.len())
	})
	t.Run("a hundred refused acks are too many", func(t *testing.T) {
		r := newRefusedAcks()
		r.cause = errors.New("the reason")
		for id := range int64(maxRefused - 1) {
			refuse(&r, id, ackRefused)
		}
		require.False(t, r.many())
		require.NoError(t, r.tooMany())
		refuse(&r, maxRefused, ackRefused)
		require.True(t, r.many())
		require.ErrorIs(t, r.tooMany(), r.cause)
		require.EqualError(t, r.tooMany(), "the acks of 100 messages are refused, and have to be stored first: the reason")
	})
	t.Run("a batch and a hundred suspected acks are too many", func(t *testing.T) {
		r := newRefusedAcks()
		for id := range int64(maxRefused + settleBatch - 1) {
			refuse(&r, id, ackSuspected)
		}
		require.NoError(t, r.tooMany())
		refuse(&r, maxRefused+settleBatch, ackSuspected)
		require.Error(t, r.tooMany())
		require.False(t, r.many())
	})
}

func TestLease_CheckAt(t *testing.T) {
	t.Parallel()
	owner := newLeases(t.Context(), Config{Lease: 30 * time.Second, MaxExtension: time.Minute})
	start := time.Unix(1e9, 0)
	for name, test := range map[string]struct {
		phase  phase
		locked bool
		extend time.Duration // after start
		want   time.Duration
	}{
		"a lease is checked when it is to be extended":                 {phase: delivered, extend: 10 * time.Second, want: 10 * time.Second},
		"a lease is checked when its message has waited for a lease":   {phase: waiting, extend: 40 * time.Second, want: 30 * time.Second},
		"a lease is checked when it has been handled for MaxExtension": {phase: delivered, extend: 70 * time.Second, want: time.Minute},
		"a lease that is being sent is checked when it runs out":       {phase: sending, extend: 70 * time.Second, want: 50 * time.Second},
		"a locked lease is checked when it runs out":                   {phase: delivered, locked: true, extend: 10 * time.Second, want: 50 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := &held{owner: owner, phase: test.phase, since: start, extendAt: start.Add(test.extend), expiresAt: start.Add(50 * time.Second)}
			if test.locked {
				l.batch = newTestBatch()
			}
			require.Equal(t, test.want, l.checkAt().Sub(start))
		})
	}
}

func TestLease_RetryExtension(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	for name, test := range map[string]struct{ lease, left, want time.Duration }{
		"an extension is repeated after a second":                        {lease: time.Minute, left: time.Minute, want: time.Second},
		"an extension of a short lease is repeated after a tenth of it":  {lease: time.Second, left: time.Second, want: 100 * time.Millisecond},
		"an extension is repeated at the latest when the lease runs out": {lease: time.Minute, left: time.Millisecond, want: time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := &held{owner: newLeases(t.Context(), Config{Lease: test.lease}), expiresAt: now.Add(test.left)}
			l.retryExtension(now, time.Second)
			require.Equal(t, test.want, l.extendAt.Sub(now))
		})
	}
}
