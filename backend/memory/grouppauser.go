package memory

import (
	"cmp"
	"context"
	"fmt"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/internal/excerpt"
)

// groupPauser pauses the consumers of a group, or without one, all consumers of a topic.
type groupPauser struct {
	broker *Broker
	group  string
}

func (p groupPauser) check(topic string) error {
	return cmp.Or(p.broker.checkTopic(topic), Config{Group: p.group}.validate())
}

// Pause implements [backend.Pauser].
func (p groupPauser) Pause(_ context.Context, topic string, pause backend.Pause) (backend.Paused, error) {
	if err := p.check(topic); err != nil {
		return backend.Paused{}, err
	}
	if err := pause.Check(); err != nil {
		return backend.Paused{}, fmt.Errorf("memory: pause %q: %w", excerpt.Of(topic), err)
	}
	return p.broker.topics.get(topic, p.group).pauseFor(pause), nil
}

// Resume implements [backend.Pauser].
func (p groupPauser) Resume(_ context.Context, topic string) (resumed bool, err error) {
	if err := p.check(topic); err != nil {
		return false, err
	}
	return p.broker.topics.get(topic, p.group).resume(nil), nil
}

// Pauses implements [backend.Pauser].
func (p groupPauser) Pauses(_ context.Context, topic string) ([]backend.Paused, error) {
	if err := p.check(topic); err != nil {
		return nil, err
	}
	return p.broker.topics.pauses(topic, p.group), nil
}
