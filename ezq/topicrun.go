package ezq

import (
	"context"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

// releaseTime is how long a topic that is resumed at once leaves the backend to store
// what the pause has released. Otherwise the next subscription's events would come
// before those.
const releaseTime = 5 * time.Second

// topicRun subscribes to one topic and has its events consumed whenever the topic is
// not paused, until the run stops.
type topicRun struct {
	run   *run
	topic *topic

	handle   func(*delivery) // see consumer
	consumer *consumer       // until the topic is paused; nil before open
	sub      *subscription   // nil before open
}

// subscription is one of a topic.
type subscription struct {
	messages <-chan *message.Message
	end      context.CancelCauseFunc // of its context
}

// serve consumes events whenever the topic is not paused.
func (tr *topicRun) serve() {
	rn := tr.run
	for rn.life.fetching.Err() == nil {
		paused, changed := tr.topic.pause.state()
		if paused {
			select {
			case <-changed:
			case <-rn.life.fetching.Done():
			}
			continue
		}
		if err := tr.open(); err != nil {
			rn.fail(err)
			return
		}
		tr.consumeUntil(changed)
		if rn.features.Drain && tr.sub != nil {
			tr.topic.subscribed.Store(false)
			tr.awaitRelease(tr.sub)
			tr.sub = nil
		}
	}
	if sub := tr.sub; sub != nil {
		rn.subscriptions.Go(func() { tr.releaseRest(sub) })
	}
}

// awaitRelease waits until a subscription has ended whose topic is paused. If handlers
// still work on what it has brought, that may be long, and it waits only until all else
// has had the time to be released.
func (tr *topicRun) awaitRelease(sub *subscription) {
	ended := make(chan struct{})
	tr.run.subscriptions.Go(func() {
		defer close(ended)
		tr.releaseRest(sub)
	})
	interrupts{ended, tr.run.life.fetching.Done()}.wait(releaseTime, nil)
}

// open makes a consumer, unless there is one, and subscribes to the topic, unless the
// subscription stands. If the run stops before it does, the consumer has no messages.
func (tr *topicRun) open() error {
	if tr.consumer == nil {
		tr.consumer = newConsumer(tr.run, tr.topic, tr.handle)
	}
	if tr.sub != nil {
		return nil
	}
	sub, err := tr.subscribe(tr.consumer.subscriptionContext())
	if err != nil {
		tr.consumer.stop()
		return &SubscriptionError{Topic: tr.topic.name, Err: err}
	}
	if tr.sub = sub; sub != nil {
		tr.topic.subscribed.Store(true)
	}
	return nil
}

// subscribe subscribes to the topic. It does not wait for that any longer when the
// run stops: it returns neither a subscription nor an error then.
func (tr *topicRun) subscribe(ctx context.Context) (*subscription, error) {
	results := make(chan error)
	sub := &subscription{}
	rn := tr.run
	fetching := rn.life.fetching
	ctx, end := context.WithCancelCause(ctx)
	sub.end = end
	stands := context.AfterFunc(fetching, func() { end(ErrInterrupted) })
	rn.subscriptions.Go(func() {
		var err error
		if sub.messages, err = rn.subscriber.Subscribe(ctx, tr.topic.name); err != nil {
			end(nil)
		}
		select {
		case results <- err:
		case <-fetching.Done():
			if err == nil {
				tr.releaseRest(sub)
			}
		}
	})
	select {
	case err := <-results:
		stands()
		if err != nil {
			return nil, err
		}
		return sub, nil
	case <-fetching.Done():
		return nil, nil
	}
}

// releaseRest waits for the end of a subscription, which comes when the outcomes are
// stored. Events that the backend has sent too late are released.
func (tr *topicRun) releaseRest(sub *subscription) {
	if !tr.run.features.Drain {
		<-tr.run.life.working.Done() // until then the backend does not know that fetching has ended
	}
	for msg := range sub.messages {
		backend.Release(msg)
	}
	sub.end(nil)
}

// consumeUntil consumes events until the run stops, or changed is closed.
func (tr *topicRun) consumeUntil(changed <-chan struct{}) {
	c := tr.consumer
	tr.consumer = nil
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-changed:
			c.stop()
		case <-c.life.fetching.Done():
		}
	})
	var messages <-chan *message.Message
	if tr.sub != nil {
		messages = tr.sub.messages
	}
	c.consume(messages)
	watching.Wait()
}
