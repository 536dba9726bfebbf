package ezq

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/internal/sparse"
)

const (
	// interruptGrace is how long Run waits for handlers that it has interrupted.
	interruptGrace = 5 * time.Second

	// closeTimeout is how long Run waits for the backend to store the outcomes
	// and to end its subscriptions.
	closeTimeout = 15 * time.Second
)

// run is one Run of a router.
type run struct {
	subscriber message.Subscriber
	features   backend.Features
	config     Config
	life       *lifecycle

	consumers     sync.WaitGroup // a goroutine for each topic
	handlers      sync.WaitGroup // a goroutine for each event
	subscriptions sync.WaitGroup // a goroutine for each subscription that is to end

	mu     sync.Mutex
	active map[*invocation]struct{} // of handlers that run

	stopped       atomic.Bool
	attachOnce    sync.Once     // for Attach,
	attachedEnded chan struct{} // closed there when the run is over and no handler runs
}

func newRun(ctx context.Context, subscriber message.Subscriber, features backend.Features, config Config) *run {
	return &run{
		subscriber: subscriber, features: features, config: config, life: newLifecycle(ctx),
		active: map[*invocation]struct{}{}, attachedEnded: make(chan struct{}),
	}
}

// tryAdd adds one to a group that the run has to wait for, unless the run stops.
func (rn *run) tryAdd(group *sync.WaitGroup) bool {
	rn.mu.Lock()
	defer rn.mu.Unlock()
	if rn.life.fetching.Err() != nil {
		return false
	}
	group.Add(1)
	return true
}

// fail stops the run because of err.
func (rn *run) fail(err error) {
	rn.life.stopStarting(&stopReason{err: err, timeout: rn.config.DrainTimeout})
}

// finish goes through the phases of stopping. Nothing is fetched any more.
func (rn *run) finish() error {
	defer rn.stopped.Store(true)
	defer sparse.Flush(rn.config.Logger)
	reason := rn.life.reason(rn.config.DrainTimeout)
	idle := make(chan struct{})
	go func() {
		rn.handlers.Wait()
		close(idle)
	}()

	err := reason.err
	if !closedWithin(reason.timeout, idle) {
		if !errors.Is(err, ErrInterrupted) {
			err = errors.Join(err, ErrDrainTimeout)
		}
		rn.life.stopStarting(reason)
		rn.life.interrupt(ErrInterrupted)
		closedWithin(interruptGrace, idle)
		err = &StopError{Reason: err, Running: rn.stillRunning()}
	}
	rn.life.stopStarting(reason)
	rn.life.interrupt(nil)
	rn.awaitSubscriptions()
	return err
}

// finishAttached stops the run of an attached router when fetching has ended.
func (rn *run) finishAttached() {
	<-rn.life.fetching.Done()
	rn.mu.Lock()   // any tryAdd that has begun ends first
	rn.mu.Unlock() //nolint:staticcheck // see above
	rn.consumers.Wait()
	if err := rn.finish(); err != nil {
		rn.config.Logger.Error("ezq: the router has stopped", "error", err)
	}
	rn.handlers.Wait() // also for those that did not end in time
	close(rn.attachedEnded)
}

// awaitSubscriptions waits for the ends of the subscriptions.
func (rn *run) awaitSubscriptions() {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		rn.subscriptions.Wait()
	}()
	if !closedWithin(closeTimeout, ended) {
		rn.config.Logger.Error("ezq: the backend did not end its subscriptions in time", "waited", closeTimeout.String())
	}
}

func (rn *run) track(inv *invocation) {
	rn.mu.Lock()
	rn.active[inv] = struct{}{}
	rn.mu.Unlock()
}

func (rn *run) untrack(inv *invocation) {
	rn.mu.Lock()
	delete(rn.active, inv)
	rn.mu.Unlock()
}

// stillRunning returns what handlers still work on.
func (rn *run) stillRunning() []Meta {
	rn.mu.Lock()
	defer rn.mu.Unlock()
	var metas []Meta
	for inv := range rn.active {
		metas = append(metas, inv.meta)
	}
	slices.SortFunc(metas, func(a, b Meta) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Handler, b.Handler))
	})
	return metas
}
