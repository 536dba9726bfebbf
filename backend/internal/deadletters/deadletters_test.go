package deadletters_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/internal/deadletters"
)

// Not parallel: the heap is that of all tests.
//
//nolint:paralleltest // see above
func TestCounts_OfForgedTextsTakeBoundedMemory(t *testing.T) {
	const letters = 8_000
	long := func(i int) string { return strings.Repeat("x", 4000) + fmt.Sprint(i%2) }
	counts, before := deadletters.NewCounts(), heap()
	usual := backend.FoundDeadLetter{Topic: "orders", Handler: "charge", Reason: "no"}
	for i := range letters {
		counts.Add(backend.FoundDeadLetter{Topic: "orders", Handler: fmt.Sprint(i), Group: long(i), Event: long(i), Reason: "é" + long(i)}, time.Unix(int64(i), 0))
		counts.Add(usual, time.Unix(int64(i), 0))
	}
	took := int64(heap()) - int64(before)
	t.Logf("%d kB", took>>10)
	require.Less(t, took, int64(48<<20))

	most := counts.Most(1)
	require.Len(t, most, 2)
	require.Equal(t, backend.DeadLetterCount{Topic: "orders", Handler: "charge", Reason: "no", Letters: letters, Newest: time.Unix(letters-1, 0), Oldest: time.Unix(0, 0)}, most[0])
	require.Equal(t, backend.DeadLetterCount{Rest: true, Letters: letters, Newest: time.Unix(letters-1, 0), Oldest: time.Unix(0, 0)}, most[1])

	sum := 0
	all := counts.Most(letters)
	for _, one := range all {
		sum += one.Letters
	}
	require.Equal(t, 2*letters, sum)
	require.True(t, all[len(all)-1].Rest)
	require.Less(t, len(all), letters/2)
}

func TestCounts_OfLongReasonSelectsIt(t *testing.T) {
	t.Parallel()
	for _, reason := range []string{
		strings.Repeat("1b4e28ba-2fa1-11d2-883f-0016d3cca427 ", 100), strings.Repeat("7", 3000), strings.Repeat("é", 3000), strings.Repeat("a7 é", 1000), "order 7: " + strings.Repeat("f", 2000),
	} {
		counts := deadletters.NewCounts()
		counts.Add(backend.FoundDeadLetter{Reason: reason}, time.Unix(0, 0))
		told := counts.Most(1)[0].Reason
		require.LessOrEqual(t, len(told), 200)
		require.True(t, utf8.ValidString(told))
		require.Regexp(t, "^"+deadletters.Expression(told), reason)
	}
}

func TestCounts_OfUsualTextsAreApart(t *testing.T) {
	t.Parallel()
	const kinds = 50_000
	counts := deadletters.NewCounts()
	for i := range kinds {
		counts.Add(backend.FoundDeadLetter{Topic: "orders", Handler: "charge", Event: "OrderPaid", Group: fmt.Sprint(i), Reason: "the card was declined"}, time.Unix(0, 0))
	}
	all := counts.Most(kinds)
	require.Len(t, all, kinds)
	require.False(t, all[kinds-1].Rest)
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}
