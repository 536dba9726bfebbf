package ezq

import (
	"cmp"
	"context"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/internal/excerpt"
)

// consumer fetches the events of one topic, from when it is subscribed to until the
// router stops or the topic is paused, and has them handled.
type consumer struct {
	run   *run
	topic *topic
	life  *lifecycle

	// handle handles an event in a goroutine, and returns when it is settled.
	handle func(*delivery)

	// workers are goroutines that handle events, each of them one after the other. To
	// decode an event, a new goroutine would have to grow its stack, which takes longer
	// than decoding.
	workers chan *delivery
}

func newConsumer(rn *run, tp *topic, handle func(*delivery)) *consumer {
	return &consumer{run: rn, topic: tp, life: rn.life.ofConsumer(), handle: handle, workers: make(chan *delivery)}
}

// stop ends the consumer. Events that no handler has begun with are released.
func (c *consumer) stop() { c.life.stopStarting(nil) }

// subscriptionContext returns the context of a subscription to the topic.
func (c *consumer) subscriptionContext() context.Context {
	health := &subscriptionHealth{}
	c.topic.health.Store(health)
	return backend.WithConsumer(c.life.working, backend.Consumer{
		Stopping:    c.life.fetching.Done(),
		Concurrency: c.topic.demand,
		Health:      health.report,
	})
}

// consume takes messages in, when there is a slot for one, until c is stopped.
func (c *consumer) consume(messages <-chan *message.Message) {
	defer close(c.workers)
	slots := c.topic.slots
	for slots.acquire(c.life.fetching.Done()) {
		msg, kind := c.next(messages)
		if kind == slotYielded {
			continue
		}
		if kind == nothingMore {
			slots.free()
			return
		}
		routes, event := c.topic.routesOf(msg)
		if c.handleControl(msg, event) {
			slots.free()
			return
		}
		c.start(newDelivery(c, msg, routes, event, c.topic.keys.ticket(msg.Metadata[keyHeader])))
	}
}

// nextKind is what next returns with.
type nextKind uint8

const (
	gotMessage nextKind = iota
	slotYielded
	nothingMore
)

// next waits for the next message.
func (c *consumer) next(messages <-chan *message.Message) (*message.Message, nextKind) {
	if c.life.starting.Err() != nil { // which may be why there is a slot
		return nil, nothingMore
	}
	select {
	case <-c.life.fetching.Done():
		return nil, nothingMore
	case <-c.topic.slots.fromConsumer:
		return nil, slotYielded
	case msg, ok := <-messages:
		switch {
		case !ok:
			c.run.fail(&SubscriptionError{Topic: c.topic.name, Err: c.topic.health.Load().err()})
			return nil, nothingMore
		case c.life.fetching.Err() != nil: // both at once
			backend.Release(msg)
			return nil, nothingMore
		}
		return msg, gotMessage
	}
}

// start has a worker handle an event: one that has nothing to do, or else a new one.
func (c *consumer) start(d *delivery) {
	c.run.handlers.Add(1)
	select {
	case c.workers <- d:
	default:
		go c.work(d)
	}
}

// work handles d, and what comes next, until the consumer ends.
func (c *consumer) work(d *delivery) {
	for ok := true; ok; d, ok = <-c.workers {
		c.handleOne(d)
	}
}

func (c *consumer) handleOne(d *delivery) {
	defer c.run.handlers.Done() // a handler may end its goroutine
	c.handle(d)
}

// handleControl stops the run if msg is a control event, and reports whether it is.
//
// The ack comes first: a marker that came back would stop the next router too.
func (c *consumer) handleControl(msg *message.Message, event string) bool {
	config, handlers := &c.run.config, c.topic.events
	if handlers[event] == nil {
		event = controlName(event)
	}
	if config.IgnoreControl || !isControl(event) {
		return false
	}
	msg.Ack()
	config.Logger.Info("ezq: stopping", "event", event, "topic", c.topic.name, "id", excerpt.Of(msg.UUID))
	if event == (InterruptEvent{}).EventName() {
		c.run.life.stopStarting(&stopReason{err: ErrInterrupted})
	} else {
		c.run.life.stopFetching(&stopReason{timeout: c.endTimeout(msg)})
	}
	for _, rt := range handlers[event] {
		c.observeControl(rt, msg)
	}
	return true
}

// endTimeout is how long the handlers may go on after the EndEvent in msg.
func (c *consumer) endTimeout(msg *message.Message) time.Duration {
	config := &c.run.config
	end, err := decode[EndEvent](EndEvent{}.EventName(), msg.Payload)
	if err != nil {
		config.Logger.Warn("ezq: an EndEvent has no valid timeout; stopping with the router's own", "error", err)
		return config.DrainTimeout
	}
	return cmp.Or(end.Timeout, config.DrainTimeout)
}

// observeControl calls a handler of a control event, outside of all middleware.
func (c *consumer) observeControl(rt *route, msg *message.Message) {
	logger, working := c.run.config.Logger, c.life.working
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(msg.Context()))
	stop := context.AfterFunc(working, func() { cancel(context.Cause(working)) })
	observed := msg.Copy()
	inv := &invocation{logger: logger, info: backend.DeliveryFromContext(ctx)}
	inv.describe(c.topic.name, observed, rt, rt.events[0])
	observed.SetContext(context.WithValue(ctx, invocationKey{}, inv))
	c.run.handlers.Go(func() {
		defer stop()
		defer cancel(nil)
		if _, err := callSafely(rt.call, observed); err != nil {
			logger.Error("ezq: the handler of a control event failed",
				"event", inv.meta.Event, "topic", c.topic.name, "handler", inv.meta.Handler, "error", err)
		}
	})
}
