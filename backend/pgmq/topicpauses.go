package pgmq

import (
	"cmp"
	"context"
	"slices"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/pauses"
	"github.com/ezq-go/ezq/backend/pgmq/internal/wakeup"
)

// topicPauses pauses the consumers of topics, or if there is a group, those of the group.
type topicPauses struct {
	publisher *Publisher
	wakeups   *wakeup.Signals
	table     pauses.Table
	group     string
}

func newTopicPauses(publisher *Publisher, subscriber *Subscriber) *topicPauses {
	return &topicPauses{publisher, subscriber.wakeups, pauses.Table{Pool: publisher.pool, NoCreate: publisher.config.NoCreate}, subscriber.config.Group}
}

// of returns the pauses of another group.
func (t *topicPauses) of(group string) *topicPauses {
	other := *t
	other.group = group
	return &other
}

// consumers returns those that are paused with topic.
func (t *topicPauses) consumers(topic string) (pauses.Consumers, error) {
	if err := cmp.Or(t.publisher.checkOpen(), checkUserTopic(topic)); err != nil {
		return pauses.Consumers{}, err
	}
	queue, err := queueOf(topic, t.group)
	return pauses.Consumers{Topic: topic, Group: t.group, Queue: queue}, err
}

// Pause implements [backend.Pauser].
func (t *topicPauses) Pause(ctx context.Context, topic string, p backend.Pause) (paused backend.Paused, err error) {
	consumers, err := t.consumers(topic)
	if invalid := p.Check(); err == nil && invalid != nil {
		err = &Error{Kind: ErrInvalidConfig, Cause: invalid}
	}
	if err == nil {
		paused, err = t.table.Pause(ctx, consumers, p)
	}
	return paused, t.changed("pause", topic, err)
}

// Resume implements [backend.Pauser].
func (t *topicPauses) Resume(ctx context.Context, topic string) (resumed bool, err error) {
	consumers, err := t.consumers(topic)
	if err == nil {
		resumed, err = t.table.Resume(ctx, consumers.Queue)
	}
	return resumed, t.changed("resume", topic, err)
}

// changed tells the subscriptions of this process that a pause has begun or ended, unless op has failed with err.
func (t *topicPauses) changed(op, topic string, err error) error {
	if err == nil {
		t.wakeups.Signal(wakeup.Pauses)
	}
	return fault.Classify(op, topic, err)
}

// Pauses implements [backend.Pauser].
func (t *topicPauses) Pauses(ctx context.Context, topic string) (all []backend.Paused, err error) {
	consumers, err := t.consumers(topic)
	if err == nil {
		all, err = t.table.List(ctx, topic, pauses.Consumers{Topic: topic, Queue: ownQueue(topic)}, consumers)
	}
	if consumers.Group != "" {
		all = slices.DeleteFunc(all, func(p backend.Paused) bool { return p.Group != "" && p.Group != consumers.Group })
	}
	return all, fault.Classify("list pauses", topic, err)
}

func (t *topicPauses) listAll(ctx context.Context) ([]backend.Paused, error) {
	err := t.publisher.checkOpen()
	var all []backend.Paused
	if err == nil {
		all, err = t.table.ListAll(ctx)
	}
	return all, fault.Classify("list pauses", "", err)
}
