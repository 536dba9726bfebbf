package conformance

import (
	"strings"
)

func topics() []Case {
	return theme("topics",
		promise("an odd name works or is refused",
			"A topic may be called anything: either Subscribe or Publish returns an error, or what is published arrives.",
			0, oddNames),
		promise("names that are alike are apart",
			"Topics whose names differ in case, in punctuation or at the end of a long name do not share messages.",
			0, alikeNames),
	)
}

func oddNames(h *harness) {
	p := connect(h, PeerConfig{})
	for _, name := range []string{
		"", "-", "a.b", "a/b", "a b", "Ü語😀", "'; DROP TABLE x; --", `"q"`, "*", ">", "#", "%s", "\x00", "\xff",
		"UPPER", strings.Repeat("x", 300),
	} {
		topic := name + h.id
		if name == "" {
			topic = ""
		}
		in := p.trySubscribe(topic)
		if in == nil || !p.trySend(topic, h.message("a")) {
			continue
		}
		msg := in.receive()
		for topic == "" && !h.isOurs(msg) { // an earlier run has left it in the topic that has no name of its own
			h.ack(msg)
			msg = in.receive()
		}
		h.require(h.label(msg) == "a", "%q came on the topic %q", h.label(msg), topic)
		h.ack(msg)
		in.stop()
		in.end("its context ended")
	}
}

func alikeNames(h *harness) {
	p, long := connect(h, PeerConfig{}), strings.Repeat("x", 60)
	for _, names := range [][2]string{{"a", "A"}, {"a.b", "a_b"}, {"a-b", "a_b"}, {"a/b", "a.b"}, {long + "1", long + "2"}} {
		for _, pair := range [][2]string{names, {names[1], names[0]}} {
			prefix := h.topic() // so that no pair sees what another one has left
			requireApart(h, p, prefix+pair[0], prefix+pair[1])
		}
	}
}

// requireApart ends the case if a message that is published to one topic arrives at the
// other, as long as it has no other consumer.
func requireApart(h *harness, p *peer, here, there string) {
	in := p.trySubscribe(here)
	if in == nil {
		return
	}
	if p.tryInitialize(there) && p.trySend(there, h.message("there")) {
		in.none(quietPeriod/5, "it was published to "+there+" and not to "+here)
	}
	in.stop()
	in.end("its context ended")
}
