package conformance

import (
	"fmt"
	"time"

	"github.com/ezq-go/ezq/backend"
)

func redelivery() []Case {
	return theme("redelivery",
		promise("a nacked message comes back",
			"A message that was nacked comes again, and as it was.",
			0, nackedComesBack),
		promise("a nack loses nothing else",
			"Messages around one that is nacked arrive all the same.",
			0, nackLosesNothing),
		promise("deliveries are counted",
			"Each delivery knows its number, from 1.",
			needsAttempts, deliveriesAreCounted),
		promise("a nack's record is kept",
			"The failures and the handlers that a nack records are known to the next delivery.",
			needsProgress, recordIsKept),
		promise("the time of publishing stays",
			"If a delivery says when its message was published, that is when it was, also after a nack.",
			0, publishingTimeStays),
	)
}

func nackedComesBack(b *bench) {
	p, topic := b.connect(Options{}), b.topic()
	in := p.subscribe(topic)
	sent := b.message("a")
	sent.Metadata.Set("k", "v")
	want := sent.Copy()
	p.send(topic, sent)
	for range 4 {
		got := in.receive()
		b.requireSame(got, want)
		b.nack(got)
	}
	b.ack(in.receive())
	in.none(moment, "it was acked in the end")
}

func nackLosesNothing(b *bench) {
	p, topic := b.connect(Options{}), b.topic()
	in := p.subscribe(topic)
	p.publish(topic, numbered(50)...)
	b.nack(in.receive())
	b.nack(in.receive())
	in.ackAll(numbered(50)...)
}

func deliveriesAreCounted(b *bench) {
	p, topic := b.connect(Options{}), b.topic()
	in := p.subscribe(topic)
	p.publish(topic, "a")
	for number := 1; number <= 4; number++ {
		msg := in.receive()
		b.require(b.delivery(msg).Number == number, "delivery %d has the number %d", number, b.delivery(msg).Number)
		b.nack(msg)
	}
}

func recordIsKept(b *bench) {
	p, topic := b.connect(Options{}), b.topic()
	in := p.subscribe(topic)
	p.publish(topic, "a")
	first := in.receive()
	b.require(b.delivery(first).Failures == 0, "a new message has %d failures", b.delivery(first).Failures)
	backend.Nack(first, backend.Redelivery{Failures: 7, Done: []string{"mail", "bill ü"}})
	second := b.delivery(in.receive())
	b.require(second.Failures == 7, "7 failures were recorded, %d are known", second.Failures)
	b.require(fmt.Sprint(second.Done) == "[mail bill ü]", "the handlers mail and bill ü are done, known is %q", second.Done)
}

func publishingTimeStays(b *bench) {
	p, topic := b.connect(Options{}), b.topic()
	in := p.subscribe(topic)
	start := time.Now()
	p.publish(topic, "a")
	end := time.Now()
	for range 2 {
		msg := in.receive()
		if d := backend.DeliveryFromContext(msg.Context()); d != nil && !d.PublishedAt.IsZero() {
			b.require(!d.PublishedAt.Before(start.Add(-slack)) && !d.PublishedAt.After(end.Add(slack)),
				"a message that was published at %v says %v", start, d.PublishedAt)
		}
		time.Sleep(2 * slack)
		b.nack(msg)
	}
}
