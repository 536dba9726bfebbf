package ezqtest

import (
	"context"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// lister is a backend that can tell what is stored in it, whichever way it came there.
type lister interface {
	// Messages calls each with every message in the database: the topic that it is on,
	// how often it has been delivered, and how long until it is visible.
	Messages(ctx context.Context, each func(topic string, msg *message.Message, deliveries int, wait time.Duration)) error
}

// lookAround is how often a backend is asked while a message is on its way from there.
const lookAround = 5 * time.Millisecond

// discover takes notice of messages that were not published with the queue of the flow,
// but in a transaction, say. It reports whether one of them is on its way to the router.
func (f *Flow) discover() (underWay bool) {
	f.tb.Helper()
	on, ok := f.queue.Backend.(lister)
	if !ok {
		return false
	}
	err := on.Messages(f.ctx, func(topic string, msg *message.Message, deliveries int, wait time.Duration) {
		underWay = f.queue.discover(topic, msg, deliveries, wait) || underWay
	})
	if err != nil {
		f.tb.Fatal("ezqtest:", err)
	}
	return underWay
}

func (q *queue) discover(topic string, msg *message.Message, deliveries int, wait time.Duration) (underWay bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.known[place{topic, msg.UUID}]:
		return false
	case q.subscribed[topic] && (wait <= 0 || deliveries > 0):
		return true // it is noted when it comes
	}
	q.note(published, topic, msg, "")
	q.wait(topic, msg, time.Now().Add(wait))
	return false
}
