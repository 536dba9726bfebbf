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
		promise("a lease is extended",
			"A message stays with its consumer for several leases, with a living context, and can be acked then.",
			needsLease, leaseIsExtended),
		promise("a message that is held too long is taken away",
			"The context of a message that is held for longer than MaxExtension ends, with the cause ErrLeaseLost, and not before.",
			needsLease, extensionEnds),
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

func leaseIsExtended(h *harness) {
	one, two, topic := connect(h, PeerConfig{}), connect(h, PeerConfig{}), h.topic()
	first := one.subscribe(topic)
	one.publish(topic, "a")
	msg := first.expect("a")
	second := two.subscribe(topic)
	second.none(3*h.system.Lease, "its first consumer is still at it")
	h.require(msg.Context().Err() == nil, "the context of a message ended while its consumer was at it: %v",
		context.Cause(msg.Context()))
	h.ack(msg)
	second.none(quietPeriod+2*h.system.Lease, "it was acked")
}

func extensionEnds(h *harness) {
	maxExtension := 2 * h.system.Lease
	p, topic := connect(h, PeerConfig{MaxExtension: maxExtension}), h.topic()
	in := p.subscribe(topic)
	p.publish(topic, "a")
	msg := in.receive()
	start := time.Now()
	awaitLoss(h, msg)
	took := time.Since(start)
	h.require(took >= h.system.Lease, "the message was taken away after %v instead of %v", took, maxExtension)
	h.require(took <= maxExtension+h.system.Lease+tolerance(h), "the message was taken away after %v instead of %v", took, maxExtension)
}

func unsettledComesBack(h *harness) {
	_, again, _ := loseMessage(h)
	h.ack(again)
}

func lateAck(h *harness) {
	lost, again, ins := loseMessage(h)
	lost.Ack()
	time.Sleep(pauseWithinLease(h))
	h.nack(again)
	third := receiveEither(h, ins)
	h.ack(third)
	ins[1].none(quietPeriod, "it was acked")
}

func lateNack(h *harness) {
	lost, again, ins := loseMessage(h)
	lost.Nack()
	ins[0].none(pauseWithinLease(h), "another delivery has it")
	ins[1].none(pauseWithinLease(h), "another delivery has it")
	h.ack(again)
	ins[0].none(quietPeriod, "it was acked")
	ins[1].none(quietPeriod, "it was acked")
}

func lossHoldsUpNoOther(h *harness) {
	p, topic := connect(h, PeerConfig{MaxExtension: h.system.Lease}), h.topic()
	in := p.subscribe(topic)
	p.publish(topic, "lost")
	awaitLoss(h, in.expect("lost"))
	labels := numbered(20)
	p.publish(topic, labels...)
	in.ackAll(append(labels, "lost")...)
}

// loseMessage has a message delivered whose consumer keeps it for too long, and then again.
// It returns both deliveries, and where another one may come. The second delivery is
// to be settled within a lease.
func loseMessage(h *harness) (lost, again *message.Message, ins [2]*inbox) {
	first, other, topic := connect(h, PeerConfig{MaxExtension: h.system.Lease}), connect(h, PeerConfig{}), h.topic()
	ins[0] = first.subscribe(topic)
	first.publish(topic, "a")
	lost = ins[0].expect("a")
	ins[1] = other.subscribe(topic)
	awaitLoss(h, lost)
	return lost, receiveEither(h, ins), ins
}

// pauseWithinLease is time enough for a backend to do what it should not, and well within a lease.
func pauseWithinLease(h *harness) time.Duration {
	return min(quietPeriod, h.system.Lease/8)
}

// awaitLoss waits for the context of a message to end, because the message was lost.
func awaitLoss(h *harness, msg *message.Message) {
	awaitContextEnd(h, msg, "it was held for too long")
	cause := context.Cause(msg.Context())
	h.require(errors.Is(cause, backend.ErrLeaseLost), "the context ended with the cause %q instead of ErrLeaseLost", cause)
}
