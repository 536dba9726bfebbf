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
	"github.com/ezq-go/ezq/internal/subscription"
)

// run is one simulated subscription and its consumer, from start to end.
type run struct {
	*view
	w        *world
	dice     *rand.Rand
	troubled bool // its handlers do all that handlers do, and not just ack
	set      *subscription.Set
	reading  sync.WaitGroup
	ending   chan struct{} // closed when the consumer knows that it ends
	stopping chan struct{} // closed when the subscription shall take no more; nil: it ends with its context
	cancel   context.CancelCauseFunc

	mu   sync.Mutex
	busy map[*message.Message]bool // received, and neither acked nor nacked
}

// serve occupies a place in the world, with one subscription after another.
func (w *world) serve(place int) {
	for life := 0; ; life++ {
		r := newRun(w, fmt.Sprintf("%c%d", 'A'+place, life))
		r.troubled = true
		if r.dice.IntN(3) > 0 {
			r.stopping = make(chan struct{})
		}
		r.begin()
		w.over(between(r.dice, 0, 2*time.Minute))
		r.end()
		if w.over(between(r.dice, 0, 10*time.Second)) {
			return
		}
	}
}

func newRun(w *world, who string) *run {
	r := &run{
		view: w.store.viewOf(who), w: w, dice: w.dice("run", who), set: subscription.NewSet(),
		ending: make(chan struct{}), busy: map[*message.Message]bool{},
	}
	r.plan, r.polled = w.plan(who), w.polled
	return r
}

func (r *run) begin() {
	var ctx context.Context
	ctx, r.cancel = context.WithCancelCause(r.w.t.Context())
	if r.stopping != nil {
		ctx = backend.WithConsumer(ctx, backend.Consumer{Stopping: r.stopping})
	}
	messages, err := r.set.Start(ctx, r.view, r.w.config)
	require.NoError(r.w.t, err)
	pauses := r.w.dice("pauses", r.who)
	r.reading.Go(func() {
		for msg := range messages {
			r.take(msg)
			if r.troubled && pauses.IntN(10) == 0 {
				r.pause(between(pauses, 0, lease))
			}
		}
		r.note(event{kind: closed, who: r.who})
	})
}

// pause waits, unless the consumer knows that there is nothing to wait for.
func (r *run) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.ending:
	}
}

// end ends the subscription in one of the ways that there are. However the store
// and the handlers behave, that must not take longer than it may.
func (r *run) end() {
	patience := r.w.config.DrainTimeout + grace
	if r.stopping != nil && r.dice.IntN(3) > 0 {
		close(r.stopping)
		r.pause(between(r.dice, 0, time.Minute))
	}
	close(r.ending)
	start := time.Now()
	if r.dice.IntN(2) == 0 {
		r.give(patience)
		r.set.Close()
	} else {
		if r.stopping != nil {
			patience = grace
		}
		r.give(patience)
		r.cancel(errImpatient)
	}
	r.reading.Wait()
	if took, limit := time.Since(start), patience+2*operation+lastFlush; took > limit {
		r.w.t.Errorf("%s has taken %v to end, and not %v", r.who, took, limit)
	}
	r.cancel(nil)
	r.set.Close()
}

func (r *run) take(msg *message.Message) {
	r.received(msg)
	r.mu.Lock()
	for other := range r.busy {
		if other.Context().Err() != nil {
			delete(r.busy, other) // it has lost its slot
		}
	}
	if n := len(r.busy); n >= r.w.config.MaxInFlight {
		r.w.t.Errorf("%s has got message %s in addition to %d others", r.who, msg.UUID, n)
	}
	r.busy[msg] = true
	r.mu.Unlock()
	if r.troubled {
		r.w.running.Go(func() { r.handle(msg) })
		return
	}
	r.answer(msg, subscription.Ack, 0)
}

func (r *run) handle(msg *message.Message) {
	dice := r.w.dice("handle", r.who, r.tokenOf(msg).ID, r.tokenOf(msg).Number)
	work := between(dice, 0, pick(dice, 0, time.Millisecond, time.Second, 20*time.Second, lease, 3*time.Minute))
	if r.w.brisk && dice.IntN(20) > 0 {
		work = between(dice, 0, time.Millisecond)
	}
	heedless := dice.IntN(4) == 0
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
	switch n := dice.IntN(20); {
	case n == 0: // does not answer
	case n < 7:
		r.answer(msg, subscription.Nack, pick(dice, 0, 0, time.Second, between(dice, 0, time.Minute)))
	default:
		r.answer(msg, subscription.Ack, 0)
	}
}

func (r *run) answer(msg *message.Message, action subscription.Action, delay time.Duration) {
	r.mu.Lock()
	delete(r.busy, msg)
	r.mu.Unlock()
	if action == subscription.Ack {
		r.ack(msg)
	} else {
		r.nack(msg, delay)
	}
}
