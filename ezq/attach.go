package ezq

import (
	"context"
	"errors"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"
)

// Attach hands the router's topics to w, a Watermill router that runs or is yet to
// be run, instead of [Router.Run]. Each topic becomes a handler of w named
// "ezq " and the topic. Events are taken as with Run: limits, keys, batches, control
// events, Pause, verdicts, Meta, middleware of [Router.Use]. Then, when it is the turn
// of its key, each of them passes through the middleware of w before its handlers are
// called; so that may let as few messages through at a time as it likes.
//
// Middleware of w sees each message, but no failures: what became of an event has
// been told to the backend when it returns. So w's own Retry and PoisonQueue do
// nothing here. The payload, the metadata and the context that it leaves with a
// message, or with a copy of that, are those that the handlers get; which event it is,
// and its key, have been read before. A middleware that keeps a message from the
// handlers decides about it: one that returns nil has it acked, and an error is a
// failure. One that acks a message first, such as Watermill's InstantAck, makes its
// event one that cannot fail. An event whose message has lost the values of its
// context fails: a middleware copies a message with CopyWithContext.
//
// When w closes, this router stops like one whose context has ended: what has not
// reached its handlers goes back, and handlers may go on for Config.DrainTimeout, of
// which w itself waits for its CloseTimeout. A control event stops this router and no
// other handlers; when w has none left, it closes by itself. The subscriber is not
// closed.
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
		a := newAttached(rn, tp)
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
type attached struct {
	*server
	out chan *message.Message // to the Watermill router
}

func newAttached(rn *run, tp *topic) *attached {
	a := &attached{out: make(chan *message.Message)}
	a.server = &server{run: rn, topic: tp, handle: a.pass}
	return a
}

// Subscribe subscribes on behalf of the Watermill router, whose end stops this
// router without ending the contexts of its events at once.
func (a *attached) Subscribe(ctx context.Context, _ string) (<-chan *message.Message, error) {
	a.ending.Do(func() { go a.endAttached() })
	if !a.enter(&a.takers) {
		close(a.out)
		return a.out, nil
	}
	context.AfterFunc(ctx, a.shut)
	if paused, _ := a.pause.state(); !paused {
		if err := a.open(); err != nil {
			a.takers.Done()
			return nil, err
		}
	}
	go func() {
		defer a.takers.Done()
		a.serve()
	}()
	go func() {
		<-a.ended
		close(a.out)
	}()
	return a.out, nil
}

// Close implements [message.Subscriber]: the Watermill router closes.
func (a *attached) Close() error {
	a.shut()
	return nil
}

func (a *attached) shut() { a.giveUp(&stopReason{timeout: a.config.DrainTimeout}) }

var errNoPassage = errors.New("ezq: Attach: a middleware of the Watermill router has replaced the context of the message, " +
	"without which its event is not known: keep the values of the context, and copy messages with CopyWithContext")

// pass handles k as soon as its message has passed through the Watermill router. It
// gets there when it is its turn: a middleware that lets so many through at a time
// would otherwise let in those that wait, and not the one that they wait for.
func (a *attached) pass(k *task) {
	k.ctx = k.msg.Context()
	if !k.awaitTurn() {
		k.turnAway()
		return
	}
	if k.starting.Err() != nil || interrupted(k.ctx) { // while it waited
		k.endWith(givenBack)
		k.slots.free()
		return
	}
	p := newPassage(k)
	defer close(p.over)
	select {
	case a.out <- p.front:
	case <-k.starting.Done():
	}
	if msg, fate := p.travel(); msg == nil {
		p.end(fate)
	} else if k.arrive(msg); p.seated || p.sit(k.slots.retake(k.starting.Done(), nil)) {
		k.handle()
	} else {
		k.turnAway()
	}
}

// receive is the handler in the Watermill router.
func (a *attached) receive(msg *message.Message) error {
	p, ok := msg.Context().Value(passageKey{}).(*passage)
	if !ok {
		return errNoPassage
	}
	select {
	case p.arrived <- msg:
		<-p.over
	case <-p.over:
		if p.acked {
			a.handleAcked(p.task, msg)
		}
	}
	return nil
}

// handleAcked handles k, whose message a middleware has acked before it passed on msg.
func (a *attached) handleAcked(k *task, msg *message.Message) {
	if !a.enter(&a.handlers) {
		return
	}
	defer a.handlers.Done()
	if !k.slots.retake(k.starting.Done(), nil) {
		return
	}
	again := k.newTask(k.msg, k.routes, k.event, k.turn)
	again.arrive(msg)
	again.handle()
}
