package conformance

import "time"

func ordering() []Case {
	return theme("ordering",
		promise("one in flight is in order",
			"With one message in flight, messages arrive in the order in which they were published, in one call or in several.",
			needsOrdered, oneInFlightIsInOrder),
		promise("one in flight is one",
			"With one message in flight, the next one arrives only when it is settled.",
			needsOrdered, oneInFlightIsOne),
		promise("the order outlives a subscription",
			"A subscription goes on where the one before it ended, in order, also with what that one had fetched.",
			needsOrdered|needsDurable, orderOutlivesSubscription),
	)
}

func oneInFlightIsInOrder(b *bench) {
	p, topic := b.connect(Options{InFlight: 1}), b.topic()
	in := p.subscribe(topic)
	labels := numbered(60)
	p.publish(topic, labels[:40]...)
	for _, label := range labels[40:] {
		p.publish(topic, label)
	}
	for _, label := range labels {
		b.ack(in.expect(label))
	}
}

func oneInFlightIsOne(b *bench) {
	p, topic := b.connect(Options{InFlight: 1}), b.topic()
	in := p.subscribe(topic)
	p.publish(topic, "0", "1")
	first := in.expect("0")
	in.none(moment, "the message before it is not settled")
	b.ack(first)
	b.ack(in.expect("1"))
}

func orderOutlivesSubscription(b *bench) {
	topic, labels := b.topic(), numbered(30)
	for start := 0; start < len(labels); start += 10 {
		p := b.connect(Options{InFlight: 1})
		in := p.subscribe(topic)
		if start == 0 {
			p.publish(topic, labels...)
		}
		for _, label := range labels[start : start+10] {
			b.ack(in.expect(label))
		}
		time.Sleep(moment) // so the next one has been fetched, where that is done ahead
		p.mustClose()
	}
}
