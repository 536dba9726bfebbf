package subscription

import "time"

// prefetchWindow is how long a message may expect to wait between fetch and
// hand-over: long enough for the next fetch to arrive in time, and short enough
// not to keep messages from an idle consumer elsewhere.
const prefetchWindow = 50 * time.Millisecond

// maxWindow bounds it where fetches take long.
const maxWindow = time.Second

// throughput follows how many messages per second are being settled: a moving average.
type throughput struct {
	perSecond float64
	count     int
	since     time.Time
}

// settled counts n messages that were settled at now.
func (t *throughput) settled(n int, now time.Time) {
	t.count += n
	if t.since.IsZero() {
		t.since = now
		return
	}
	elapsed := now.Sub(t.since)
	if elapsed < prefetchWindow/10 {
		return
	}
	current := float64(t.count) / elapsed.Seconds()
	t.perSecond = (t.perSecond + current) / 2
	t.count, t.since = 0, now
}

// gap is how long it takes until the next message comes, at this rate; not more
// than most, and not less than a tenth of it.
func (t *throughput) gap(most time.Duration) time.Duration {
	if t.perSecond <= 0 {
		return most
	}
	return min(max(time.Duration(float64(time.Second)/t.perSecond), most/10), most)
}

// prefetch is how many messages will be settled within window, at most limit.
func (t *throughput) prefetch(window time.Duration, limit int) int {
	return min(int(t.perSecond*window.Seconds()), limit)
}
