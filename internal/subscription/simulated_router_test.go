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
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/internal/subscription"
)

// The same world with ezq's routers in it, one after the other in each place,
// and handlers that succeed, fail, panic, hang and do not heed their contexts. A
// router ends in time, and tells the store what its handlers have said: acks for what
// they have succeeded with and for nothing else, one failure more for what has failed,
// a dead letter for what has failed for good, no failure for what was interrupted.
func TestRouterSimulation(t *testing.T) {
	t.Parallel()
	simulate(t, func(t *testing.T, seed int) {
		w := &routedWorld{newWorld(t, seed)}
		w.run()
	})
}

type routedWorld struct {
	*world
}

// longestWork is how long a handler takes at most.
const longestWork = 3 * time.Minute

// happened is the only event of these routers.
type happened struct{}

func (w *routedWorld) run() {
	dice := w.dice("run")
	w.waits = true
	w.store.keyed = w.dice("keys").IntN(2) == 0
	w.running.Go(w.publishAll)
	w.running.Go(w.attack)
	w.running.Go(w.lockSome)
	for place := range 1 + dice.IntN(2) {
		w.running.Go(func() { w.route(place) })
	}
	w.live(between(dice, time.Minute, 5*time.Minute), longestWork)
	w.finish()
	w.requirePromises()
}

// route runs one router after another.
func (w *routedWorld) route(place int) {
	for life := 0; ; life++ {
		who := fmt.Sprintf("router %c%d", 'A'+place, life)
		dice := w.dice("route", who)
		queue := &routed{view: w.store.viewOf(who), set: subscription.NewSet(), config: w.config}
		queue.plan, queue.polled = w.plan(who), w.polled
		config := ezq.Config{Concurrency: 1 + dice.IntN(4), DrainTimeout: w.config.DrainTimeout, Logger: w.config.Logger}
		router := ezq.NewRouter(queue, &config)
		at := &work{w: w, view: queue.view, most: config.Concurrency, keys: map[string]bool{}}
		var options []ezq.HandleOption
		if limit := w.dice("limit", who); limit.IntN(3) == 0 {
			at.most = min(at.most, 1+limit.IntN(2))
			options = append(options, ezq.Concurrency(at.most))
		}
		ezq.Handle(router, at.handle, options...)

		ctx, stop := context.WithCancel(w.t.Context())
		ended := make(chan error, 1)
		go func() { ended <- router.Run(ctx) }()
		w.rest(router, queue.view, between(dice, 0, 2*time.Minute))
		queue.give(w.config.DrainTimeout + grace)
		stop()
		asked := time.Now()
		if err := <-ended; err != nil && !errors.Is(err, ezq.ErrDrainTimeout) {
			w.t.Errorf("%s has ended with %v", who, err)
		}
		if took, limit := time.Since(asked), w.config.DrainTimeout+grace+2*operation+lastFlush; took > limit {
			w.t.Errorf("%s has taken %v to end, and not %v", who, took, limit)
		}
		_ = queue.Close()
		queue.note(event{kind: closed, who: who})
		if w.over(between(dice, 0, 10*time.Second)) {
			return
		}
	}
}

// rest waits for d, or until all is over. Meanwhile the topic of some routers is paused
// and resumed, later or at once.
func (w *routedWorld) rest(router *ezq.Router, v *view, d time.Duration) {
	dice, end := w.dice("pauses", v.who), time.Now().Add(d)
	pauses := dice.IntN(4) == 0
	for pauses && time.Now().Before(end) {
		if w.over(between(dice, 0, 20*time.Second)) {
			return
		}
		v.note(event{kind: paused, who: v.who})
		if err := router.Pause(ezq.DefaultTopic); err != nil {
			w.t.Error(err)
		}
		if dice.IntN(2) == 0 {
			w.over(between(dice, 0, 10*time.Second))
		}
		if err := router.Resume(ezq.DefaultTopic); err != nil {
			w.t.Error(err)
		}
	}
	w.over(time.Until(end))
}

// work is what the handler of one router has begun and not ended.
type work struct {
	*view
	w    *routedWorld
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
		at.w.t.Errorf("%s handles %d at a time, and may %d", at.who, at.now, at.most)
	}
	if key != "" && at.keys[key] {
		at.w.t.Errorf("%s handles two of key %s at a time", at.who, key)
	}
	at.keys[key] = true
	return func() {
		at.mu.Lock()
		defer at.mu.Unlock()
		at.now--
		delete(at.keys, key)
	}
}

// handle notes when it has begun, what it answers, and what the store must hear of
// that.
func (at *work) handle(ctx context.Context, _ happened) error {
	defer at.begin(ezq.MetaFromContext(ctx).Headers["x-pgmq-group"])()
	w, v := at.w, at.view
	token := v.begun(ctx)
	dice := w.dice("handle", v.who, token.ID, token.Number)
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
	answer := event{kind: answered, who: v.who, token: token, action: subscription.Nack}
	n := dice.IntN(20)
	wait := between(dice, 0, time.Minute)
	switch earlier := backend.DeliveryFromContext(ctx).Failures; {
	case n > 5:
		answer.action = subscription.Ack
	case ctx.Err() != nil: // it is given back
		answer.failed = earlier
	case n == 1: // for good
		answer.action, answer.hasty, answer.failed = subscription.DeadLetter, true, earlier+1
	case n == 2:
		answer.hasty, answer.failed, answer.delay = true, earlier+1, wait
	default:
		answer.hasty = true
		longest := min(time.Second<<min(earlier, 20), 5*time.Minute)
		answer.failed, answer.delay, answer.spread = earlier+1, longest-longest/5, longest/5
	}
	v.note(answer)
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

// begun notes that a handler has begun, and later when its context ends.
func (v *view) begun(ctx context.Context) subscription.Token {
	token, ok := backend.DeliveryFromContext(ctx).Receipt.(subscription.Token)
	if !ok {
		panic("the store has given no token")
	}
	v.follow(ctx, token)
	return token
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
