// Package step2 stores messages until they are acked, and hands over several at a time.
package step2

import (
	"cmp"
	"context"
	"slices"
	"sync"
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
	InFlight int // how many messages a subscription hands over before one must be settled; 100 if zero
}

// Open returns what one process has: a Watermill Publisher and Subscriber.
func (b *Broker) Open(config Config) *Queue {
	config.InFlight = cmp.Or(config.InFlight, 100)
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

// release puts an entry to the place that it was taken from.
func (b *Broker) release(topic string, e *entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.put(topic, e)
}

func (b *Broker) put(topic string, e *entry) {
	i, _ := slices.BinarySearchFunc(b.topics[topic], e, func(x, y *entry) int { return x.place - y.place })
	b.topics[topic] = slices.Insert(b.topics[topic], i, e)
	close(b.changed)
	b.changed = make(chan struct{})
}

// take returns the first entry that waits, or else what is closed when there may be one.
func (b *Broker) take(topic string) (*entry, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, e := range b.topics[topic] {
		b.topics[topic] = slices.Delete(b.topics[topic], i, i+1)
		return e, nil
	}
	return nil, b.changed
}
