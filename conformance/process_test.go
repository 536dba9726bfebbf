package conformance_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/conformance"
)

// process is what one process has of a broker: a backend with an end of its own.
type process struct {
	*broker
	backend *memory.Broker
	group   string

	closing chan struct{} // closed by the first Close
	once    sync.Once

	starting sync.Mutex
	relays   []*relay
}

var _ backend.Backend = (*process)(nil)

func (p *process) Features() backend.Features {
	features := p.backend.Features()
	if f := p.fault.features; f != nil {
		f(&features)
	}
	return features
}

func (p *process) Publish(topic string, msgs ...*message.Message) error {
	if f := p.fault.publish; f != nil {
		return f(p, topic, msgs)
	}
	if err := backend.CheckPublishTopic(topic); err != nil && !p.fault.lenient {
		return err
	}
	return p.store(topic, msgs...)
}

func (p *process) Find(ctx context.Context, topic string, s backend.Selection) ([]backend.Found, error) {
	if f := p.fault.find; f != nil {
		return f(p, topic, s)
	}
	return p.backend.Find(ctx, topic, s)
}

func (p *process) Cancel(ctx context.Context, topic string, s backend.Selection) (backend.Cancelled, error) {
	if f := p.fault.cancel; f != nil {
		return f(p, topic, s)
	}
	return p.backend.Cancel(ctx, topic, s)
}

func (p *process) CancelRunning(ctx context.Context, topic string, s backend.Selection) (backend.Cancelled, error) {
	if f := p.fault.cancelRunning; f != nil {
		return f(p, topic, s)
	}
	return p.backend.CancelRunning(ctx, topic, s)
}

func (p *process) Reschedule(ctx context.Context, topic string, s backend.Selection, at time.Time) (backend.Rescheduled, error) {
	if f := p.fault.reschedule; f != nil {
		return f(p, topic, s, at)
	}
	return p.backend.Reschedule(ctx, topic, s, at)
}

func (p *process) Schedules() backend.Schedules {
	if f := p.fault.schedules; f != nil {
		return f(p)
	}
	return p.backend.Schedules()
}

func (p *process) Pause(ctx context.Context, topic string, wanted backend.Pause) (backend.Paused, error) {
	if f := p.fault.pause; f != nil {
		return f(p, topic, wanted)
	}
	return p.backend.Pause(ctx, topic, wanted)
}

func (p *process) Resume(ctx context.Context, topic string) (bool, error) {
	if f := p.fault.resume; f != nil {
		return f(p, topic)
	}
	return p.backend.Resume(ctx, topic)
}

func (p *process) Pauses(ctx context.Context, topic string) ([]backend.Paused, error) {
	if f := p.fault.pauses; f != nil {
		return f(p, topic)
	}
	return p.backend.Pauses(ctx, topic)
}

func (p *process) PauserOf(group string) backend.Pauser {
	if f := p.fault.pauserOf; f != nil {
		return f(p, group)
	}
	return p.backend.PauserOf(group)
}

func (p *process) DeadLetters(ctx context.Context, from string, s backend.DeadLetterSelection) ([]backend.FoundDeadLetter, error) {
	if f := p.fault.list; f != nil {
		return f(p, from, s)
	}
	return p.backend.DeadLetters(ctx, from, s)
}

func (p *process) CountDeadLetters(ctx context.Context, from string, s backend.DeadLetterSelection) ([]backend.DeadLetterCount, error) {
	if f := p.fault.count; f != nil {
		return f(p, from, s)
	}
	return p.backend.CountDeadLetters(ctx, from, s)
}

func (p *process) Redrive(ctx context.Context, from string, s backend.DeadLetterSelection) (backend.Redriven, error) {
	if f := p.fault.redrive; f != nil {
		return f(p, from, s)
	}
	return p.backend.Redrive(ctx, from, s)
}

func (p *process) PurgeDeadLetters(ctx context.Context, from string, s backend.DeadLetterSelection) (backend.Purged, error) {
	if f := p.fault.purge; f != nil {
		return f(p, from, s)
	}
	return p.backend.PurgeDeadLetters(ctx, from, s)
}

func (p *process) EditDeadLetter(ctx context.Context, from string, e backend.DeadLetterEdit) error {
	if f := p.fault.edit; f != nil {
		return f(p, from, e)
	}
	return p.backend.EditDeadLetter(ctx, from, e)
}

func (p *process) QueueStates(ctx context.Context) ([]backend.QueueState, error) {
	if f := p.fault.states; f != nil {
		return f(p)
	}
	return p.backend.QueueStates(ctx)
}

func (p *process) Bindings(ctx context.Context) ([]backend.Binding, error) {
	if f := p.fault.bindings; f != nil {
		return f(p)
	}
	return p.backend.Bindings(ctx)
}

