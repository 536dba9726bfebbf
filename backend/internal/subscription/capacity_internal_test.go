package subscription

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCapacity_ToFetch(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		perSecond float64
		messages  int
		waiting   int
		parked    int
		want      int
	}{
		"slots only are fetched while the throughput is unknown":            {want: 10},
		"nothing is fetched while all slots are taken":                      {messages: 10},
		"one is fetched for each parked message":                            {messages: 10, parked: 3, want: 3},
		"slots and what is settled within the window are fetched":           {perSecond: 400, want: 30},
		"slots and maxPrefetch are the most that is fetched":                {perSecond: 1e6, want: 110},
		"nothing is fetched while more than half of the prefetch waits":     {perSecond: 400, messages: 21, waiting: 11},
		"the rest is fetched when half of the prefetch waits":               {perSecond: 400, messages: 20, waiting: 10, want: 10},
		"nothing is fetched while a message waits and there is no prefetch": {messages: 1, waiting: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCapacity(Config{MaxInFlight: 10, MaxPrefetch: 100})
			c.throughput.perSecond, c.parked = test.perSecond, test.parked
			require.Equal(t, test.want, c.toFetch(test.messages, test.waiting, prefetchWindow))
		})
	}
}

func TestCapacity_Fit(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		maxBytes, bytes, largest int64
		want                     int
	}{
		"all messages fit without a bound":                              {bytes: 1 << 40, largest: 1 << 40, want: 10},
		"all messages fit if they have no size":                         {maxBytes: 100, want: 10},
		"all messages fit if there is memory for all":                   {maxBytes: 100, largest: 10, want: 10},
		"as many messages fit as there is memory for":                   {maxBytes: 100, bytes: 50, largest: 10, want: 5},
		"one message fits if it is larger than the memory that is left": {maxBytes: 100, bytes: 99, largest: 10, want: 1},
		"no message fits at the bound":                                  {maxBytes: 100, bytes: 100, largest: 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := capacity{maxBytes: test.maxBytes, bytes: test.bytes, largest: test.largest}
			require.Equal(t, test.want, c.fit(10))
		})
	}
}

func TestCapacity_Window(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ longest, fetchTime, want time.Duration }{
		"the window is 50 ms":                           {longest: time.Second, want: 50 * time.Millisecond},
		"the window is shorter with locks":              {longest: 25 * time.Millisecond, want: 25 * time.Millisecond},
		"the window is three fetches if they take long": {longest: 25 * time.Millisecond, fetchTime: 20 * time.Millisecond, want: 60 * time.Millisecond},
		"the window is a second at most":                {longest: time.Second, fetchTime: time.Hour, want: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := capacity{fetchTime: test.fetchTime}
			require.Equal(t, test.want, c.window(test.longest))
		})
	}
}

func TestCapacity_ObservesLastFetchWithMessages(t *testing.T) {
	t.Parallel()
	c := newCapacity(Config{})
	require.EqualValues(t, unknownSize, c.largest)
	c.observeSizes([]Lease{{Size: 3}, {Size: 7}}, 4*time.Second)
	require.EqualValues(t, 7, c.largest)
	require.Equal(t, time.Second, c.fetchTime)
	c.observeSizes(nil, time.Hour)
	require.EqualValues(t, 7, c.largest)
	require.Equal(t, time.Second, c.fetchTime)
	c.observeSizes([]Lease{{Size: 5}}, time.Second)
	require.EqualValues(t, 5, c.largest)
	require.Equal(t, time.Second, c.fetchTime)
}

func TestCapacity_CountsSlotsAndBytes(t *testing.T) {
	t.Parallel()
	c := newCapacity(Config{MaxInFlight: 1})
	waits, sent, parked := &held{}, &held{phase: sending}, &held{phase: delivered, parked: true}
	for _, l := range []*held{waits, sent, parked} {
		l.Size = 10
		c.add(l)
	}
	c.slots = 2
	c.park(true)
	require.False(t, c.hasSlot())
	require.EqualValues(t, 30, c.bytes)
	c.remove(waits)
	require.Equal(t, []int{1, 1}, []int{c.slots, c.parked})
	c.remove(parked)
	require.Equal(t, []int{1, 0}, []int{c.slots, c.parked})
	c.remove(sent)
	require.True(t, c.hasSlot())
	require.Zero(t, c.bytes)
	c.park(true)
	c.park(false)
	require.Equal(t, []int{0, 0}, []int{c.slots, c.parked})
}

func TestThroughput_IsMovingMean(t *testing.T) {
	t.Parallel()
	start := time.Unix(0, 0)
	var r throughput
	require.Equal(t, time.Second, r.gap(time.Second), "nothing is known")
	require.Zero(t, r.prefetch(time.Second, 100))
	r.settled(5, start)
	r.settled(5, start.Add(prefetchWindow/10-1))
	require.Zero(t, r.perSecond, "too soon to say")
	r.settled(10, start.Add(time.Second))
	require.InDelta(t, 10, r.perSecond, 0.01, "the mean of 0 before and of 20 in a second")
	require.Equal(t, 10, r.prefetch(time.Second, 100))
	require.Equal(t, 7, r.prefetch(time.Second, 7))
	require.Equal(t, 100*time.Millisecond, r.gap(time.Second))
	require.Equal(t, 50*time.Millisecond, r.gap(50*time.Millisecond))
	require.Equal(t, time.Second, r.gap(10*time.Second), "at least a tenth")
}

func TestRestPeriod_FollowsUnreceivedMessages(t *testing.T) {
	t.Parallel()
	const lease = 30 * time.Second
	now := time.Unix(1e9, 0)
	for name, test := range map[string]struct {
		pollMax, received, want time.Duration
	}{
		"the rest is a second if nothing was received during a lease": {received: lease, want: time.Second},
		"the rest is two polls if they take longer":                   {pollMax: time.Minute, received: lease, want: 2 * time.Minute},
		"there is no rest if a message was received":                  {received: lease - 1, want: -1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRestPeriod(Config{Lease: lease, PollMax: test.pollMax})
			r.received(now.Add(-test.received))
			r.notReceived(now)
			if test.want < 0 {
				require.Zero(t, r.until)
				return
			}
			require.Equal(t, now.Add(test.want), r.until)
			r.received(now)
			require.Zero(t, r.until, "a message that is received ends it")
		})
	}
}
