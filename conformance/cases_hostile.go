package conformance

import (
	"fmt"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/components/delay"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

func hostile() []Case {
	return theme("hostile input",
		promise("odd metadata",
			"Metadata that is not text, or very long, is delivered as it was sent, or Publish returns an error.",
			0, oddMetadata),
		promise("no metadata at all",
			"A message whose Metadata is nil is delivered.",
			0, nilMetadata),
		promise("an odd id",
			"An id that is not text is delivered as it was sent, or Publish returns an error.",
			0, oddID),
		promise("what is refused does not hold up the rest",
			"After a Publish that returned an error, the publisher and the subscription go on.",
			0, refusalIsLocal),
		promise("a huge delay",
			"A delay of centuries is refused with an error, or waits; the message does not come at once.",
			needsDelay, hugeDelay),
		promise("a delay that is none",
			"A delay that cannot be read is an error of Publish.",
			needsDelay, delayThatIsNone),
		promise("a delay that is past",
			"A negative delay, or a time that is past, is none.",
			needsDelay, pastDelay),
	)
}

// requireArrivalOrRefusal publishes messages. Each must arrive as it was, or be refused.
func requireArrivalOrRefusal(h *harness, msgs ...*message.Message) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	in := p.subscribe(topic)
	for _, sent := range msgs {
		want := sent.Copy()
		if !p.trySend(topic, sent) {
			continue
		}
		got := in.receive()
		requireSame(h, got, want)
		h.ack(got)
	}
}

func oddMetadata(h *harness) {
	var msgs []*message.Message
	for i, pair := range [][2]string{
		{"", "no key"},
		{"nul", "a\x00b"},
		{"n\x00l", "a"},
		{"bytes", "\xff\xfe"},
		{"b\xff", "a"},
		{"u", "\u0000\ufffd\u2028"},
		{"long", strings.Repeat("x", 64<<10)},
		{strings.Repeat("k", 2000), "long key"},
		{"escape", `\u0000`},
	} {
		msg := h.message(fmt.Sprint(i))
		msg.Metadata.Set(pair[0], pair[1])
		msgs = append(msgs, msg)
	}
	requireArrivalOrRefusal(h, msgs...)
}

func nilMetadata(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	in := p.subscribe(topic)
	msg := h.message("a")
	msg.Metadata = nil
	p.send(topic, msg)
	h.ack(in.expect("a"))
}

func oddID(h *harness) {
	msgs := h.messages("0", "1", "2")
	msgs[0].UUID, msgs[1].UUID, msgs[2].UUID = "\x00", "\xff\xfe", strings.Repeat("i", 8<<10)
	requireArrivalOrRefusal(h, msgs...)
}

func refusalIsLocal(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	in := p.subscribe(topic)
	labels := []string{"before", "after"}
	p.publish(topic, "before")
	for i, key := range []string{"n\x00l", "b\xff"} {
		msg := h.message(fmt.Sprint(i))
		msg.Metadata.Set(key, key)
		if p.trySend(topic, msg) {
			labels = append(labels, fmt.Sprint(i))
		}
	}
	p.publish(topic, "after")
	in.ackAll(labels...)
}

func hugeDelay(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	in := p.subscribe(topic)
	for i, ask := range []func(*message.Message){
		func(msg *message.Message) { backend.SetDelay(msg, 250*365*24*time.Hour) },
		func(msg *message.Message) { backend.SetDelay(msg, 1<<63-1) },
		func(msg *message.Message) { backend.SetDeliverAt(msg, time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)) },
	} {
		msg := h.message(fmt.Sprint(i))
		ask(msg)
		p.trySend(topic, msg)
	}
	in.none(quietPeriod, "it has a delay of centuries")
	p.publish(topic, "after")
	h.ack(in.expect("after"))
}

func delayThatIsNone(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	p.initialize(topic)
	for _, key := range []string{delay.DelayedForKey, delay.DelayedUntilKey} {
		msg := h.message("a")
		msg.Metadata.Set(key, "soon")
		h.require(!p.trySend(topic, msg), "a message with the metadata %s: %q was accepted", key, "soon")
	}
}

func pastDelay(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	in := p.subscribe(topic)
	msgs := h.messages("0", "1")
	msgs[0].Metadata.Set(delay.DelayedForKey, "-1h")
	backend.SetDeliverAt(msgs[1], time.Now().Add(-time.Hour))
	p.send(topic, msgs...)
	start := time.Now()
	in.ackAll("0", "1")
	requireDelay(h, time.Since(start), 0)
}
