package conformance

import (
	"strings"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

func patterns() []Case {
	return theme("patterns",
		promise("a star is one segment",
			"A group that subscribes to orders.* gets what is published to orders.eu, and not to orders or orders.eu.paid.",
			needsGroups|needsPatterns, starIsSegment),
		promise("a hash is any text",
			"A group that subscribes to orders.# gets what is published to orders.eu and orders.eu.paid, and not to orders; what is behind a # has to be there.",
			needsGroups|needsPatterns, hashIsText),
		promise("a pattern reads topics as they are written",
			"A * also takes a segment with capitals, spaces, other characters than those of ASCII, or a * of its own.",
			needsGroups|needsPatterns, patternReadsTopics),
		promise("a message says its topic",
			"What comes by a pattern says the topic that it was published to, in each delivery; what comes to a topic does not.",
			needsGroups|needsPatterns, messageSaysTopic),
		promise("a pattern takes nothing away",
			"A topic that a pattern matches has its own consumers and groups, as before, and each gets everything.",
			needsGroups|needsPatterns, patternTakesNothing),
		promise("a pattern may come at any time",
			"A pattern that comes after publishers have begun also gets what they publish from then on, to old topics and to new ones.",
			needsGroups|needsPatterns, patternComesLate),
		promise("dead letters come by no pattern",
			"What is published to the dead-letter topic of a topic comes to no group by a pattern.",
			needsGroups|needsPatterns, deadLettersComeByNoPattern),
		promise("a pattern is no topic",
			"Publishing to a pattern is refused, and subscribing to one without a group, or to one that means nothing.",
			needsGroups|needsPatterns, patternIsNoTopic),
	)
}

// publishEach publishes a message to each topic, which its label is.
func publishEach(h *harness, p *peer, topics ...string) {
	for _, topic := range topics {
		p.send(topic, message.NewMessage(h.id+topic[:min(len(topic), 100)], []byte(h.id+"-"+topic)))
	}
}

// requireMatched ends the case if another set of the topics than these matches.
func requireMatched(h *harness, pattern string, matched, others []string) {
	in := connect(h, PeerConfig{Group: "one"}).subscribe(pattern)
	publishEach(h, connect(h, PeerConfig{}), append(others, matched...)...)
	in.ackAll(matched...)
	in.none(quietPeriod, "it was published to a topic that the pattern does not match")
}

func starIsSegment(h *harness) {
	t := h.topic()
	requireMatched(h, t+".*", []string{t + ".eu", t + ".us"}, []string{t, t + ".eu.paid", t + "x", "x" + t + ".eu", t + "_eu"})
	t = h.topic()
	requireMatched(h, t+".*.paid", []string{t + ".eu.paid"}, []string{t + ".paid", t + ".eu.de.paid", t + ".eu"})
}

func hashIsText(h *harness) {
	t := h.topic()
	requireMatched(h, t+".#", []string{t + ".eu", t + ".eu.paid"}, []string{t, t + "x", "x." + t + ".eu"})
	t = h.topic()
	requireMatched(h, t+".#.paid", []string{t + ".eu.paid", t + ".eu.de.paid"}, []string{t + ".paid", t + ".eu", t + ".eu.paid.x"})
}

func patternReadsTopics(h *harness) {
	t := h.topic()
	requireMatched(h, t+".*", []string{t + ".EU", t + ".größe 日本", t + ".a b/c'\"", t + ".C#", t + "." + strings.Repeat("x", 300)}, []string{t + ".größe.日本", strings.ToUpper(t) + ".eu"})
}

func messageSaysTopic(h *harness) {
	t := h.topic()
	p := connect(h, PeerConfig{Group: "one"})
	in, exact := p.subscribe(t+".*"), connect(h, PeerConfig{Group: "two"}).subscribe(t+".größe %")
	publishEach(h, p, t+".größe %")
	for delivery := range 3 {
		msg := in.receive()
		d := backend.DeliveryFromContext(msg.Context())
		h.require(d != nil && d.PublishedTo == t+".größe %", "in the delivery %d, a message does not say the topic that it was published to", delivery+1)
		if delivery < 2 {
			h.nack(msg)
		} else {
			h.ack(msg)
		}
	}
	msg := exact.receive()
	d := backend.DeliveryFromContext(msg.Context())
	h.require(d == nil || d.PublishedTo == "", "a message that did not come by a pattern says a topic")
	h.ack(msg)
}

func patternTakesNothing(h *harness) {
	t := h.topic()
	plain, exact := connect(h, PeerConfig{}).subscribe(t+".plain"), connect(h, PeerConfig{Group: "one"}).subscribe(t+".exact")
	one, two := connect(h, PeerConfig{Group: "one"}).subscribe(t+".*"), connect(h, PeerConfig{Group: "two"}).subscribe(t+".#")
	publishEach(h, connect(h, PeerConfig{}), t+".plain", t+".exact", t+".new")
	plain.ackAll(t + ".plain")
	exact.ackAll(t + ".exact")
	for _, in := range [...]*inbox{one, two} {
		in.ackAll(t+".plain", t+".exact", t+".new")
	}
}

func patternComesLate(h *harness) {
	t := h.topic()
	publisher := connect(h, PeerConfig{})
	exact := connect(h, PeerConfig{Group: "one"}).subscribe(t + ".old")
	publishEach(h, publisher, t+".old")
	exact.ackAll(t + ".old")
	in := connect(h, PeerConfig{Group: "two"}).subscribe(t + ".*")
	publishEach(h, publisher, t+".old", t+".new")
	in.ackAll(t+".old", t+".new")
	exact.ackAll(t + ".old")
}

func deadLettersComeByNoPattern(h *harness) {
	t := h.topic()
	requireMatched(h, t+".#", []string{t + ".eu"}, []string{t + ".eu" + backend.DeadLetterSuffix})
}

func patternIsNoTopic(h *harness) {
	t := h.topic()
	plain, grouped := connect(h, PeerConfig{}), connect(h, PeerConfig{Group: "one"})
	for _, pattern := range []string{t + ".*", t + ".#", t + ".**"} {
		h.require(plain.trySubscribe(pattern) == nil, "a consumer without a group has subscribed to the pattern %q", pattern)
		h.require(!plain.trySend(pattern, h.message("a")), "a message was published to the pattern %q", pattern)
	}
	for _, pattern := range []string{t + ".**", t + ".#*", t + ".a*", t + "..*", t + ".*."} {
		h.require(grouped.trySubscribe(pattern) == nil, "a group has subscribed to %q, which is no pattern", pattern)
	}
}
