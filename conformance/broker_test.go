package conformance_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/conformance"
)

const brokerLease = 30 * time.Second // that of the memory backend

func everyPromise() conformance.Promises {
	return conformance.Promises{Features: everyFeature(), Durable: true, Groups: true, Patterns: true, Transactions: true, Selection: true, Pauses: true, DeadLetterStore: true, Inspection: true, GroupPauses: true}
}

// fault is what a broker does otherwise than it should. A nil field is no fault.
type fault struct {
	features     func(*backend.Features)
	hidden       bool // the publisher's methods beside those of a backend
	config       func(*memory.Config)
	publish      func(p *process, topic string, msgs []*message.Message) error
	subscribe    func(p *process, ctx context.Context, topic string) (<-chan *message.Message, error)
	end          func(*process) error
	join         func(p *process, topic string)
	ownGroups    bool                             // groups, and patterns, are those of the broker here, which can be broken, and not those of memory
	matches      func(pattern, topic string) bool // instead of backend.MatchesPattern
	lenient      bool                             // no pattern is refused
	begin        func(*transaction, *conformance.Tx)
	schedules    func(*process) backend.Schedules
	pausing      // how topics are paused
	inspecting   // what is told of queues
	letterStore  // what becomes of dead letters
	selection    // what becomes of messages that are stored
	interception // what stands between a subscription and its consumer
}

// broker is the memory backend, with transactions of its own, and a fault; where that is one of groups or patterns, with
// groups of its own.
type broker struct {
	memory *memory.Broker
	fault  fault

	mu       sync.Mutex
	groups   map[string]map[string]bool // those that have subscribed, by topic
	counts   map[string]int
	slots    map[string]chan struct{}
	payloads map[string][]byte // payloads, by id
}

// openFaulty returns a factory of brokers with that fault.
func openFaulty(f fault) conformance.Open {
	return func(context.Context) (*conformance.System, error) {
		b := &broker{
			memory: memory.New(nil), fault: f,
			groups: map[string]map[string]bool{}, counts: map[string]int{}, slots: map[string]chan struct{}{},
			payloads: map[string][]byte{},
		}
		return &conformance.System{Connect: b.connect, Lease: brokerLease}, nil
	}
}

func (b *broker) connect(c conformance.PeerConfig) (*conformance.Peer, error) {
	config := memory.Config{
		MaxInFlight: c.MaxInFlight, MaxExtension: c.MaxExtension, DrainTimeout: c.DrainTimeout, Logger: slog.New(slog.DiscardHandler),
	}
	if !b.fault.ownGroups {
		config.Group = c.Group
	}
	if b.fault.config != nil {
		b.fault.config(&config)
	}
	p := &process{broker: b, backend: b.memory.Connect(&config), group: c.Group, closing: make(chan struct{})}
	peer := &conformance.Peer{Publisher: p, Subscriber: p, Begin: p.begin}
	if b.fault.hidden {
		peer.Publisher = struct{ backend.Backend }{p}
	}
	return peer, nil
}

// increment counts how often something has happened, this time included.
func (b *broker) increment(what string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.counts[what]++
	return b.counts[what]
}

// count returns how often something has happened.
func (b *broker) count(what string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.counts[what]
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

// addGroup adds a group to a topic. The group without a name is one, too.
func (b *broker) addGroup(topic, group string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.groups[topic] == nil {
		b.groups[topic] = map[string]bool{}
	}
	b.groups[topic][group] = true
}

// removeGroup forgets a group.
func (b *broker) removeGroup(group string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, groups := range b.groups {
		delete(groups, group)
	}
}

// queuesOf returns the queues that have the messages of a topic, one for each group, where the broker has groups of its own.
func (b *broker) queuesOf(topic string) (queues []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for subscribed, groups := range b.groups {
		if subscribed == topic || backend.IsPattern(subscribed) && b.matchesPattern(subscribed, topic) {
			for group := range groups {
				queues = append(queues, queueOf(subscribed, group))
			}
		}
	}
	if len(queues) == 0 {
		queues = []string{topic}
	}
	return queues
}

func (b *broker) matchesPattern(pattern, topic string) bool {
	if f := b.fault.matches; f != nil {
		return f(pattern, topic)
	}
	return backend.MatchesPattern(pattern, topic)
}

// topics returns those that have had a subscriber.
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
	if backend.IsPattern(topic) {
		topic = strings.NewReplacer("*", star, "#", hash).Replace(topic)
	}
	return topic + groupMark + group
}

// In the name of a queue, groupMark is between a topic and a group, and star and hash are what a pattern has, which is
// no topic.
const (
	groupMark = "\x01"
	star      = "\x02"
	hash      = "\x03"
)

// subscribedOf returns the topic, or the pattern, whose messages a queue has.
func subscribedOf(queue string) string {
	topic, _, _ := strings.Cut(queue, groupMark)
	return strings.NewReplacer(star, "*", hash, "#").Replace(topic)
}

// swapPayload remembers a payload, and returns the one that was kept for the id before.
func (b *broker) swapPayload(id string, payload []byte) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := b.payloads[id]
	b.payloads[id] = payload
	return before
}

// stall waits, in the virtual time of the cases.
func stall(d time.Duration) { <-time.After(d) }
