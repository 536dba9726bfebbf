package subscription_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/internal/subscription"
)

// simulatedConsumer is one subscription and its consumer, from start to end.
type simulatedConsumer struct {
	*storeView
	sim           *simulation
	rng           *rand.Rand
	varied        bool // its handlers do all that handlers do, and not just ack
	subscriptions *subscription.Subscriptions
	reading       sync.WaitGroup
	ending        chan struct{} // closed when the consumer knows that it ends
	stopping      chan struct{} // closed when the subscription shall take no more; nil: it ends with its context
	cancel        context.CancelCauseFunc

	mu        sync.Mutex
	unsettled map[*message.Message]bool // received, and neither acked nor nacked
}

// runConsumers runs one consumer after another.
func (sim *simulation) runConsumers(place int) {
	for life := 0; ; life++ {
		c := newSimulatedConsumer(sim, fmt.Sprintf("%c%d", 'A'+place, life))
		c.varied = true
		if c.rng.IntN(3) > 0 {
			c.stopping = make(chan struct{})
		}
		c.begin()
		sim.sleepUnlessCalmed(between(c.rng, 0, 2*time.Minute))
		c.end()
		if sim.sleepUnlessCalmed(between(c.rng, 0, 10*time.Second)) {
			return
		}
	}
}

func newSimulatedConsumer(sim *simulation, subscriber string) *simulatedConsumer {
	c := &simulatedConsumer{
		storeView: sim.store.viewOf(subscriber), sim: sim, rng: sim.rng("run", subscriber), subscriptions: subscription.NewSubscriptions(),
		ending: make(chan struct{}), unsettled: map[*message.Message]bool{},
	}
	c.faultOf, c.polled = sim.faultsOf(subscriber), sim.polled
	return c
}

func (c *simulatedConsumer) begin() {
	var ctx context.Context
	ctx, c.cancel = context.WithCancelCause(c.sim.t.Context())
	if c.stopping != nil {
		ctx = backend.WithConsumer(ctx, backend.Consumer{Stopping: c.stopping})
	}
	messages, err := c.subscriptions.Start(ctx, c.storeView, c.sim.config)
	require.NoError(c.sim.t, err)
	pauses := c.sim.rng("pauses", c.subscriber)
	c.reading.Go(func() {
		for msg := range messages {
			c.take(msg)
			if c.varied && pauses.IntN(10) == 0 {
				c.pause(between(pauses, 0, lease))
			}
		}
		c.record(event{kind: closed, subscriber: c.subscriber})
	})
}

// pause waits, unless the consumer knows that there is nothing to wait for.
func (c *simulatedConsumer) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.ending:
	}
}

// end ends the subscription in one of the ways that there are. However the store
// and the handlers behave, that must not take longer than it may.
func (c *simulatedConsumer) end() {
	patience := c.sim.config.DrainTimeout + grace
	if c.stopping != nil && c.rng.IntN(3) > 0 {
		close(c.stopping)
		c.pause(between(c.rng, 0, time.Minute))
	}
	close(c.ending)
	start := time.Now()
	if c.rng.IntN(2) == 0 {
		c.recordPatience(patience)
		c.subscriptions.Close()
	} else {
		if c.stopping != nil {
			patience = grace
		}
		c.recordPatience(patience)
		c.cancel(errImpatient)
	}
	c.reading.Wait()
	if took, limit := time.Since(start), patience+2*operation+lastFlush; took > limit {
		c.sim.t.Errorf("%s has taken %v to end, and not %v", c.subscriber, took, limit)
	}
	c.cancel(nil)
	c.subscriptions.Close()
}

func (c *simulatedConsumer) take(msg *message.Message) {
	c.recordReceived(msg)
	c.mu.Lock()
	for other := range c.unsettled {
		if other.Context().Err() != nil {
			delete(c.unsettled, other) // it has lost its slot
		}
	}
	if n := len(c.unsettled); n >= c.sim.config.MaxInFlight {
		c.sim.t.Errorf("%s has got message %s in addition to %d others", c.subscriber, msg.UUID, n)
	}
	c.unsettled[msg] = true
	c.mu.Unlock()
	if c.varied {
		c.sim.running.Go(func() { c.handle(msg) })
		return
	}
	c.answer(msg, subscription.Ack, 0)
}

func (c *simulatedConsumer) handle(msg *message.Message) {
	rng := c.sim.rng("handle", c.subscriber, c.tokenOf(msg).ID, c.tokenOf(msg).Number)
	work := between(rng, 0, pick(rng, 0, time.Millisecond, time.Second, 20*time.Second, lease, 3*time.Minute))
	if c.sim.fastHandlers && rng.IntN(20) > 0 {
		work = between(rng, 0, time.Millisecond)
	}
	heedless := rng.IntN(4) == 0
	timer := time.NewTimer(work)
	defer timer.Stop()
	interrupted := msg.Context().Done()
	if heedless {
		interrupted = nil
	}
	select {
	case <-timer.C:
	case <-interrupted:
	}
	switch n := rng.IntN(20); {
	case n == 0: // does not answer
	case n < 7:
		c.answer(msg, subscription.Nack, pick(rng, 0, 0, time.Second, between(rng, 0, time.Minute)))
	default:
		c.answer(msg, subscription.Ack, 0)
	}
}

func (c *simulatedConsumer) answer(msg *message.Message, action subscription.Action, delay time.Duration) {
	c.mu.Lock()
	delete(c.unsettled, msg)
	c.mu.Unlock()
	if action == subscription.Ack {
		c.ack(msg)
	} else {
		c.nack(msg, delay)
	}
}
