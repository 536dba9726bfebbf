package conformance

import (
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

// slack is by how much clocks may disagree within a case: they may be those of two
// machines, and round.
const slack = 100 * time.Millisecond

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
	p, topic := h.connect(Options{}), h.topic()
	in := p.subscribe(topic)
	d := h.delay()
	for label, ask := range map[string]func(*message.Message){
		"by a delay": func(msg *message.Message) { backend.SetDelay(msg, d) },
		"by a time":  func(msg *message.Message) { backend.SetDeliverAt(msg, time.Now().Add(d)) },
	} {
		msg := h.message(label)
		start := time.Now()
		ask(msg)
		p.send(topic, msg)
		h.ack(in.expect(label))
		h.requireDelay(time.Since(start), d)
	}
}

// Backends look at what is due next in windows of some seconds, or remember when the next
// one is due. Neither may lose what is due later.
func delaysOutlastALook(h *harness) {
	p, topic := h.connect(Options{}), h.topic()
	in := p.subscribe(topic)
	sooner := max(6*time.Second, h.delay())
	delays := map[string]time.Duration{"sooner": sooner, "later": sooner + h.delay()}
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
		h.requireDelay(time.Since(start[label]), delays[label])
		h.ack(msg)
	}
}

func nackedWaits(h *harness) {
	p, topic := h.connect(Options{}), h.topic()
	in := p.subscribe(topic)
	d := h.delay()
	p.publish(topic, "a")
	msg := in.receive()
	start := time.Now()
	backend.Nack(msg, backend.Redelivery{Delay: d})
	h.ack(in.receive())
	h.requireDelay(time.Since(start), d)
}

// delay is one that the backend can keep apart from none.
func (h *harness) delay() time.Duration {
	return max(time.Second, 2*h.promises.DelayResolution)
}

// requireDelay ends the case unless something took about as long as it should.
func (h *harness) requireDelay(took, want time.Duration) {
	h.require(took >= want-slack-h.promises.DelayResolution, "it came after %v instead of %v", took, want)
	h.require(took <= want+h.tolerance(), "it came after %v instead of %v", took, want)
}

// tolerance is how much later than it should something may come: next to nothing in virtual
// time, and what a machine under load may take in real time.
func (h *harness) tolerance() time.Duration {
	if h.suite.virtual {
		return slack
	}
	return 15*time.Second + h.promises.DelayResolution
}

// delivery returns what the backend knows about the delivery of msg.
func (h *harness) delivery(msg *message.Message) *backend.Delivery {
	d := backend.DeliveryFromContext(msg.Context())
	h.require(d != nil, "there is no backend.Delivery in the context of a message")
	return d
}
