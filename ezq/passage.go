package ezq

import (
	"context"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

// passage is the way of a task through the middleware of the Watermill router. What
// travels is a copy of the message, so that the middleware settles nothing but that.
type passage struct {
	task    *task
	front   *message.Message      // the copy
	arrived chan *message.Message // what has come of the copy
	over    chan struct{}         // closed when the task is settled
	acked   bool                  // by middleware, before the copy arrived

	seated bool   // it has a slot
	wait   func() // ends its waiting for one
}

type passageKey struct{}

func newPassage(k *task) *passage {
	p := &passage{task: k, arrived: make(chan *message.Message), over: make(chan struct{}), seated: true}
	p.front = k.msg.CopyWithContext()
	p.front.SetContext(context.WithValue(k.ctx, passageKey{}, p))
	return p
}

// travel returns what has come of the copy, or what has become of the event without it.
//
// What has come through before may have given up its slot, and need one before it lets
// this one through. So it gets this one's.
func (p *passage) travel() (*message.Message, fate) {
	k := p.task
	for {
		var lend <-chan struct{}
		var free, yield chan<- struct{}
		if p.seated {
			lend = k.slots.lend
		} else {
			free, yield = k.slots.taken, k.slots.yield
		}
		select {
		case msg := <-p.arrived:
			return msg, succeeded
		case <-p.front.Acked():
			p.acked = true
			k.msg.Ack()
			return nil, succeeded
		case <-p.front.Nacked():
			k.msg.Nack()
			return nil, failed
		case <-k.starting.Done():
			return nil, givenBack
		case <-lend:
			p.stand()
		case free <- struct{}{}:
			p.sit(true)
		case yield <- struct{}{}:
			p.sit(true)
		}
	}
}

// stand is for a passage whose slot another event has got.
func (p *passage) stand() {
	p.seated, p.wait = false, p.task.slots.await(1)
	backend.Park(p.task.ctx, true)
}

// sit ends a passage's waiting for a slot, with one if seated, which it returns.
func (p *passage) sit(seated bool) bool {
	p.wait()
	if p.seated = seated; seated {
		backend.Park(p.task.ctx, false)
	}
	return seated
}

// end ends the task, whose handlers are not to be called.
func (p *passage) end(fate fate) {
	p.task.endWith(fate)
	if p.seated {
		p.task.slots.free()
	} else {
		p.wait()
	}
}
