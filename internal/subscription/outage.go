package subscription

import (
	"fmt"
	"sync"
	"time"
)

const (
	// slow is how long the store may take to answer before the consumer is told that
	// nothing is fetched: less than OperationTimeout, after which the call has failed.
	slow = 2 * time.Second

	// logMin and logMax bound the time between two log records about one outage. It
	// doubles with each.
	logMin = time.Second
	logMax = time.Minute
)

// outage is a time in which nothing can be fetched. It tells the consumer and the log
// when one begins and when it is over, and the log now and then while it lasts.
type outage struct {
	config Config
	tell   func(err error) // the consumer; may be nil
	timer  *time.Timer     // fires when a call is slow; nil if the consumer is not told

	mu     sync.Mutex
	asking bool      // a call is under way
	since  time.Time // zero: there is no outage
	quiet  quiet
}

// quiet lets through the first of many log records, and then ever fewer.
type quiet struct {
	next  time.Time // when to log again; zero: nothing has been logged
	pause time.Duration
}

// due reports whether to log, and if so when next.
func (q *quiet) due(now time.Time) bool {
	if now.Before(q.next) {
		return false
	}
	q.pause = min(max(2*q.pause, logMin), logMax)
	q.next = now.Add(q.pause)
	return true
}

func newOutage(config Config, tell func(error)) *outage {
	return &outage{config: config, tell: tell}
}

// ask notes that a call to the store begins.
func (o *outage) ask() {
	if o.tell == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asking = true
	if o.timer == nil {
		o.timer = time.AfterFunc(slow, o.late)
		return
	}
	o.timer.Reset(slow)
}

// answered notes that the call is over, however it went.
func (o *outage) answered() {
	if o.tell == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asking = false
	o.timer.Stop()
}

// late notes that a call takes long.
func (o *outage) late() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.asking {
		o.begin(fmt.Errorf("no answer for %v", slow), time.Now().Add(-slow))
	}
}

func (o *outage) begin(err error, since time.Time) {
	if o.since.IsZero() {
		o.since = since
	}
	if o.tell != nil {
		o.tell(err)
	}
}

// failed notes that nothing could be fetched because of err, and logs that, or not.
func (o *outage) failed(err error, wait time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	o.begin(err, now)
	if !o.quiet.due(now) {
		return
	}
	o.config.Logger.Error("ezq: cannot fetch messages; will try again",
		"topic", o.config.Topic, "retry_in", wait.Round(time.Millisecond).String(), "error", err)
}

// over notes that messages can be fetched.
func (o *outage) over() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.since.IsZero() {
		return
	}
	if o.tell != nil {
		o.tell(nil)
	}
	if !o.quiet.next.IsZero() {
		o.config.Logger.Info("ezq: receiving again",
			"topic", o.config.Topic, "lasted", time.Since(o.since).Round(time.Millisecond).String())
	}
	o.since, o.quiet = time.Time{}, quiet{}
}
