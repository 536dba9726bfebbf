package subscription_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/internal/subscription"
	"github.com/ezq-go/ezq/ezq"
)

// The same simulation with ezq's routers in it, several at a time, one after the other,
// and handlers that succeed, fail, panic, hang and ignore their contexts. A
// router ends in time, and has the store settle what its handlers have answered: acks for what
// they have succeeded with and for nothing else, one failure more for what has failed,
// a dead letter for what has failed for good, no failure for what was interrupted.
func TestRouter_KeepsPromisesInSimulation(t *testing.T) {
	t.Parallel()
	simulate(t, func(t *testing.T, seed int) {
		sim := &routerSimulation{newSimulation(t, seed)}
		sim.run()
	})
}

type routerSimulation struct {
	*simulation
}

// longestWork is how long a handler takes at most.
const longestWork = 3 * time.Minute

// happened is the only event of these routers.
type happened struct{}

func (sim *routerSimulation) run() {
	rng := sim.rng("run")
	sim.handlersWait = true
	sim.store.keyed = sim.rng("keys").IntN(2) == 0
	sim.running.Go(sim.publishAll)
	sim.running.Go(sim.interfere)
	sim.running.Go(sim.lockSome)
	for place := range 1 + rng.IntN(2) {
		sim.running.Go(func() { sim.runRouters(place) })
	}
	sim.runFor(between(rng, time.Minute, 5*time.Minute), longestWork)
	sim.finish()
	sim.requirePromises()
}

// runRouters runs one router after another.
func (sim *routerSimulation) runRouters(place int) {
	for life := 0; ; life++ {
		subscriber := fmt.Sprintf("router %c%d", 'A'+place, life)
		rng := sim.rng("route", subscriber)
		queue := &routerBackend{storeView: sim.store.viewOf(subscriber), subscriptions: subscription.NewSubscriptions(), config: sim.config}
		queue.faultOf, queue.polled = sim.faultsOf(subscriber), sim.polled
		config := ezq.Config{Concurrency: 1 + rng.IntN(4), DrainTimeout: sim.config.DrainTimeout, Logger: sim.config.Logger}
		router := ezq.NewRouter(queue, &config)
		at := &work{sim: sim, storeView: queue.storeView, most: config.Concurrency, keys: map[string]bool{}}
		var options []ezq.HandleOption
		if limit := sim.rng("limit", subscriber); limit.IntN(3) == 0 {
			at.most = min(at.most, 1+limit.IntN(2))
			options = append(options, ezq.Concurrency(at.most))
		}
		ezq.Handle(router, at.handle, options...)

		ctx, stop := context.WithCancel(sim.t.Context())
		ended := make(chan error, 1)
		go func() { ended <- router.Run(ctx) }()
		sim.pauseRouter(router, queue.storeView, between(rng, 0, 2*time.Minute))
		queue.recordPatience(sim.config.DrainTimeout + grace)
		stop()
		asked := time.Now()
		if err := <-ended; err != nil && !errors.Is(err, ezq.ErrDrainTimeout) {
			sim.t.Errorf("%s has ended with %v", subscriber, err)
		}
		if took, limit := time.Since(asked), sim.config.DrainTimeout+grace+2*operation+lastFlush; took > limit {
			sim.t.Errorf("%s has taken %v to end, and not %v", subscriber, took, limit)
		}
		_ = queue.Close()
		queue.record(event{kind: closed, subscriber: subscriber})
		if sim.sleepUnlessCalmed(between(rng, 0, 10*time.Second)) {
			return
		}
	}
}

// pauseRouter waits for d, or until all is calm. Meanwhile the topic of some routers is paused
// and resumed, later or at once.
func (sim *routerSimulation) pauseRouter(router *ezq.Router, v *storeView, d time.Duration) {
	rng, end := sim.rng("pauses", v.subscriber), time.Now().Add(d)
	pauses := rng.IntN(4) == 0
	for pauses && time.Now().Before(end) {
		if sim.sleepUnlessCalmed(between(rng, 0, 20*time.Second)) {
			return
		}
		v.record(event{kind: paused, subscriber: v.subscriber})
		if err := router.Pause(ezq.DefaultTopic); err != nil {
			sim.t.Error(err)
		}
		if rng.IntN(2) == 0 {
			sim.sleepUnlessCalmed(between(rng, 0, 10*time.Second))
		}
		if err := router.Resume(ezq.DefaultTopic); err != nil {
			sim.t.Error(err)
		}
	}
	sim.sleepUnlessCalmed(time.Until(end))
}

