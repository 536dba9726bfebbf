package conformance

import "strings"

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
		b.require(msg != nil, "no message came within %v on the topic %.40q, which was not refused", b.patience, topic)
		b.require(b.label(msg) == "a", "%q came on the topic %q", b.label(msg), topic)
		b.ack(msg)
		in.stop()
		in.end("its context ended")
	}
}

func alikeNames(b *bench) {
	p, long := b.connect(Options{}), strings.Repeat("x", 60)
	for _, names := range [][2]string{{"a", "A"}, {"a.b", "a_b"}, {"a-b", "a_b"}, {"a/b", "a.b"}, {long + "1", long + "2"}} {
		one, two := p.trySubscribe(b.id+names[0]), p.trySubscribe(b.id+names[1])
		if one == nil || two == nil {
			continue
		}
		for i, in := range []*inbox{one, two} {
			if !p.trySend(b.id+names[i], b.message(names[i])) {
				continue
			}
			msg := in.within(b.patience)
			b.require(msg != nil && b.label(msg) == names[i],
				"what was published to %q did not arrive there while there was a subscription to %q", names[i], names[1-i])
			b.ack(msg)
		}
		for _, in := range []*inbox{one, two} {
			in.none(moment/5, "it was published to "+strings.Join(names[:], " or ")+", and acked there")
			in.stop()
			in.end("its context ended")
		}
	}
}
