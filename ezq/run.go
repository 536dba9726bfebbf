package ezq

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ezq-go/ezq/internal/sparse"
)

const (
	// grace is how long Run waits for handlers that it has interrupted.
	grace = 5 * time.Second

	// closeTimeout is how long Run waits for the backend to store the outcomes
	// and to end its subscriptions.
	closeTimeout = 15 * time.Second
)

// Run delivers events until ctx ends or an [EndEvent] arrives.
//
// It then takes no more events. Those that the backend has fetched, and those that
// wait for their turn, go back at once, as if they had not been delivered; after an [EndEvent] those that wait are
// handled, since they came before it. Handlers that run may go on, with living
// contexts, for Config.DrainTimeout, or EndEvent.Timeout if that is set; a
// handler that takes long can look at [StoppingFromContext]. When they are done and the
// outcomes are stored, Run returns nil: that ctx ended is no error.
//
// If they take longer, their contexts end with the cause [ErrInterrupted]. What
// a handler then returns still counts: nil is done; an error gives the event
// back, and is not counted as a failure. Run returns a [StopError], which matches
// [ErrDrainTimeout], after all have returned, or after 5 more seconds; it names
// the handlers that still run. Their events come back when their leases run out.
//
// An [InterruptEvent] does the same without waiting, and the error matches
// [ErrInterrupted].
//
// If a topic cannot be subscribed to, or stops delivering, Run stops in the same
// way and returns a [SubscriptionError].
//
// Run does not close the subscriber. A second Run returns an error.
func (r *Router) Run(ctx context.Context) error {
	if err := r.start(); err != nil {
		return err
	}
	rn := newRun(ctx, r)
	for _, tp := range r.topics {
		s := &server{run: rn, topic: tp, handle: (*task).handle}
		rn.takers.Go(s.serve)
	}
	rn.takers.Wait()
	return rn.finish()
}

// run is one Run of a router. It has three contexts for three questions: may we
// take more events, may handlers begin with what was taken, and may they go on?
type run struct {
	*Router
	starting  context.Context
	giveUp    context.CancelCauseFunc // ends the first two, with a *stopReason
	taking    context.Context
	stop      context.CancelCauseFunc // ends the first, with a *stopReason
	working   context.Context
	interrupt context.CancelCauseFunc

	takers   sync.WaitGroup // a goroutine for each topic
	handlers sync.WaitGroup // a goroutine for each event
	ends     sync.WaitGroup // a goroutine for each subscription that is to end

	mu     sync.Mutex
	active map[*handling]struct{} // what handlers work on

	over   atomic.Bool
	ending sync.Once     // for Attach,
	ended  chan struct{} // closed there when the run is over and no handler runs
}

// stopReason is why a router takes no more events. The first reason counts.
type stopReason struct {
	err     error         // what Run returns
	timeout time.Duration // how long the handlers may go on
}

func (s *stopReason) Error() string { return "ezq: stopping" }

func newRun(ctx context.Context, r *Router) *run {
	rn := &run{Router: r, active: map[*handling]struct{}{}, ended: make(chan struct{})}
	rn.starting, rn.giveUp = context.WithCancelCause(ctx)
	rn.taking, rn.stop = context.WithCancelCause(rn.starting)
	rn.working, rn.interrupt = context.WithCancelCause(context.WithoutCancel(ctx))
	r.running.Store(rn)
	return rn
}

// enter counts something that the run has to wait for, unless it stops.
func (rn *run) enter(all *sync.WaitGroup) bool {
	rn.mu.Lock()
	defer rn.mu.Unlock()
	if rn.taking.Err() != nil {
		return false
	}
	all.Add(1)
	return true
}

// fail stops the run because of err.
func (rn *run) fail(err error) {
	rn.giveUp(&stopReason{err: err, timeout: rn.config.DrainTimeout})
}

// finish goes through the phases of stopping. Nothing is taken any more.
func (rn *run) finish() error {
	defer rn.over.Store(true)
	defer sparse.Flush(rn.config.Logger)
	reason := rn.reason()
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
		rn.giveUp(reason)
		rn.interrupt(ErrInterrupted)
		closedWithin(grace, idle)
		err = &StopError{Reason: err, Running: rn.hung()}
	}
	rn.giveUp(reason)
	rn.interrupt(nil)
	rn.awaitEnd()
	return err
}

// endAttached stops the run of an attached router when it is time.
func (rn *run) endAttached() {
	<-rn.taking.Done()
	rn.mu.Lock()   // whoever was about to enter has
	rn.mu.Unlock() //nolint:staticcheck // see above
	rn.takers.Wait()
	if err := rn.finish(); err != nil {
		rn.config.Logger.Error("ezq: the router has stopped", "error", err)
	}
	rn.handlers.Wait() // also for those that did not end in time
	close(rn.ended)
}

// reason returns why the run stops. If its context has ended, that is all.
func (rn *run) reason() *stopReason {
	if reason, ok := errors.AsType[*stopReason](context.Cause(rn.taking)); ok {
		return reason
	}
	return &stopReason{timeout: rn.config.DrainTimeout}
}

// awaitEnd waits for the ends of the subscriptions.
func (rn *run) awaitEnd() {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		rn.ends.Wait()
	}()
	if !closedWithin(closeTimeout, ended) {
		rn.config.Logger.Error("ezq: the backend did not end its subscriptions in time", "waited", closeTimeout.String())
	}
}

// hung returns what handlers are still working on.
func (rn *run) hung() []Meta {
	rn.mu.Lock()
	defer rn.mu.Unlock()
	var metas []Meta
	for h := range rn.active {
		metas = append(metas, h.meta)
	}
	slices.SortFunc(metas, func(a, b Meta) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Handler, b.Handler))
	})
	return metas
}

func closedWithin(d time.Duration, c <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-c:
		return true
	case <-timer.C:
		select {
		case <-c: // both at once
			return true
		default:
			return false
		}
	}
}
