package subscription

import (
	"context"
	"time"

	"github.com/ezq-go/ezq/backend"
)

// pauseWatcher keeps the subscription from fetching and handing over messages while its topic is paused. What
// was handed over goes on; what was not is released.
type pauseWatcher struct {
	config   Config
	pausable Pausable // nil: the store cannot be paused
	leases   *leases
	settler  *settler
	paused   *backend.Paused
}

// update has the subscription keep the pause that its topic has now, or none. It returns a channel that is closed
// when that has changed.
func (w *pauseWatcher) update() (changed <-chan struct{}) {
	paused, changed := w.pausable.Paused()
	switch before := w.paused; {
	case paused != nil && (before == nil || *before != *paused):
		until := "resumed"
		if !paused.Until.IsZero() {
			until = paused.Until.UTC().Format(time.RFC3339)
		}
		w.config.Logger.Info("ezq: the topic is paused; nothing is fetched until it is resumed",
			"topic", w.config.Topic, "by", paused.By, "reason", paused.Reason, "until", until)
	case paused == nil && before != nil:
		w.config.Logger.Info("ezq: no pause of the topic is known any more; fetching goes on", "topic", w.config.Topic)
	}
	w.paused = paused
	w.leases.setPaused(paused != nil)
	if paused != nil {
		w.settler.releaseWaiting()
	}
	return changed
}

// run keeps each pause until ctx ends. changed is that of the update before.
func (w *pauseWatcher) run(ctx context.Context, changed <-chan struct{}) {
	for {
		waitFor(ctx, -1, changed)
		if ctx.Err() != nil {
			return
		}
		changed = w.update()
	}
}
