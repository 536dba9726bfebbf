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

func oneInFlightIsInOrder(h *harness) {
	p, topic := connect(h, PeerConfig{MaxInFlight: 1}), h.topic()
	in := p.subscribe(topic)
	labels := numbered(60)
	p.publish(topic, labels[:40]...)
	for _, label := range labels[40:] {
		p.publish(topic, label)
	}
	for _, label := range labels {
		h.ack(in.expect(label))
	}
}

func oneInFlightIsOne(h *harness) {
	p, topic := connect(h, PeerConfig{MaxInFlight: 1}), h.topic()
	in := p.subscribe(topic)
	p.publish(topic, "0", "1")
	first := in.expect("0")
	in.none(quietPeriod, "the message before it is not settled")
	h.ack(first)
	h.ack(in.expect("1"))
}

func orderOutlivesSubscription(h *harness) {
	topic, labels := h.topic(), numbered(30)
	for start := 0; start < len(labels); start += 10 {
		p := connect(h, PeerConfig{MaxInFlight: 1})
		in := p.subscribe(topic)
		if start == 0 {
			p.publish(topic, labels...)
		}
		for _, label := range labels[start : start+10] {
			h.ack(in.expect(label))
		}
		time.Sleep(quietPeriod) // so the next one has been fetched, where that is done ahead
		p.mustClose()
	}
}
