package subscription

import "github.com/ezq-go/ezq/backend"

// Pausable is a [Store] whose topic can be paused for all subscriptions, in all processes.
type Pausable interface {
	Store

	// Paused returns the pause of the topic, as far as known in this process, or nil; and a
	// channel that is closed when that has changed since the call.
	Paused() (pause *backend.Paused, changed <-chan struct{})
}
