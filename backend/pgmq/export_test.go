package pgmq

import "time"

// LookOnce makes the subscriptions of q look for messages once, and then only
// when they are told.
func (q *Queue) LookOnce() {
	q.subscriber.pollMin = time.Hour
	q.subscriber.config.PollInterval = time.Hour
}