func (p *process) AllPauses(ctx context.Context) ([]backend.Paused, error) {
	if f := p.fault.allPauses; f != nil {
		return f(p)
	}
	return p.backend.AllPauses(ctx)
}

func (p *process) Peek(ctx context.Context, topic string, chosen backend.Peek) ([]backend.Peeked, error) {
	if f := p.fault.peek; f != nil {
		return f(p, topic, chosen)
	}
	return p.backend.Peek(ctx, topic, chosen)
}

// store is Publish without a fault.
func (p *process) store(topic string, msgs ...*message.Message) error {
	if !p.fault.ownGroups {
		return p.backend.Publish(topic, msgs...)
	}
	for _, queue := range p.queuesOf(topic) {
		if err := p.backend.Publish(queue, p.copiesFor(queue, topic, msgs)...); err != nil {
			return err
		}
	}
	return nil
}

// queue returns the topic of the memory backend that has the messages of a topic for this process.
func (p *process) queue(topic string) string {
	if p.fault.ownGroups {
		return queueOf(topic, p.group)
	}
	return topic
}

// topicHeader is the metadata in which a message that comes by a pattern says its topic.
const topicHeader = "conformance_topic"

// copiesFor returns what a queue gets of messages that are published to topic.
func (p *process) copiesFor(queue, topic string, msgs []*message.Message) []*message.Message {
	if !backend.IsPattern(subscribedOf(queue)) {
		return msgs
	}
	copies := make([]*message.Message, len(msgs))
	for i, msg := range msgs {
		copies[i] = msg.Copy()
		copies[i].SetContext(msg.Context())
		copies[i].Metadata.Set(topicHeader, topic)
	}
	return copies
}

// checkSubscribed returns an error if consumers cannot subscribe to topic.
func (p *process) checkSubscribed(topic string) error {
	switch {
	case p.fault.lenient:
	case p.group == "" && backend.IsPattern(topic):
		return errNoGroup
	case p.group != "" && strings.ContainsAny(topic, "*#"):
		return backend.CheckPattern(topic)
	}
	return nil
}

var errNoGroup = errors.New("a pattern needs a group")

func (p *process) SubscribeInitialize(topic string) error {
	if err := p.checkSubscribed(topic); err != nil {
		return err
	}
	if f := p.fault.join; f != nil {
		f(p, topic)
	} else {
		p.addGroup(topic, p.group)
	}
	return p.backend.SubscribeInitialize(p.queue(topic))
}

func (p *process) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	if f := p.fault.subscribe; f != nil {
		return f(p, ctx, topic)
	}
	return p.start(ctx, topic)
}

// start is Subscribe without a fault.
func (p *process) start(ctx context.Context, topic string) (<-chan *message.Message, error) {
	p.starting.Lock()
	defer p.starting.Unlock()
	messages, err := p.backend.Subscribe(ctx, p.queue(topic))
	if err != nil || p.fault.isEmpty() && (!p.fault.ownGroups || !backend.IsPattern(topic)) {
		return messages, err
	}
	r := newRelay(ctx, p, topic, messages)
	p.relays = append(p.relays, r)
	go r.run()
	return r.out, nil
}

func (p *process) Close() error {
	if f := p.fault.end; f != nil {
		return f(p)
	}
	return p.stop()
}

// stop is Close without a fault.
func (p *process) stop() error {
	p.once.Do(func() { close(p.closing) })
	err := p.backend.Close()
	p.starting.Lock()
	defer p.starting.Unlock()
	for _, r := range p.relays {
		<-r.ended
	}
	return err
}

// transaction is what was published in one, until it is committed.
type transaction struct {
	*process
	writes []write
}

type write struct {
	topic string
	msgs  []*message.Message
}

func (p *process) begin(context.Context) (*conformance.Tx, error) {
	t := &transaction{process: p}
	tx := &conformance.Tx{Publisher: t, Commit: t.commit, Rollback: t.rollBack}
	if f := p.fault.begin; f != nil {
		f(t, tx)
	}
	return tx, nil
}

func (t *transaction) Publish(topic string, msgs ...*message.Message) error {
	t.writes = append(t.writes, write{topic: topic, msgs: msgs})
	return nil
}

func (t *transaction) commit() (err error) {
	for _, w := range t.writes {
		err = errors.Join(err, t.process.Publish(w.topic, w.msgs...))
	}
	return err
}

func (t *transaction) rollBack() error {
	t.writes = nil
	return nil
}

func (t *transaction) Close() error { return nil }

// publisherFunc is a publisher that is a function.
type publisherFunc func(topic string, msgs ...*message.Message) error

func (f publisherFunc) Publish(topic string, msgs ...*message.Message) error {
	return f(topic, msgs...)
}

func (f publisherFunc) Close() error { return nil }
