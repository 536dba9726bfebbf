package conformance_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
)

// losing returns the flaw of acking what is not settled when something is closed, or is
// nacked then.
func losing(when func(*delivery) <-chan struct{}) fault {
	return fault{interception: interception{
		deliver: func(d *delivery) bool {
			d.deliveries.Go(func() {
				select {
				case <-when(d):
					d.msg.Ack()
				case <-d.done:
				}
			})
			return true
		},
		settle: func(d *delivery, v backend.Disposition) {
			select {
			case <-when(d):
				d.msg.Ack()
			default:
				d.settleAs(v)
			}
		},
	}}
}

func stopMutants() []mutant {
	return []mutant{
		{
			name:     "Stopping is ignored",
			breaks:   "a consumer that has stopped gets more messages",
			killedBy: []string{"stopping/contexts live while their consumer drains", "stopping/a nack while draining goes back"},
			fault:    consuming(func(c *backend.Consumer) { c.Stopping = nil }),
		},
		{
			name:     "Concurrency is ignored",
			breaks:   "a consumer gets more messages than it handles at a time",
			killedBy: []string{"stopping/a consumer gets what it can handle"},
			fault:    consuming(func(c *backend.Consumer) { c.Concurrency = 0 }),
		},
		{
			name:     "nothing is parked",
			breaks:   "a message that waits with its consumer takes the place of another",
			killedBy: []string{"stopping/what is parked makes room"},
			fault:    changingDelivery(func(d *backend.Delivery) { d.Parker = nil }),
		},
		{
			name:   "a nack after Stopping is an ack",
			breaks: "a message that is nacked while its consumer drains is lost",
			killedBy: []string{
				"stopping/a nack while draining goes back", "stopping/who does not wait says so", "stopping a router/a stop loses nothing",
			},
			fault: settling(func(d *delivery, v backend.Disposition) {
				select {
				case <-d.stopping:
					d.msg.Ack()
				default:
					d.settleAs(v)
				}
			}),
		},
		{
			name:     "Close acks",
			breaks:   "what is not settled when a subscriber is closed is lost",
			killedBy: []string{"stopping/Close loses nothing"},
			fault:    losing(func(d *delivery) <-chan struct{} { return d.closing }),
		},
		{
			name:   "the end of a context acks",
			breaks: "what is not settled when the context of its subscription ends is lost",
			killedBy: []string{
				"stopping/the end of a context loses nothing", "control events/InterruptEvent interrupts",
				"stopping a router/who takes too long is interrupted",
			},
			fault: losing(func(d *delivery) <-chan struct{} { return d.ctx.Done() }),
		},
		{
			name:     "what was not received is done",
			breaks:   "what is fetched when a subscription ends is lost",
			killedBy: []string{"stopping/Close loses nothing", "stopping/what was not handed over goes back"},
			fault:    fault{interception: interception{unreceived: func(d *delivery) { d.msg.Ack() }}},
		},
		{
			name:     "what was not received is kept",
			breaks:   "what is fetched when a subscriber is closed comes when its lease runs out",
			killedBy: []string{"stopping/what was not handed over goes back"},
			fault:    fault{interception: interception{unreceived: func(*delivery) {}}},
		},
	}
}

func lifecycleMutants() []mutant {
	return []mutant{
		{
			name:     "Close does not wait",
			breaks:   "Close returns while channels are open",
			killedBy: []string{"lifecycle/Close closes the channels"},
			fault: fault{end: func(p *process) error {
				go func() {
					stall(time.Second) // longer than the goroutine of the case may be kept from its next step
					_ = p.stop()
				}()
				return nil
			}},
		},
		{
			name:     "Close hangs",
			breaks:   "Close does not return",
			killedBy: []string{"lifecycle/Close closes the channels", "lifecycle/Close may be called again"},
			fault: fault{end: func(p *process) error {
				defer stall(time.Hour)
				return p.stop()
			}},
		},
		{
			name:     "Close waits for handlers for an hour",
			breaks:   "the contexts of messages do not end with Close",
			killedBy: []string{"stopping/Close ends the contexts"},
			fault:    fault{config: func(c *memory.Config) { c.DrainTimeout = time.Hour }},
		},
		{
			name:     "Close is once",
			breaks:   "a second Close returns an error",
			killedBy: []string{"lifecycle/Close may be called again"},
			fault: fault{end: func(p *process) error {
				if p.increment(fmt.Sprintf("closed %p", p)) > 1 {
					return errors.New("closed already")
				}
				return p.stop()
			}},
		},
		{
			name:     "Close closes twice",
			breaks:   "a second Close panics",
			killedBy: []string{"lifecycle/Close may be called again"},
			fault: fault{end: func(p *process) error {
				if p.increment(fmt.Sprintf("closed %p", p)) > 1 {
					panic("close of closed channel")
				}
				return p.stop()
			}},
		},
		{
			name:     "a closed subscriber subscribes",
			breaks:   "Subscribe after Close returns a channel",
			killedBy: []string{"lifecycle/a closed subscriber refuses"},
			fault: fault{subscribe: func(p *process, ctx context.Context, topic string) (<-chan *message.Message, error) {
				messages, err := p.start(ctx, topic)
				if errors.Is(err, backend.ErrClosed) {
					nothing := make(chan *message.Message)
					close(nothing)
					return nothing, nil
				}
				return messages, err
			}},
		},
		{
			name:     "a closed publisher drops",
			breaks:   "Publish after Close returns no error, and the message is lost",
			killedBy: []string{"lifecycle/a closed publisher does not pretend"},
			fault: fault{publish: func(p *process, topic string, msgs []*message.Message) error {
				select {
				case <-p.closing:
					return nil
				default:
					return p.store(topic, msgs...)
				}
			}},
		},
		{
			name:     "subscriptions have no context",
			breaks:   "a subscription goes on when its context ends",
			killedBy: []string{"lifecycle/the end of its context ends a subscription"},
			fault: fault{subscribe: func(p *process, ctx context.Context, topic string) (<-chan *message.Message, error) {
				return p.start(context.WithoutCancel(ctx), topic)
			}},
		},
		{
			name:     "one context ends all",
			breaks:   "the end of one subscription's context ends the others of its subscriber",
			killedBy: []string{"lifecycle/the end of its context ends a subscription"},
			fault: fault{subscribe: func(p *process, ctx context.Context, topic string) (<-chan *message.Message, error) {
				context.AfterFunc(ctx, func() { _ = p.stop() })
				return p.start(ctx, topic)
			}},
		},
		{
			name:     "a goroutine stays",
			breaks:   "each subscription leaves a goroutine behind",
			killedBy: []string{"lifecycle/nothing runs on"},
			fault: fault{subscribe: func(p *process, ctx context.Context, topic string) (<-chan *message.Message, error) {
				go stall(time.Hour)
				return p.start(ctx, topic)
			}},
		},
	}
}
