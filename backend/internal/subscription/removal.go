package subscription

import (
	"context"
	"time"
)

// removalInterval is between two looks for messages that were removed: each extends all leases of the subscription.
const removalInterval = 100 * time.Millisecond

// removalWatcher has all leases extended when messages may have been removed. So the contexts of those end at once, and not with
// the next extension that is due.
type removalWatcher struct {
	store  Removable
	leases *leases
}

// run looks until ctx ends. removed is the channel of the store from before the first fetch.
func (w *removalWatcher) run(ctx context.Context, removed <-chan struct{}) {
	for {
		waitFor(ctx, -1, removed)
		if ctx.Err() != nil {
			return
		}
		removed = w.store.Removed() // before the look, so that none is missed
		w.leases.removed.Store(true)
		signal(w.leases.wakeExtender)
		waitFor(ctx, removalInterval, nil)
	}
}
