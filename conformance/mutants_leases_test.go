package conformance_test

import (
	"context"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
)

// hiding returns whether a message may be handed over: not if it is marked as gone.
func hiding(d *delivery) bool {
	if d.count("gone "+d.msg.UUID) > 0 {
		d.msg.Ack()
		return false
	}
	return true
}

func leaseMutants() []mutant {
	return []mutant{
		{
			name:     "leases are not extended",
			breaks:   "a message is taken away from a consumer that is still at it after one lease",
			killedBy: []string{"leases/a lease is extended"},
			fault:    fault{config: func(c *memory.Config) { c.MaxExtension = brokerLease }},
		},
		{
			name:     "leases are extended for ever",
			breaks:   "a message is never taken away from a consumer that keeps it",
			killedBy: []string{"leases/a message that is held too long is taken away", "leases/what is not heard of comes back"},
			fault:    fault{config: func(c *memory.Config) { c.MaxExtension = 0 }},
		},
		{
			name:     "a lost lease is not told",
			breaks:   "the context of a message ends without the cause ErrLeaseLost",
			killedBy: []string{"leases/a message that is held too long is taken away"},
			fault:    withoutCause(),
		},
		{
			name:     "who loses a message loses it for all",
			breaks:   "a message that was taken away from its consumer comes to no other",
			killedBy: []string{"leases/what is not heard of comes back"},
			fault: fault{interception: interception{
				lost:    func(d *delivery) { d.increment("gone " + d.msg.UUID) },
				deliver: hiding,
			}},
		},
		{
			name:     "a late ack counts",
			breaks:   "an ack removes a message that another consumer has",
			killedBy: []string{"leases/a late ack changes nothing"},
			fault: fault{interception: interception{
				ack: func(d *delivery) {
					if d.leaseLost() {
						d.increment("gone " + d.msg.UUID)
					}
					d.msg.Ack()
				},
				deliver: hiding,
			}},
		},
		{
			name:     "a late nack counts",
			breaks:   "a nack makes a message visible that another consumer has",
			killedBy: []string{"leases/a late nack changes nothing"},
			fault: settling(func(d *delivery, v backend.Disposition) {
				if d.leaseLost() {
					_ = d.store(d.topic, d.handed.Copy())
				}
				d.settleAs(v)
			}),
		},
		{
			name:     "who loses a message gets no other",
			breaks:   "a subscription stops when the lease of one of its messages is lost",
			killedBy: []string{"leases/a lost message holds up no other"},
			fault: fault{interception: interception{
				lost:    func(d *delivery) { d.increment("lost") },
				deliver: func(d *delivery) bool { return d.requireUnmarked("lost") },
			}},
		},
	}
}

func orderMutants() []mutant {
	return []mutant{
		{
			name:     "more is in flight than was asked for",
			breaks:   "a message is handed over before the one before it is settled",
			killedBy: []string{"ordering/one in flight is one"},
			fault:    fault{config: func(c *memory.Config) { c.MaxInFlight = 0 }},
		},
		{
			name:     "what was fetched goes to the end",
			breaks:   "what had not been received when its subscription ended comes after what was published later",
			killedBy: []string{"ordering/the order outlives a subscription"},
			fault: fault{interception: interception{unreceived: func(d *delivery) {
				known := backend.DeliveryFromContext(d.msg.Context())
				d.settleAs(backend.Disposition{Fallback: backend.Redelivery{Failures: known.Failures, Done: known.Done}})
			}}},
		},
	}
}

// withoutCause returns the flaw of ending contexts without a cause.
func withoutCause() fault {
	return fault{interception: interception{deliver: func(d *delivery) bool {
		ctx, cancel := context.WithCancel(context.WithoutCancel(d.handed.Context()))
		context.AfterFunc(d.msg.Context(), cancel)
		d.handed.SetContext(ctx)
		return true
	}}}
}

func contextMutants() []mutant {
	return []mutant{
		{
			name:   "contexts do not end",
			breaks: "the context of a message lives on when it is settled, lost or interrupted",
			killedBy: []string{
				"stopping/a context ends with its message", "stopping/Close ends the contexts",
				"leases/a message that is held too long is taken away",
				"control events/InterruptEvent interrupts", "stopping a router/who takes too long is interrupted",
			},
			fault: fault{interception: interception{deliver: func(d *delivery) bool {
				d.handed.SetContext(context.WithoutCancel(d.handed.Context()))
				return true
			}}},
		},
		{
			name:     "contexts end too soon",
			breaks:   "the context of a message ends before the message is settled",
			killedBy: []string{"stopping/a context ends with its message", "leases/a lease is extended"},
			fault: fault{interception: interception{deliver: func(d *delivery) bool {
				ctx, cancel := context.WithTimeout(d.handed.Context(), 100*time.Millisecond)
				context.AfterFunc(ctx, cancel)
				d.handed.SetContext(ctx)
				return true
			}}},
		},
		{
			name:     "contexts end without a cause",
			breaks:   "a message is not told why its subscription ended",
			killedBy: []string{"stopping/who does not wait says so"},
			fault:    withoutCause(),
		},
		{
			name:     "contexts end with Stopping",
			breaks:   "who has stopped cannot finish",
			killedBy: []string{"stopping/contexts live while their consumer drains", "stopping a router/handlers finish"},
			fault: fault{interception: interception{deliver: func(d *delivery) bool {
				ctx, cancel := context.WithCancel(d.handed.Context())
				d.handed.SetContext(ctx)
				d.deliveries.Go(func() {
					defer cancel()
					select {
					case <-d.stopping:
					case <-d.done:
					}
				})
				return true
			}}},
		},
	}
}

// consuming returns the flaw of seeing another consumer than the one that subscribes.
func consuming(change func(*backend.Consumer)) fault {
	return fault{subscribe: func(p *process, ctx context.Context, topic string) (<-chan *message.Message, error) {
		consumer := backend.ConsumerFromContext(ctx)
		change(&consumer)
		return p.start(backend.WithConsumer(ctx, consumer), topic)
	}}
}
