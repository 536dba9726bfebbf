package ezq

import (
	"context"
	"errors"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

// Attach hands the router's topics to w, a Watermill router that runs or is yet to
// be run, instead of [Router.Run]. Each topic becomes a handler of w named
// "ezq " and the topic. w decides when events are delivered; everything else is as
// with Run: limits, keys, batches, verdicts, Meta, middleware of [Router.Use].
//
// Middleware of w sees each message, but no failures: what became of an event has
// been told to the backend when it returns. So w's own Retry and PoisonQueue do
// nothing here.
//
// When w closes, this router stops like one whose context has ended: what waits
// goes back, and handlers may go on for Config.DrainTimeout, of which w itself waits
// for its CloseTimeout. A control event stops this router and no other handlers;
// when w has none left, it closes by itself. The subscriber is not closed.
//
// Attach returns an error where Run would before it begins, if w has handlers of
// those names already, and if w runs and a topic cannot be subscribed to.
func (r *Router) Attach(w *message.Router) error {
	if w == nil {
		return errors.New("ezq: Attach: the Watermill router is nil")
	}
	for name := range w.Handlers() {
		for topic := range r.topics {
			if name == attachedName(topic) {
				return fmt.Errorf("ezq: Attach: the Watermill router has a handler named %q already", name)
			}
		}
	}
	if err := r.start(); err != nil {
		return err
	}
	rn := newRun(context.Background(), r)
	for _, tp := range r.topics {
		a := &attached{newTaker(rn, tp)}
		w.AddConsumerHandler(attachedName(tp.name), tp.name, a, a.receive)
	}
	if !w.IsRunning() {
		return nil
	}
	if err := w.RunHandlers(context.Background()); err != nil {
		rn.fail(err)
		return fmt.Errorf("ezq: Attach: %w", err)
	}
	return nil
}

func attachedName(topic string) string { return "ezq " + topic }

// attached is the subscriber and the handler of one topic in a Watermill router.
type attached struct{ *taker }

// Subscribe subscribes on behalf of the Watermill router, whose end stops this
// router without ending the contexts of its events at once.
func (a *attached) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	events, err := a.subscriber.Subscribe(a.subscription(), topic)
	if err != nil {
		return nil, err
	}
	a.subscribed.Store(true)
	a.ending.Do(func() { go a.endAttached() })
	context.AfterFunc(ctx, a.shut)
	return events, nil
}

// Close implements [message.Subscriber]: the Watermill router closes.
func (a *attached) Close() error {
	a.shut()
	return nil
}

func (a *attached) shut() { a.giveUp(&stopReason{timeout: a.config.DrainTimeout}) }

// receive handles one message, and settles it.
func (a *attached) receive(msg *message.Message) error {
	if !a.enter() {
		release(msg)
		return nil
	}
	defer a.handlers.Done()
	if !a.awaitResume(msg.Context()) || !a.slots.take(a.taking.Done()) {
		release(msg)
		return nil
	}
	routes, event := a.find(msg)
	if a.control(msg, event) {
		a.slots.free()
		return nil
	}
	a.newTask(msg, routes, event).handle()
	return nil
}

// awaitResume waits while the topic is paused.
func (a *attached) awaitResume(ctx context.Context) bool {
	for {
		paused, changed := a.pause.state()
		if !paused {
			return true
		}
		backend.SetAside(ctx, true)
		select {
		case <-changed:
		case <-a.taking.Done():
			return false
		}
		backend.SetAside(ctx, false)
	}
}

// enter counts a handler, unless the router stops.
func (rn *run) enter() bool {
	rn.mu.Lock()
	defer rn.mu.Unlock()
	if rn.taking.Err() != nil {
		return false
	}
	rn.handlers.Add(1)
	return true
}

// endAttached stops the run of an attached router when it is time.
func (rn *run) endAttached() {
	<-rn.taking.Done()
	rn.mu.Lock()   // whoever was about to enter has
	rn.mu.Unlock() //nolint:staticcheck // see above
	if err := rn.finish(); err != nil {
		rn.config.Logger.Error("ezq: the router has stopped", "error", err)
	}
}
