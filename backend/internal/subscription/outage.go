package subscription

import (
	"fmt"
	"sync"
	"time"
)

// slowCall is how long the store may take to answer before the consumer is told that
// nothing is fetched: less than OperationTimeout, after which the call has failed.
const slowCall = 2 * time.Second

// outage is a time in which nothing can be fetched. It tells the consumer and the log
// when one begins and when it has ended, and the log now and then while it lasts.
type outage struct {
	config Config
	health func(err error) // of the consumer; may be nil
	timer  *time.Timer     // fires when a call is slow; nil if the consumer is not told

	mu      sync.Mutex
	calling bool      // a call is under way
	since   time.Time // zero: there is no outage
	logged  bool      // the log tells of it
	last    time.Time // when the last one ended
	log     logThrottle
}

func newOutage(config Config, health func(error)) *outage {
	return &outage{config: config, health: health}
}

// callBegins records that a call to the store begins.
func (o *outage) callBegins() {
	if o.health == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.calling = true
	if o.timer == nil {
		o.timer = time.AfterFunc(slowCall, o.callIsSlow)
		return
	}
	o.timer.Reset(slowCall)
}

// callEnds records that the call has returned, with an error or without.
func (o *outage) callEnds() {
	if o.health == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.calling = false
	o.timer.Stop()
}

// callIsSlow begins an outage, unless the call has returned.
func (o *outage) callIsSlow() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.calling {
		o.begin(fmt.Errorf("no answer for %v", slowCall), time.Now().Add(-slowCall))
	}
}

func (o *outage) begin(err error, since time.Time) {
	if o.since.IsZero() {
		o.since = since
		if since.Sub(o.last) > logMax { // else it is logged as if the last one went on
			o.log = logThrottle{}
		}
	}
	if o.health != nil {
		o.health(err)
	}
}

// failed records that nothing could be fetched because of err, and logs that, or not.
func (o *outage) failed(err error, wait time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	o.begin(err, now)
	if !o.log.allows(now) {
		return
	}
	o.logged = true
	o.config.Logger.Error("ezq: cannot fetch messages; will try again",
		"topic", o.config.Topic, "retry_in", wait.Round(time.Millisecond).String(), "error", err)
}

// final records that nothing will be fetched any more, because of err.
func (o *outage) final(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.begin(err, time.Now())
}

// ended records that messages can be fetched.
func (o *outage) ended() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.since.IsZero() {
		return
	}
	if o.health != nil {
		o.health(nil)
	}
	if o.logged {
		o.config.Logger.Info("ezq: receiving again",
			"topic", o.config.Topic, "lasted", time.Since(o.since).Round(time.Millisecond).String())
	}
	o.since, o.logged, o.last = time.Time{}, false, time.Now()
}
