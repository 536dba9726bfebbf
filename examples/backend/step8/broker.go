// Package step8 takes a message away from a handler that keeps it for too long.
package step8

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/ezq-go/ezq/backend"
)

// Broker stands for the server: what all processes share.
type Broker struct {
	mu      sync.Mutex
	topics  map[string][]*entry // what waits, in the order of publishing
	last    int
	changed chan struct{} // closed when something may have to be done
}

// entry is a message as it is stored.
type entry struct {
	place    int
	visible  time.Time // not before
	stored   time.Time
	number   int // of the last delivery
	record   backend.Redelivery
	id       string
	payload  []byte
	metadata map[string]string
}

// NewBroker returns an empty broker.
func NewBroker() *Broker {
	return &Broker{topics: map[string][]*entry{}, changed: make(chan struct{})}
}

// Config adjusts a [Queue].
type Config struct {
	InFlight int           // how many messages a subscription hands over before one must be settled; 100 if zero
	Hold     time.Duration // how long a handler may keep a message; an hour if zero
}

// Open returns what one process has: a Watermill Publisher and Subscriber.
func (b *Broker) Open(config Config) *Queue {
	config.InFlight = cmp.Or(config.InFlight, 100)
	config.Hold = cmp.Or(config.Hold, time.Hour)
	ctx, end := context.WithCancel(context.Background())
	return &Queue{broker: b, config: config, ctx: ctx, end: end}
}

func (b *Broker) publish(topic string, entries []*entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range entries {
		b.last++
		e.place = b.last
		b.put(topic, e)
	}
}

// release puts an entry to the place that it was taken from, for later.
func (b *Broker) release(topic string, e *entry, delay time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e.visible = time.Now().Add(delay)
	b.put(topic, e)
}

func (b *Broker) put(topic string, e *entry) {
	i, _ := slices.BinarySearchFunc(b.topics[topic], e, func(x, y *entry) int { return x.place - y.place })
	b.topics[topic] = slices.Insert(b.topics[topic], i, e)
	close(b.changed)
	b.changed = make(chan struct{})
}

// take returns the first entry that is visible, or else what is closed when there may be
// one, and how long it takes until one becomes visible.
func (b *Broker) take(topic string) (*entry, <-chan struct{}, time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	wait := time.Hour
	for i, e := range b.topics[topic] {
		if until := time.Until(e.visible); until > 0 {
			wait = min(wait, until)
			continue
		}
		b.topics[topic] = slices.Delete(b.topics[topic], i, i+1)
		return e, nil, 0
	}
	return nil, b.changed, wait
}
