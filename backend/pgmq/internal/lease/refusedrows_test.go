package lease

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRefusedRows_AreLookedForSoonOnlyWhileSearchesGetAlong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var r refusedRows
		search := func(progress int) time.Duration {
			r.noteFutile([]refusal{{id: 1}})
			r.goOn([]refusal{{id: 1, doubtful: true, slow: true}}, progress)
			pause := time.Until(r.nextSearch)
			time.Sleep(pause)
			return pause
		}
		for range 20 {
			require.Equal(t, time.Second, search(firstTrials))
		}
		require.Equal(t, 20*time.Second, search(firstTrials-1))
		require.Equal(t, 40*time.Second, search(2))
		require.Equal(t, time.Minute, search(0))
		require.Equal(t, []refusal{{id: 1, doubtful: true}}, r.unsure, "it is tried once more: the server may have been slow")
	})
}

// The server was in trouble, and is not any more.
func TestRefusedRows_OfSearchesBeforeAClaimAreForgotten(t *testing.T) {
	t.Parallel()
	var r refusedRows
	r.goOn([]refusal{{id: 1}}, firstTrials)
	r.claimed()
	require.Empty(t, r.unsure)
	require.Zero(t, r.nextSearch)
}
