package memory

import (
	"context"

	"github.com/ezq-go/ezq/backend"
)

// groupPauser pauses for a [Broker] what another one pauses, which has another Group, until the former is closed.
type groupPauser struct{ owner, of *Broker }

// Pause implements [backend.Pauser].
func (p groupPauser) Pause(ctx context.Context, topic string, pause backend.Pause) (backend.Paused, error) {
	if err := p.owner.checkOpen(); err != nil {
		return backend.Paused{}, err
	}
	return p.of.Pause(ctx, topic, pause)
}

// Resume implements [backend.Pauser].
func (p groupPauser) Resume(ctx context.Context, topic string) (resumed bool, err error) {
	if err := p.owner.checkOpen(); err != nil {
		return false, err
	}
	return p.of.Resume(ctx, topic)
}

// Pauses implements [backend.Pauser].
func (p groupPauser) Pauses(ctx context.Context, topic string) ([]backend.Paused, error) {
	if err := p.owner.checkOpen(); err != nil {
		return nil, err
	}
	return p.of.Pauses(ctx, topic)
}
