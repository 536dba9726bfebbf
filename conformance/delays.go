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

func delayedWaits(b *bench) {
	p, topic := b.connect(Options{}), b.topic()
	in := p.subscribe(topic)
	d := b.delay()
	for label, ask := range map[string]func(*message.Message){
		"by a delay": func(msg *message.Message) { backend.SetDelay(msg, d) },
		"by a time":  func(msg *message.Message) { backend.SetDeliverAt(msg, time.Now().Add(d)) },
	} {
		msg := b.message(label)
		start := time.Now()
		ask(msg)
		p.send(topic, msg)
		b.ack(in.expect(label))
		b.requireDelay(time.Since(start), d)
	}
}

// Backends look at what is due next in windows of some seconds, or remember when the next
// one is due. Neither may lose what is due later.
func delaysOutlastALook(b *bench) {
	p, topic := b.connect(Options{}), b.topic()
	in := p.subscribe(topic)
	sooner := max(6*time.Second, b.delay())
	delays := map[string]time.Duration{"sooner": sooner, "later": sooner + b.delay()}
	start := map[string]time.Time{}
	for _, label := range []string{"later", "sooner"} {
		msg := b.message(label)
		backend.SetDelay(msg, delays[label])
		start[label] = time.Now()
		p.send(topic, msg)
	}
	for range delays {
		msg := in.within(delays["later"] + b.patience)
		b.require(msg != nil, "a delayed message did not come within %v of its time", b.patience)
		label := b.label(msg)
		b.requireDelay(time.Since(start[label]), delays[label])
		b.ack(msg)
	}
}

func nackedWaits(b *bench) {
	p, topic := b.connect(Options{}), b.topic()
	in := p.subscribe(topic)
	d := b.delay()
	p.publish(topic, "a")
	msg := in.receive()
	start := time.Now()
	backend.Nack(msg, backend.Redelivery{Delay: d})
	b.ack(in.receive())
	b.requireDelay(time.Since(start), d)
}

// delay is one that the backend can keep apart from none.
func (b *bench) delay() time.Duration {
	return max(time.Second, 2*b.promises.DelayResolution)
}

// requireDelay ends the case unless something took about as long as it should.
func (b *bench) requireDelay(took, want time.Duration) {
	b.require(took >= want-slack-b.promises.DelayResolution, "it came after %v instead of %v", took, want)
	b.require(took <= want+b.late(), "it came after %v instead of %v", took, want)
}

// late is how much later than it should something may come: next to nothing in virtual
// time, and what a machine under load may take in real time.
func (b *bench) late() time.Duration {
	if b.suite.virtual {
		return slack
	}
	return 15*time.Second + b.promises.DelayResolution
}

// delivery returns what the backend knows about the delivery of msg.
func (b *bench) delivery(msg *message.Message) *backend.Delivery {
	d := backend.DeliveryFromContext(msg.Context())
	b.require(d != nil, "there is no backend.Delivery in the context of a message")
	return d
}
