// Package step3 promises all that needs no transactions: delays, counts, dead letters, drains, leases and groups.
package step3

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"
)

// Broker stands for the server: what all processes share.
type Broker struct {
	mu      sync.Mutex
	topics  map[string]groups
	last    int
	changed chan struct{} // closed when something may have to be done
}

// groups is what waits in a topic, for each group, in the order of publishing.
type groups map[string][]*entry

// NewBroker returns an empty broker.
func NewBroker() *Broker {
	return &Broker{topics: map[string]groups{}, changed: make(chan struct{})}
}

// Config adjusts a [Queue].
type Config struct {
	Group    string        // whose messages the process shares
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
	if len(b.topics[topic]) == 0 {
		b.join(topic, "") // it waits for a subscription without a group
	}
	for _, e := range entries {
		b.last++
		for group := range b.topics[topic] {
			copied := *e
			copied.place = b.last
			b.put(topic, group, &copied)
		}
	}
}

// join makes a group known, for good: what is published from now on waits for it.
func (b *Broker) join(topic, group string) {
	if b.topics[topic] == nil {
		b.topics[topic] = groups{}
	}
	b.topics[topic][group] = slices.Clone(b.topics[topic][group])
}

func (b *Broker) subscribe(topic, group string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.join(topic, group)
}

// release puts an entry to the place that it was taken from, for later.
func (b *Broker) release(topic, group string, e *entry, delay time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e.visible = time.Now().Add(delay)
	b.put(topic, group, e)
}

func (b *Broker) put(topic, group string, e *entry) {
	waiting := b.topics[topic][group]
	i, _ := slices.BinarySearchFunc(waiting, e, func(x, y *entry) int { return x.place - y.place })
	b.topics[topic][group] = slices.Insert(waiting, i, e)
	close(b.changed)
	b.changed = make(chan struct{})
}

// take returns the first entry that is visible, or else what is closed when there may be
// one, and how long it takes until one becomes visible.
func (b *Broker) take(topic, group string) (*entry, <-chan struct{}, time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	wait := time.Hour
	waiting := b.topics[topic][group]
	for i, e := range waiting {
		if until := time.Until(e.visible); until > 0 {
			wait = min(wait, until)
			continue
		}
		b.topics[topic][group] = slices.Delete(waiting, i, i+1)
		return e, nil, 0
	}
	return nil, b.changed, wait
}
