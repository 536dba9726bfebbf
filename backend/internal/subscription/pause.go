package subscription

import (
	"context"
	"time"

	"github.com/ezq-go/ezq/backend"
)

// pauser keeps the subscription from fetching and handing over messages while its topic is paused. What
// was handed over goes on; what was not is released.
type pauser struct {
	config   Config
	pausable Pausable // nil: the store cannot be paused
	leases   *leases
	settler  *settler
	paused   *backend.Paused
}

// look takes over whether the topic is paused, and returns a channel that is closed when that has changed.
func (p *pauser) look() (changed <-chan struct{}) {
	paused, changed := p.pausable.Paused()
	switch before := p.paused; {
	case paused != nil && (before == nil || *before != *paused):
		until := "resumed"
		if !paused.Until.IsZero() {
			until = paused.Until.UTC().Format(time.RFC3339)
		}
		p.config.Logger.Info("ezq: the topic is paused; nothing is fetched until it is resumed",
			"topic", p.config.Topic, "by", paused.By, "reason", paused.Reason, "until", until)
	case paused == nil && before != nil:
		p.config.Logger.Info("ezq: the topic is resumed", "topic", p.config.Topic)
	}
	p.paused = paused
	p.leases.setPaused(paused != nil)
	if paused != nil {
		p.settler.releaseWaiting()
	}
	return changed
}

// run looks at every change until ctx ends.
func (p *pauser) run(ctx context.Context, changed <-chan struct{}) {
	for {
		waitFor(ctx, -1, changed)
		if ctx.Err() != nil {
			return
		}
		changed = p.look()
	}
}
