package subscription

import "time"

// prefetchWindow is how long a message may expect to wait between claim and
// hand-over: long enough for the next claim to arrive in time, and short enough
// not to keep messages from an idle consumer elsewhere.
const prefetchWindow = 50 * time.Millisecond

// maxWindow bounds it where claims take long.
const maxWindow = time.Second

// rate follows how many messages per second are being settled.
type rate struct {
	perSecond float64
	count     int
	since     time.Time
}

// add counts n messages settled at now.
func (r *rate) add(n int, now time.Time) {
	r.count += n
	if r.since.IsZero() {
		r.since = now
		return
	}
	elapsed := now.Sub(r.since)
	if elapsed < prefetchWindow/10 {
		return
	}
	current := float64(r.count) / elapsed.Seconds()
	r.perSecond = (r.perSecond + current) / 2
	r.count, r.since = 0, now
}

// gap is how long it takes until the next message comes, at this rate; not more
// than most, and not less than a tenth of it.
func (r *rate) gap(most time.Duration) time.Duration {
	if r.perSecond <= 0 {
		return most
	}
	return min(max(time.Duration(float64(time.Second)/r.perSecond), most/10), most)
}

// prefetch is how many messages will be settled within window, at most limit.
func (r *rate) prefetch(window time.Duration, limit int) int {
	return min(int(r.perSecond*window.Seconds()), limit)
}
