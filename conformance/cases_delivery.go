package conformance

import (
	"fmt"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"
)

func delivery() []Case {
	return theme("delivery",
		promise("what is published arrives",
			"A message arrives as it was published: its id, its payload and its metadata.",
			0, arrivesAsPublished),
		promise("many arrive",
			"Each of 300 messages of several concurrent publishers arrives.",
			0, manyArrive),
		promise("an acked message is gone",
			"A message that was acked does not come again, neither to its subscription nor to a later one.",
			0, ackedIsGone),
		promise("nothing is published",
			"Publishing no messages is no error, and nothing arrives.",
			0, nothingIsPublished),
		promise("topics are apart",
			"A message arrives on the topic that it was published to and on no other.",
			0, topicsAreApart),
		promise("a message that waits does not hold up other topics",
			"While the messages of one topic are not settled, those of another arrive.",
			0, slowTopicStallsNoOther),
		promise("messages wait for their subscriber",
			"What is published before there is a subscriber, and after the publisher was closed, is delivered.",
			needsDurable, messagesWait),
		promise("what is stored cannot be changed",
			"What the publisher or a consumer does to its message does not change what is delivered next.",
			needsDurable, storedIsACopy),
	)
}

func arrivesAsPublished(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	in := p.subscribe(topic)
	sent := h.message("a")
	sent.Metadata.Set("tenant", "acme")
	sent.Metadata.Set("empty", "")
	p.send(topic, sent)
	got := in.receive()
	requireSame(h, got, sent)
	h.ack(got)
}

func manyArrive(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	in := p.subscribe(topic)
	var labels []string
	var publishing sync.WaitGroup
	for publisher := range 3 {
		for range 10 {
			var batch []string
			for range 10 {
				batch = append(batch, fmt.Sprint(len(labels)))
				labels = append(labels, fmt.Sprint(len(labels)))
			}
			if publisher == 0 {
				publishing.Go(func() { p.publish(topic, batch...) })
				continue
			}
			publishing.Go(func() {
				for _, label := range batch {
					p.publish(topic, label)
				}
			})
		}
	}
	in.ackAll(labels...)
	publishing.Wait()
}

func ackedIsGone(h *harness) {
	topic := h.topic()
	first := connect(h, PeerConfig{})
	in := first.subscribe(topic)
	first.publish(topic, numbered(20)...)
	in.ackAll(numbered(20)...)
	in.none(quietPeriod+3*h.system.Lease, "it was acked")
	first.mustClose()
	connect(h, PeerConfig{}).subscribe(topic).none(quietPeriod, "it was acked before its subscriber was closed")
}

func nothingIsPublished(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	in := p.subscribe(topic)
	p.send(topic)
	in.none(quietPeriod, "nothing was published")
}

func topicsAreApart(h *harness) {
	p, one, two := connect(h, PeerConfig{}), h.topic(), h.topic()
	first, second := p.subscribe(one), p.subscribe(two)
	p.publish(one, "one")
	p.publish(two, "two")
	h.ack(first.expect("one"))
	h.ack(second.expect("two"))
	first.none(quietPeriod, "it was published elsewhere")
	second.none(quietPeriod, "it was published elsewhere")
}

func slowTopicStallsNoOther(h *harness) {
	p, slow, fast := connect(h, PeerConfig{}), h.topic(), h.topic()
	lagging, in := p.subscribe(slow), p.subscribe(fast)
	p.publish(slow, numbered(20)...)
	lagging.receive() // and no other
	p.publish(fast, numbered(20)...)
	in.ackAll(numbered(20)...)
}

func messagesWait(h *harness) {
	topic := h.topic()
	first := connect(h, PeerConfig{})
	first.initialize(topic)
	first.publish(topic, numbered(20)...)
	first.mustClose()
	connect(h, PeerConfig{}).subscribe(topic).ackAll(numbered(20)...)
}

func storedIsACopy(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	p.initialize(topic)
	sent, want := h.message("a"), h.message("a")
	sent.Metadata.Set("k", "v")
	want.Metadata.Set("k", "v")
	spoil := func(msg *message.Message) {
		for i := range msg.Payload {
			msg.Payload[i] = 'X'
		}
		msg.Metadata.Set("k", "changed")
	}
	p.send(topic, sent)
	spoil(sent)
	in := p.subscribe(topic)
	for range 3 {
		got := in.receive()
		requireSame(h, got, want)
		spoil(got)
		h.nack(got)
	}
}
