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

func nackedComesBack(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	in := p.subscribe(topic)
	sent := h.message("a")
	sent.Metadata.Set("k", "v")
	want := sent.Copy()
	p.send(topic, sent)
	for range 4 {
		got := in.receive()
		requireSame(h, got, want)
		h.nack(got)
	}
	h.ack(in.receive())
	in.none(quietPeriod, "it was acked in the end")
}

func nackLosesNothing(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	in := p.subscribe(topic)
	p.publish(topic, numbered(50)...)
	h.nack(in.receive())
	h.nack(in.receive())
	in.ackAll(numbered(50)...)
}

func deliveriesAreCounted(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	in := p.subscribe(topic)
	p.publish(topic, "a")
	for number := 1; number <= 4; number++ {
		msg := in.receive()
		h.require(deliveryOf(h, msg).Number == number, "delivery %d has the number %d", number, deliveryOf(h, msg).Number)
		h.nack(msg)
	}
}

func recordIsKept(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	in := p.subscribe(topic)
	p.publish(topic, "a")
	first := in.receive()
	h.require(deliveryOf(h, first).Failures == 0, "a new message has %d failures", deliveryOf(h, first).Failures)
	backend.Nack(first, backend.Redelivery{Failures: 7, Done: []string{"mail", "bill ü"}})
	second := deliveryOf(h, in.receive())
	h.require(second.Failures == 7, "7 failures were recorded, %d are known", second.Failures)
	h.require(fmt.Sprint(second.Done) == "[mail bill ü]", "the handlers mail and bill ü are done, known is %q", second.Done)
}

func publishingTimeStays(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	in := p.subscribe(topic)
	start := time.Now()
	p.publish(topic, "a")
	end := time.Now()
	for range 2 {
		msg := in.receive()
		if d := backend.DeliveryFromContext(msg.Context()); d != nil && !d.PublishedAt.IsZero() {
			h.require(!d.PublishedAt.Before(start.Add(-slack)) && !d.PublishedAt.After(end.Add(slack)),
				"a message that was published at %v says %v", start, d.PublishedAt)
		}
		time.Sleep(2 * slack)
		h.nack(msg)
	}
}