// work is what the handler of one router has begun and not ended.
type work struct {
	*storeView
	sim  *routerSimulation
	most int

	mu   sync.Mutex
	now  int
	keys map[string]bool
}

// begin checks that the handler may begin.
func (at *work) begin(key string) (end func()) {
	at.mu.Lock()
	defer at.mu.Unlock()
	at.now++
	if at.now > at.most {
		at.sim.t.Errorf("%s handles %d at a time, and may %d", at.subscriber, at.now, at.most)
	}
	if key != "" && at.keys[key] {
		at.sim.t.Errorf("%s handles two of key %s at a time", at.subscriber, key)
	}
	at.keys[key] = true
	return func() {
		at.mu.Lock()
		defer at.mu.Unlock()
		at.now--
		delete(at.keys, key)
	}
}

// handle records when it has begun, what it answers, and how the store must settle the
// message.
func (at *work) handle(ctx context.Context, _ happened) error {
	defer at.begin(ezq.MetaFromContext(ctx).Headers["x-pgmq-group"])()
	sim, v := at.sim, at.storeView
	token := v.begun(ctx)
	rng := sim.rng("handle", v.subscriber, token.ID, token.Number)
	work := between(rng, 0, pick(rng, 0, time.Millisecond, time.Second, 20*time.Second, lease, longestWork))
	interrupted := ctx.Done()
	if rng.IntN(4) == 0 {
		interrupted = nil // it ignores its context
	}
	timer := time.NewTimer(work)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-interrupted:
	}
	answer := event{kind: answered, subscriber: v.subscriber, token: token, action: subscription.Nack}
	n := rng.IntN(20)
	wait := between(rng, 0, time.Minute)
	switch earlier := backend.DeliveryFromContext(ctx).Failures; {
	case n > 5:
		answer.action = subscription.Ack
	case ctx.Err() != nil: // it is released
		answer.failures = earlier
	case n == 1: // for good
		answer.action, answer.contextMayEndFirst, answer.failures = subscription.DeadLetter, true, earlier+1
	case n == 2:
		answer.contextMayEndFirst, answer.failures, answer.delay = true, earlier+1, wait
	default:
		answer.contextMayEndFirst = true
		longest := min(time.Second<<min(earlier, 20), 5*time.Minute)
		answer.failures, answer.delay, answer.spread = earlier+1, longest-longest/5, longest/5
	}
	v.record(answer)
	switch n {
	case 0:
		panic("a handler's own fault")
	case 1:
		return ezq.Permanent(errors.New("it will never work"))
	case 2:
		return ezq.RetryAfter(wait, errors.New("not now"))
	case 3, 4, 5:
		return errors.New("it has not worked")
	}
	return nil
}

// begun records that a handler has begun, and later when its context ends.
func (v *storeView) begun(ctx context.Context) subscription.Token {
	token, ok := backend.DeliveryFromContext(ctx).Receipt.(subscription.Token)
	if !ok {
		panic("the store has given no token")
	}
	v.recordHandedOver(ctx, token)
	return token
}

// routerBackend is a backend over the store, as one router sees it.
type routerBackend struct {
	*storeView
	subscriptions *subscription.Subscriptions
	config        subscription.Config
}

var _ backend.Backend = (*routerBackend)(nil)

// Features implements [backend.Backend].
func (r *routerBackend) Features() backend.Features {
	return backend.Features{Redelay: true, Attempts: true, Progress: true, Lease: true, Drain: true}
}

// Publish implements [message.Publisher].
func (r *routerBackend) Publish(string, ...*message.Message) error { return errors.ErrUnsupported }

// Subscribe implements [message.Subscriber].
func (r *routerBackend) Subscribe(ctx context.Context, _ string) (<-chan *message.Message, error) {
	return r.subscriptions.Start(ctx, r.storeView, r.config)
}

// Close implements both.
func (r *routerBackend) Close() error {
	r.subscriptions.Close()
	return nil
}
