package conformance_test

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/conformance"
)

const brokerLease = 30 * time.Second // that of the memory backend

func everyPromise() conformance.Promises {
	return conformance.Promises{Features: everyFeature(), Durable: true, Groups: true, Transactions: true}
}

// flaw is what a broker does otherwise than it should. A nil field is no flaw.
type flaw struct {
	features    func(*backend.Features)
	config      func(*memory.Config)
	publish     func(p *process, topic string, msgs []*message.Message) error
	subscribe   func(p *process, ctx context.Context, topic string) (<-chan *message.Message, error)
	end         func(*process) error
	join        func(p *process, topic string)
	begin       func(*transaction, *conformance.Tx)
	interposing // what stands between a subscription and its consumer
}

// broker is the memory backend, with groups and transactions of its own, and a flaw.
type broker struct {
	broker *memory.Broker
	flaw   flaw

	mu     sync.Mutex
	groups map[string]map[string]bool // by topic
	marks  map[string]int
	slots  map[string]chan struct{}
	kept   map[string][]byte // payloads, by id
}

// opening returns a factory of brokers with that flaw.
func opening(f flaw) conformance.Open {
	return func(context.Context) (*conformance.System, error) {
		b := &broker{
			broker: memory.New(nil), flaw: f,
			groups: map[string]map[string]bool{}, marks: map[string]int{}, slots: map[string]chan struct{}{},
			kept: map[string][]byte{},
		}
		return &conformance.System{Connect: b.connect, Lease: brokerLease}, nil
	}
}

func (b *broker) connect(o conformance.Options) (*conformance.Peer, error) {
	config := memory.Config{
		MaxInFlight: o.InFlight, MaxExtension: o.Hold, DrainTimeout: o.Drain, Logger: slog.New(slog.DiscardHandler),
	}
	if b.flaw.config != nil {
		b.flaw.config(&config)
	}
	p := &process{broker: b, backend: b.broker.Connect(&config), group: o.Group, closing: make(chan struct{})}
	return &conformance.Peer{Publisher: p, Subscriber: p, Begin: p.begin}, nil
}

// mark counts how often something has happened, this time included.
func (b *broker) mark(what string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.marks[what]++
	return b.marks[what]
}

// marked returns how often something has happened.
func (b *broker) marked(what string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.marks[what]
}

// slot returns a channel with room for one of those that share it.
func (b *broker) slot(of string) chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.slots[of] == nil {
		b.slots[of] = make(chan struct{}, 1)
	}
	return b.slots[of]
}

// enter adds a group to a topic. The group without a name is one, too.
func (b *broker) enter(topic, group string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.groups[topic] == nil {
		b.groups[topic] = map[string]bool{}
	}
	b.groups[topic][group] = true
}

// leave forgets a group.
func (b *broker) leave(group string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, groups := range b.groups {
		delete(groups, group)
	}
}

// queuesOf returns the queues that have the messages of a topic, one for each group.
func (b *broker) queuesOf(topic string) (queues []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for group := range b.groups[topic] {
		queues = append(queues, queueOf(topic, group))
	}
	if len(queues) == 0 {
		queues = []string{topic}
	}
	return queues
}

// topics returns those that somebody has subscribed to.
func (b *broker) topics() (topics []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for topic := range b.groups {
		topics = append(topics, topic)
	}
	return topics
}

func queueOf(topic, group string) string {
	if group == "" {
		return topic
	}
	return topic + "\x01" + group
}

// keep remembers a payload, and returns the one that was kept for the id before.
func (b *broker) keep(id string, payload []byte) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := b.kept[id]
	b.kept[id] = payload
	return before
}

// stall waits, in the virtual time of the cases.
func stall(d time.Duration) { <-time.After(d) }
