package subscription_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/internal/subscription"
)

// The same world with ezq's routers in it, one after the other in each place,
// and handlers that succeed, fail, panic, hang and do not heed their contexts. A
// router ends in time, and acks what its handler has succeeded with, and
// nothing else.
func TestRouterSimulation(t *testing.T) {
	t.Parallel()
	for _, seed := range count(*seeds) {
		t.Run(fmt.Sprintf("with seed %d", seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := &routedWorld{world: newWorld(t, seed), succeeded: map[attempt]bool{}}
				w.run()
			})
		})
	}
}

type routedWorld struct {
	*world

	mu        sync.Mutex
	succeeded map[attempt]bool
}

// attempt is one delivery of one message.
type attempt struct {
	id     string
	number int
}

// longestWork is how long a handler takes at most.
const longestWork = 3 * time.Minute

// happened is the only event of these routers.
type happened struct{}

func (w *routedWorld) run() {
	dice := w.dice("run")
	w.running.Go(w.publishAll)
	w.running.Go(w.attack)
	for place := range 1 + dice.IntN(2) {
		w.running.Go(func() { w.route(place) })
	}
	time.Sleep(between(dice, time.Minute, 5*time.Minute))
	close(w.calm)
	w.running.Wait()
	time.Sleep(longestWork) // of a handler that outlives its router
	w.requireSuccess()
	w.finish()
	w.sayHowToRepeat()
}

// route runs one router after another.
func (w *routedWorld) route(place int) {
	for life := 0; ; life++ {
		who := fmt.Sprintf("router %c%d", 'A'+place, life)
		dice := w.dice("route", who)
		queue := &routed{view: w.store.viewOf(who), set: subscription.NewSet(), config: w.config}
		queue.plan, queue.polled = w.plan(who), w.polled
		router := ezq.NewRouter(queue, ezq.Config{
			Concurrency: 1 + dice.IntN(4), DrainTimeout: w.config.DrainTimeout, Logger: w.config.Logger,
		})
		ezq.Handle(router, func(ctx context.Context, _ happened) error { return w.handle(ctx, who) })

		ctx, stop := context.WithCancel(w.t.Context())
		ended := make(chan error, 1)
		go func() { ended <- router.Run(ctx) }()
		w.over(between(dice, 0, 2*time.Minute))
		stop()
		asked := time.Now()
		if err := <-ended; err != nil && !errors.Is(err, ezq.ErrDrainTimeout) {
			w.t.Errorf("%s has ended with %v", who, err)
		}
		if took, limit := time.Since(asked), w.config.DrainTimeout+grace+2*operation+lastFlush; took > limit {
			w.t.Errorf("%s has taken %v to end, and not %v", who, took, limit)
		}
		_ = queue.Close()
		if w.over(between(dice, 0, 10*time.Second)) {
			return
		}
	}
}

func (w *routedWorld) handle(ctx context.Context, who string) error {
	this := attempt{id: ezq.MetaFrom(ctx).ID, number: backend.DeliveryFrom(ctx).Number}
	dice := w.dice("handle", who, this)
	work := between(dice, 0, pick(dice, 0, time.Millisecond, time.Second, 20*time.Second, lease, longestWork))
	interrupted := ctx.Done()
	if dice.IntN(4) == 0 {
		interrupted = nil // it does not heed its context
	}
	timer := time.NewTimer(work)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-interrupted:
	}
	switch dice.IntN(20) {
	case 0:
		panic("a handler's own fault")
	case 1:
		return ezq.Permanent(errors.New("it will never work"))
	case 2:
		return ezq.RetryAfter(between(dice, 0, time.Minute), errors.New("not now"))
	case 3, 4, 5:
		return errors.New("it has not worked")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.succeeded[this] = true
	return nil
}

// requireSuccess checks that nothing was acked which no handler has finished.
func (w *routedWorld) requireSuccess() {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	story := newStory(w.store.read(), 0)
	for _, e := range w.store.read(settled) {
		this := attempt{id: fmt.Sprint(e.token.ID)}
		if d := story.byToken[e.token]; d != nil {
			this.number = d.number()
		}
		if e.who != "competitor" && e.action == subscription.Ack && !w.succeeded[this] {
			w.t.Errorf("%s has acked message %d, lease %d, without a success", e.who, e.token.ID, e.token.Number)
		}
	}
}

// routed is a backend over the store, as one router sees it.
type routed struct {
	*view
	set    *subscription.Set
	config subscription.Config
}

var _ backend.Backend = (*routed)(nil)

// Features implements [backend.Backend].
func (r *routed) Features() backend.Features {
	return backend.Features{Redelay: true, Attempts: true, Progress: true, Lease: true, Drain: true}
}

// Publish implements [message.Publisher].
func (r *routed) Publish(string, ...*message.Message) error { return errors.ErrUnsupported }

// Subscribe implements [message.Subscriber].
func (r *routed) Subscribe(ctx context.Context, _ string) (<-chan *message.Message, error) {
	return r.set.Start(ctx, r.view, r.config)
}

// Close implements both.
func (r *routed) Close() error {
	r.set.Close()
	return nil
}
