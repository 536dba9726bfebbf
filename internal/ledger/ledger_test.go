package ledger_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/internal/ledger"
)

// bubble runs f in virtual time, in which any two things happen at different times if f sleeps.
func bubble(t *testing.T, f func(t *testing.T, l *ledger.Ledger)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { f(t, ledger.New()) })
}

func TestReport_AcceptsStoredAndDelivered(t *testing.T) {
	bubble(t, func(t *testing.T, l *ledger.Ledger) {
		l.Delivered("a", "A") // before its publisher knows
		l.Published("a", ledger.Stored)
		l.Published("b", ledger.Rejected)
		l.Published("c", ledger.Unknown)
		l.Published("d", ledger.Unknown)
		l.Delivered("d", "A")
		r := l.Report()
		require.Empty(t, r.Wrong())
		require.Equal(t, "published: 1 stored, 1 rejected, 2 unknown of which 1 were stored; delivered: 2, lost 0, unexpected 0; 0 duplicates map[]", r.String())
	})
}

func TestReport_NoticesLoss(t *testing.T) {
	bubble(t, func(t *testing.T, l *ledger.Ledger) {
		l.Published("a", ledger.Stored)
		require.Equal(t, "1 messages were stored and never delivered: a", l.Report().Wrong())
	})
}

func TestReport_NoticesUnpublishedMessage(t *testing.T) {
	bubble(t, func(t *testing.T, l *ledger.Ledger) {
		l.Published("a", ledger.Stored)
		l.Delivered("a", "A")
		l.Published("b", ledger.Rejected)
		l.Delivered("b", "A")
		l.Delivered("c", "A")
		require.Equal(t, "2 messages were delivered and never stored: b, c", l.Report().Wrong())
	})
}

func TestReport_NamesCauseOfDuplicate(t *testing.T) {
	again := func(l *ledger.Ledger, consumer string) {
		time.Sleep(time.Second)
		l.Delivered("a", consumer)
	}
	for name, test := range map[string]struct {
		happen func(l *ledger.Ledger)
		cause  string
	}{
		"a nack of the consumer is the cause":                  {func(l *ledger.Ledger) { l.Returned("a", "A", ledger.Nacked) }, "nacked"},
		"a fault between two deliveries is the cause":          {func(l *ledger.Ledger) { l.Begin("reset", "")() }, "reset"},
		"a fault that goes on is the cause":                    {func(l *ledger.Ledger) { l.Begin("reset", "") }, "reset"},
		"the end of the consumer is the cause":                 {func(l *ledger.Ledger) { l.Begin("killed", "A")() }, "killed"},
		"the first of several faults is the cause":             {func(l *ledger.Ledger) { l.Begin("reset", "")(); l.Begin("stopped", "")() }, "reset"},
		"the end of another consumer is no cause":              {func(l *ledger.Ledger) { l.Begin("killed", "B")() }, ""},
		"a nack of another consumer is no cause":               {func(l *ledger.Ledger) { l.Returned("a", "B", ledger.Nacked) }, ""},
		"a fault of some messages is the cause for them":       {func(l *ledger.Ledger) { l.BeginFor("locked", func(id string) bool { return id == "a" })() }, "locked"},
		"a fault that is noticed when it is over is the cause": {func(l *ledger.Ledger) { l.Happened("late", time.Now().Add(-time.Second), time.Now()) }, "late"},
		"a fault of some messages is no cause for others":      {func(l *ledger.Ledger) { l.BeginFor("locked", func(id string) bool { return id == "b" })() }, ""},
		"a fault after the second delivery is no cause":        {func(l *ledger.Ledger) { again(l, "B"); time.Sleep(time.Second); l.Begin("reset", "") }, ""},
		"without a fault the duplicate is unexplained":         {func(*ledger.Ledger) {}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, l *ledger.Ledger) {
				l.Published("a", ledger.Stored)
				l.Begin("before", "")()
				time.Sleep(time.Second)
				l.Delivered("a", "A")
				time.Sleep(time.Second)
				test.happen(l)
				if l.Deliveries() == 1 {
					again(l, "B")
				}
				r := l.Report()
				require.Equal(t, 1, r.Duplicates)
				if test.cause == "" {
					require.Contains(t, r.Wrong(), "1 messages were delivered more than once for no reason: a: A at ")
					return
				}
				require.Empty(t, r.Wrong())
				require.Equal(t, map[string]int{test.cause: 1}, r.Causes)
			})
		})
	}
}

// What was removed before it was published is another message.
func TestReport_ExcusesRemovedMessages(t *testing.T) {
	bubble(t, func(t *testing.T, l *ledger.Ledger) {
		for _, id := range []string{"before", "meanwhile", "delivered", "after", "on its own"} {
			var end func()
			switch id {
			case "meanwhile":
				end = l.Removing()
			case "after":
				time.Sleep(time.Second)
			}
			l.Published(id, ledger.Unknown)
			time.Sleep(time.Second)
			if end != nil {
				end()
			}
			l.Published(id, ledger.Stored)
		}
		l.Delivered("delivered", "A")
		l.Removed("on its own")
		r := l.Report()
		require.Equal(t, []string{"after"}, r.Lost)
		require.Equal(t, 3, r.Removed)
		require.Contains(t, r.String(), "lost 1, unexpected 0, removed by others 3;")
	})
}

func TestReport_NoticesEarlyDelivery(t *testing.T) {
	bubble(t, func(t *testing.T, l *ledger.Ledger) {
		for _, id := range []string{"a", "b"} {
			l.Published(id, ledger.Stored)
			l.Delayed(id, time.Now().Add(time.Second))
		}
		l.Delivered("a", "A")
		time.Sleep(time.Second)
		l.Delivered("b", "A")
		require.Equal(t, "1 messages were delivered before they were due: a", l.Report().Wrong())
	})
}

func TestReport_NoticesMissingDeliveries(t *testing.T) {
	bubble(t, func(t *testing.T, l *ledger.Ledger) {
		l.Published("a", ledger.Stored)
		defer l.Removing()()
		require.Equal(t, "nothing was delivered", l.Report().Wrong())
	})
}

func TestReport_KnowsLongestGap(t *testing.T) {
	bubble(t, func(t *testing.T, l *ledger.Ledger) {
		l.Published("a", ledger.Stored)
		l.Delivered("a", "A")
		time.Sleep(3 * time.Second)
		since := time.Now()
		require.False(t, l.DeliveredSince(since))
		time.Sleep(time.Second)
		l.Delivered("b", "A")
		require.True(t, l.DeliveredSince(since))
		require.Equal(t, 4*time.Second, l.Report().LongestGap)
		require.Equal(t, 1, l.Stored())
	})
}
