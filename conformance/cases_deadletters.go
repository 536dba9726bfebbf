package conformance

import (
	"maps"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

func deadLetters() []Case {
	return theme("dead letters",
		promise("a dead letter moves",
			"A message that is given up arrives at the topic of its letter, with its id, its payload, its metadata and the letter's.",
			needsDeadLetter, deadLetterMoves),
		promise("a dead letter is gone where it was",
			"A message that was given up does not come again on its own topic.",
			needsDeadLetter, deadLetterIsGone),
		promise("a dead letter starts anew",
			"The failures and the handlers that were recorded before do not follow a dead letter.",
			needsDeadLetter|needsProgress, deadLetterStartsAnew),
		promise("a dead letter is a message",
			"A dead letter can be nacked, comes back, and can be given up again.",
			needsDeadLetter, deadLetterIsAMessage),
		promise("what is settled cannot be given up",
			"DeadLetter does nothing to a message that was acked or nacked.",
			needsDeadLetter, settledStays),
	)
}

// giveUp moves a message to a topic.
func giveUp(h *harness, msg *message.Message, topic string) {
	h.require(backend.DeadLetter(msg, backend.DeadLetterTarget{Topic: topic, Metadata: message.Metadata{backend.DeadLetterReason: "spoiled"}}),
		"DeadLetter returned false for a message that was not settled")
}

func deadLetterMoves(h *harness) {
	p, topic, dead := connect(h, PeerConfig{}), h.topic(), h.topic()
	in, deadInbox := p.subscribe(topic), p.subscribe(dead)
	sent := h.message("a")
	sent.Metadata.Set("k", "v")
	want := sent.Copy()
	want.Metadata.Set(backend.DeadLetterReason, "spoiled")
	p.send(topic, sent)
	giveUp(h, in.receive(), dead)
	got := deadInbox.receive()
	requireSame(h, got, want)
	h.require(maps.Equal(got.Metadata, want.Metadata), "the metadata of the letter are %q", got.Metadata)
	h.ack(got)
}

func deadLetterIsGone(h *harness) {
	p, topic, dead := connect(h, PeerConfig{}), h.topic(), h.topic()
	in, deadInbox := p.subscribe(topic), p.subscribe(dead)
	p.publish(topic, "a", "b")
	giveUp(h, in.receive(), dead)
	giveUp(h, in.receive(), dead)
	deadInbox.ackAll("a", "b")
	in.none(quietPeriod+2*h.system.Lease, "it was given up")
	deadInbox.none(quietPeriod, "it was acked")
}

func deadLetterStartsAnew(h *harness) {
	p, topic, dead := connect(h, PeerConfig{}), h.topic(), h.topic()
	in, deadInbox := p.subscribe(topic), p.subscribe(dead)
	p.publish(topic, "a")
	backend.Nack(in.receive(), backend.Redelivery{Failures: 7, Done: []string{"mail"}})
	giveUp(h, in.receive(), dead)
	deadLetter := deadInbox.receive()
	d := deliveryOf(h, deadLetter)
	h.require(d.Failures == 0 && len(d.Done) == 0, "a dead letter has %d failures, and %q are done", d.Failures, d.Done)
	h.ack(deadLetter)
}

func deadLetterIsAMessage(h *harness) {
	p, topic, dead, secondDead := connect(h, PeerConfig{}), h.topic(), h.topic(), h.topic()
	in, deadInbox, last := p.subscribe(topic), p.subscribe(dead), p.subscribe(secondDead)
	p.publish(topic, "a")
	giveUp(h, in.receive(), dead)
	h.nack(deadInbox.expect("a"))
	giveUp(h, deadInbox.expect("a"), secondDead)
	h.ack(last.expect("a"))
}

func settledStays(h *harness) {
	p, topic, dead := connect(h, PeerConfig{}), h.topic(), h.topic()
	in, deadInbox := p.subscribe(topic), p.subscribe(dead)
	p.publish(topic, "a")
	msg := in.receive()
	h.nack(msg)
	backend.DeadLetter(msg, backend.DeadLetterTarget{Topic: dead})
	msg = in.receive()
	h.ack(msg)
	h.require(!backend.DeadLetter(msg, backend.DeadLetterTarget{Topic: dead}), "DeadLetter returned true for a message that was acked")
	deadInbox.none(quietPeriod, "it was settled when it was given up")
}
