package conformance

import (
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

func delays() []Case {
	return theme("delays",
		promise("a delayed message waits",
			"A message with a delay, or for a time, is not delivered sooner than that, and without undue delay then.",
			needsDelay, delayedWaits),
		promise("a delay outlasts a look at what is next",
			"A message whose delay is longer than six seconds comes when it is due, also if one that is due sooner was published after it.",
			needsDelay, delaysOutlastALook),
		promise("a nacked message waits as it was told to",
			"A message that is nacked with a delay is not delivered sooner than that, and without undue delay then.",
			needsRedelay, nackedWaits),
	)
}

func delayedWaits(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	in := p.subscribe(topic)
	d := noticeableDelay(h)
	for label, ask := range map[string]func(*message.Message){
		"by a delay": func(msg *message.Message) { backend.SetDelay(msg, d) },
		"by a time":  func(msg *message.Message) { backend.SetDeliverAt(msg, time.Now().Add(d)) },
	} {
		msg := h.message(label)
		start := time.Now()
		ask(msg)
		p.send(topic, msg)
		h.ack(in.expect(label))
		requireDelay(h, time.Since(start), d)
	}
}

// Backends look at what is due next in windows of some seconds, or remember when the next
// one is due. Neither may lose what is due later.
func delaysOutlastALook(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	in := p.subscribe(topic)
	sooner := max(6*time.Second, noticeableDelay(h))
	delays := map[string]time.Duration{"sooner": sooner, "later": sooner + noticeableDelay(h)}
	start := map[string]time.Time{}
	for _, label := range []string{"later", "sooner"} {
		msg := h.message(label)
		backend.SetDelay(msg, delays[label])
		start[label] = time.Now()
		p.send(topic, msg)
	}
	for range delays {
		msg := in.within(delays["later"] + h.timeout)
		h.require(msg != nil, "a delayed message did not come within %v of its time", h.timeout)
		label := h.label(msg)
		requireDelay(h, time.Since(start[label]), delays[label])
		h.ack(msg)
	}
}

func nackedWaits(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	in := p.subscribe(topic)
	d := noticeableDelay(h)
	p.publish(topic, "a")
	msg := in.receive()
	start := time.Now()
	backend.Nack(msg, backend.Redelivery{Delay: d})
	h.ack(in.receive())
	requireDelay(h, time.Since(start), d)
}
