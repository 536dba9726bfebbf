package subscription

import "time"

// restPeriod is a time in which a subscription fetches nothing, so that other consumers go
// first: nothing of it has been received for so long, and it would be the first to claim
// what it releases. It has no mutex: that of its [leases] guards it.
type restPeriod struct {
	lease    time.Duration
	duration time.Duration

	lastReceived time.Time // when the consumer last received a message
	until        time.Time
}

func newRestPeriod(config Config) restPeriod {
	return restPeriod{lease: config.Lease, duration: max(restMin, 2*config.PollMax)}
}

// received ends the rest.
func (r *restPeriod) received(now time.Time) { r.lastReceived, r.until = now, time.Time{} }

// notReceived begins a rest, unless another message was received during the last lease.
func (r *restPeriod) notReceived(now time.Time) {
	if now.Sub(r.lastReceived) >= r.lease {
		r.until = now.Add(r.duration)
	}
}
