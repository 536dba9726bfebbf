package conformance

import (
	"context"
	"errors"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

func leases() []Case {
	return theme("leases",
		promise("a lease is renewed",
			"A message stays with its consumer for several leases, with a living context, and can be acked then.",
			needsLease, leaseIsRenewed),
		promise("a message that is held too long is taken away",
			"The context of a message that is held for longer than Hold ends, with the cause ErrLeaseLost, and not before.",
			needsLease, heldTooLong),
		promise("what is not heard of comes back",
			"A message that its consumer does not settle any more is delivered again.",
			needsLease, unsettledComesBack),
		promise("a late ack changes nothing",
			"An ack that comes when another delivery has the message does not remove it.",
			needsLease, lateAck),
		promise("a late nack changes nothing",
			"A nack that comes when another delivery has the message does not take it away from that.",
			needsLease, lateNack),
		promise("a lost message holds up no other",
			"A subscription that has lost a message goes on with others.",
			needsLease, lossHoldsUpNoOther),
	)
}

func leaseIsRenewed(b *bench) {
	one, two, topic := b.connect(Options{}), b.connect(Options{}), b.topic()
	first := one.subscribe(topic)
	one.publish(topic, "a")
	msg := first.expect("a")
	second := two.subscribe(topic)
	second.none(3*b.system.Lease, "its first consumer is still at it")
	b.require(msg.Context().Err() == nil, "the context of a message ended while its consumer was at it: %v",
		context.Cause(msg.Context()))
	b.ack(msg)
	second.none(moment+2*b.system.Lease, "it was acked")
}

func heldTooLong(b *bench) {
	hold := 2 * b.system.Lease
	p, topic := b.connect(Options{Hold: hold}), b.topic()
	in := p.subscribe(topic)
	p.publish(topic, "a")
	msg := in.receive()
	start := time.Now()
	b.awaitLoss(msg)
	took := time.Since(start)
	b.require(took >= b.system.Lease, "the message was taken away after %v instead of %v", took, hold)
	b.require(took <= hold+b.system.Lease+b.late(), "the message was taken away after %v instead of %v", took, hold)
}

func unsettledComesBack(b *bench) {
	_, again, _ := b.lose()
	b.ack(again)
}

func lateAck(b *bench) {
	lost, again, ins := b.lose()
	lost.Ack()
	time.Sleep(b.pause())
	b.nack(again)
	third := b.either(ins)
	b.ack(third)
	ins[1].none(moment, "it was acked")
}

func lateNack(b *bench) {
	lost, again, ins := b.lose()
	lost.Nack()
	ins[0].none(b.pause(), "another delivery has it")
	ins[1].none(b.pause(), "another delivery has it")
	b.ack(again)
	ins[0].none(moment, "it was acked")
	ins[1].none(moment, "it was acked")
}

func lossHoldsUpNoOther(b *bench) {
	p, topic := b.connect(Options{Hold: b.system.Lease}), b.topic()
	in := p.subscribe(topic)
	p.publish(topic, "lost")
	b.awaitLoss(in.expect("lost"))
	labels := numbered(20)
	p.publish(topic, labels...)
	in.ackAll(append(labels, "lost")...)
}

// lose has a message delivered whose consumer keeps it for too long, and then again.
// It returns both deliveries, and where another one may come. The second delivery is
// to be settled within a lease.
func (b *bench) lose() (lost, again *message.Message, ins [2]*inbox) {
	holder, other, topic := b.connect(Options{Hold: b.system.Lease}), b.connect(Options{}), b.topic()
	ins[0] = holder.subscribe(topic)
	holder.publish(topic, "a")
	lost = ins[0].expect("a")
	ins[1] = other.subscribe(topic)
	b.awaitLoss(lost)
	return lost, b.either(ins), ins
}

// pause is time enough for a backend to do what it should not, and well within a lease.
func (b *bench) pause() time.Duration {
	return min(moment, b.system.Lease/8)
}

// awaitLoss waits for the context of a message to end, because the message was lost.
func (b *bench) awaitLoss(msg *message.Message) {
	b.awaitEnd(msg, "it was held for too long")
	cause := context.Cause(msg.Context())
	b.require(errors.Is(cause, backend.ErrLeaseLost), "the context ended with the cause %q instead of ErrLeaseLost", cause)
}

// awaitEnd waits for the context of a message to end.
func (b *bench) awaitEnd(msg *message.Message, why string) {
	b.require(closedWithin(msg.Context().Done(), b.patience),
		"the context of a message had not ended %v later, although %s", b.patience, why)
}

// either receives from the first of two subscriptions that has a message.
func (b *bench) either(ins [2]*inbox) *message.Message {
	timer := time.NewTimer(b.patience)
	defer timer.Stop()
	select {
	case msg, open := <-ins[0].messages:
		return ins[0].took(msg, open)
	case msg, open := <-ins[1].messages:
		return ins[1].took(msg, open)
	case <-timer.C:
	}
	b.fail("no message came within %v", b.patience)
	return nil
}
