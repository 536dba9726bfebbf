package ezq

import (
	"fmt"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"
)

// Pause stops taking events of a topic, until [Router.Resume]. The backend gets
// back what it has fetched and what waits for its turn, also half a batch;
// handlers that run go on. On a backend that does not promise Drain the
// subscription stays, and holds what it has fetched.
//
// A control event on a paused topic has to wait like any other. Pause may be called
// before Run too, and again. It returns an error if the router has no handlers on the
// topic.
func (r *Router) Pause(topic string) error { return r.setPaused("Pause", topic, true) }

// Resume ends a [Router.Pause]. It does nothing if the topic is not paused.
func (r *Router) Resume(topic string) error { return r.setPaused("Resume", topic, false) }

func (r *Router) setPaused(method, topic string, paused bool) error {
	tp := r.topics[topic]
	if tp == nil {
		return fmt.Errorf("ezq: %s: the router has no handlers on topic %q", method, topic)
	}
	tp.pause.set(paused)
	return nil
}

// pause is whether a topic is paused.
type pause struct {
	mu      sync.Mutex
	paused  bool
	changed chan struct{} // closed, and replaced, with each change
}

func newPause() *pause { return &pause{changed: make(chan struct{})} }

func (p *pause) set(paused bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.paused != paused {
		p.paused = paused
		close(p.changed)
		p.changed = make(chan struct{})
	}
}

func (p *pause) state() (paused bool, changed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.paused, p.changed
}

// serve delivers the events of one topic until the run stops.
func (rn *run) serve(tp *topic) {
	var events <-chan *message.Message
	for rn.taking.Err() == nil {
		paused, changed := tp.pause.state()
		if paused {
			select {
			case <-changed:
			case <-rn.taking.Done():
			}
			continue
		}
		t := newTaker(rn, tp)
		if events == nil {
			var err error
			if events, err = rn.subscriber.Subscribe(t.subscription(), tp.name); err != nil {
				rn.fail(&SubscriptionError{Topic: tp.name, Err: err})
				t.close()
				return
			}
			tp.subscribed.Store(true)
		}
		t.takeUntil(changed, events)
		if rn.features.Drain {
			tp.subscribed.Store(false)
			over := events
			rn.ends.Go(func() { rn.discard(over) })
			events = nil
		}
	}
	if events != nil {
		rn.ends.Go(func() { rn.discard(events) })
	}
}

// takeUntil takes events until the run stops, or changed is closed.
func (t *taker) takeUntil(changed <-chan struct{}, events <-chan *message.Message) {
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-changed:
			t.close()
		case <-t.taking.Done():
		}
	})
	t.take(events)
	watching.Wait()
}

// discard waits for the end of a subscription, which comes when the outcomes are
// stored. What the backend has sent too late goes back.
func (rn *run) discard(events <-chan *message.Message) {
	if !rn.features.Drain {
		<-rn.working.Done() // it does not know before that we take no more
	}
	for msg := range events {
		release(msg)
	}
}
