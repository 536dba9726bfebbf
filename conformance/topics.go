package conformance

import (
	"fmt"
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

func oddNames(b *bench) {
	p := b.connect(Options{})
	for _, name := range []string{
		"", "-", "a.b", "a/b", "a b", "Ü語😀", "'; DROP TABLE x; --", `"q"`, "*", ">", "#", "%s", "\x00", "\xff",
		"UPPER", strings.Repeat("x", 300),
	} {
		topic := name + b.id
		if name == "" {
			topic = ""
		}
		in := p.trySubscribe(topic)
		if in == nil || !p.trySend(topic, b.message("a")) {
			continue
		}
		msg := in.within(b.patience)
		for topic == "" && msg != nil && !strings.HasPrefix(string(msg.Payload), b.id) {
			msg.Ack() // of a run before this one: there is but one topic of that name
			msg = in.within(b.patience)
		}
		b.require(msg != nil, "no message came within %v on the topic %.40q, which was not refused", b.patience, topic)
		b.require(b.label(msg) == "a", "%q came on the topic %q", b.label(msg), topic)
		b.ack(msg)
		in.stop()
		in.end("its context ended")
	}
}

func alikeNames(b *bench) {
	long := strings.Repeat("x", 60)
	for _, names := range [][2]string{{"a", "A"}, {"a.b", "a_b"}, {"a-b", "a_b"}, {"a/b", "a.b"}, {long + "1", long + "2"}} {
		b.requireApart(names)
	}
}

func (b *bench) requireApart(names [2]string) {
	p, prefix := b.connect(Options{}), b.topic()
	ins := [2]*inbox{p.trySubscribe(prefix + names[0]), p.trySubscribe(prefix + names[1])}
	if ins[0] == nil || ins[1] == nil {
		return
	}
	for i := range 8 { // or chance decides who gets what the two share
		name, other, label := names[i%2], names[1-i%2], fmt.Sprint(prefix, i)
		if !p.trySend(prefix+name, b.message(label)) {
			continue
		}
		msg := ins[i%2].within(b.patience)
		b.require(msg != nil && b.label(msg) == label,
			"what was published to %q did not arrive there while there was a subscription to %q", name, other)
		b.ack(msg)
	}
	for _, in := range ins {
		in.none(moment/5, "it was published to "+strings.Join(names[:], " or ")+", and acked there")
		in.stop()
		in.end("its context ended")
	}
}
