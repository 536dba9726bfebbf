package ezq

import (
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"
)

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
