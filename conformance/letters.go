package conformance

import (
	"maps"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

func letters() []Case {
	return theme("dead letters",
		promise("a dead letter moves",
			"A message that is given up arrives at the topic of its letter, with its id, its payload, its metadata and the letter's.",
			needsDeadLetter, letterMoves),
		promise("a dead letter is gone where it was",
			"A message that was given up does not come again on its own topic.",
			needsDeadLetter, letterIsGone),
		promise("a dead letter starts anew",
			"The failures and the handlers that were recorded before do not follow a dead letter.",
			needsDeadLetter|needsProgress, letterStartsAnew),
		promise("a dead letter is a message",
			"A dead letter can be nacked, comes back, and can be given up again.",
			needsDeadLetter, letterIsAMessage),
		promise("what is settled cannot be given up",
			"DeadLetter does nothing to a message that was acked or nacked.",
			needsDeadLetter, settledStays),
	)
}

// giveUp moves a message to a topic.
func (b *bench) giveUp(msg *message.Message, topic string) {
	b.require(backend.DeadLetter(msg, backend.DeadLetterTarget{Topic: topic, Metadata: message.Metadata{backend.DeadLetterReason: "spoiled"}}),
		"DeadLetter returned false for a message that was not settled")
}

func letterMoves(b *bench) {
	p, topic, dead := b.connect(Options{}), b.topic(), b.topic()
	in, letters := p.subscribe(topic), p.subscribe(dead)
	sent := b.message("a")
	sent.Metadata.Set("k", "v")
	want := sent.Copy()
	want.Metadata.Set(backend.DeadLetterReason, "spoiled")
	p.send(topic, sent)
	b.giveUp(in.receive(), dead)
	got := letters.receive()
	b.requireSame(got, want)
	b.require(maps.Equal(got.Metadata, want.Metadata), "the metadata of the letter are %q", got.Metadata)
	b.ack(got)
}

func letterIsGone(b *bench) {
	p, topic, dead := b.connect(Options{}), b.topic(), b.topic()
	in, letters := p.subscribe(topic), p.subscribe(dead)
	p.publish(topic, "a", "b")
	b.giveUp(in.receive(), dead)
	b.giveUp(in.receive(), dead)
	letters.ackAll("a", "b")
	in.none(moment+2*b.system.Lease, "it was given up")
	letters.none(moment, "it was acked")
}

func letterStartsAnew(b *bench) {
	p, topic, dead := b.connect(Options{}), b.topic(), b.topic()
	in, letters := p.subscribe(topic), p.subscribe(dead)
	p.publish(topic, "a")
	backend.Nack(in.receive(), backend.Redelivery{Failures: 7, Done: []string{"mail"}})
	b.giveUp(in.receive(), dead)
	letter := letters.receive()
	d := b.delivery(letter)
	b.require(d.Failures == 0 && len(d.Done) == 0, "a dead letter has %d failures, and %q are done", d.Failures, d.Done)
	b.ack(letter)
}

func letterIsAMessage(b *bench) {
	p, topic, dead, grave := b.connect(Options{}), b.topic(), b.topic(), b.topic()
	in, letters, last := p.subscribe(topic), p.subscribe(dead), p.subscribe(grave)
	p.publish(topic, "a")
	b.giveUp(in.receive(), dead)
	b.nack(letters.expect("a"))
	b.giveUp(letters.expect("a"), grave)
	b.ack(last.expect("a"))
}

func settledStays(b *bench) {
	p, topic, dead := b.connect(Options{}), b.topic(), b.topic()
	in, letters := p.subscribe(topic), p.subscribe(dead)
	p.publish(topic, "a")
	msg := in.receive()
	b.nack(msg)
	backend.DeadLetter(msg, backend.DeadLetterTarget{Topic: dead})
	msg = in.receive()
	b.ack(msg)
	b.require(!backend.DeadLetter(msg, backend.DeadLetterTarget{Topic: dead}), "DeadLetter returned true for a message that was acked")
	letters.none(moment, "it was settled when it was given up")
}
