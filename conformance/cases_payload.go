package conformance

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/ThreeDotsLabs/watermill/message"
)

func payload() []Case {
	return theme("payload",
		promise("any bytes",
			"A payload may be any bytes: each value, NUL and what is not UTF-8 included.",
			0, anyBytes),
		promise("no bytes",
			"A payload may be empty.",
			0, noBytes),
		promise("JSON stays as it was written",
			"A payload that is JSON arrives byte for byte: spaces, order, repeated keys and large numbers are kept.",
			0, jsonIsKept),
		promise("large",
			"A payload may have 512 KiB.",
			0, largePayload),
		promise("any text in metadata",
			"Metadata may be any text: all of Unicode, quotes, line breaks, what looks like JSON.",
			0, anyMetadata),
		promise("many metadata",
			"A message may have a hundred pairs of metadata, with values of 500 bytes.",
			0, manyMetadata),
		promise("the id is the publisher's",
			"A message keeps the id that its publisher gave it, whatever that is; two may have the same, and one without arrives too.",
			0, idIsKept),
	)
}

// requireArrival publishes messages, one after the other, and ends the case unless each
// arrives as it was.
func requireArrival(h *harness, msgs ...*message.Message) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	in := p.subscribe(topic)
	for _, sent := range msgs {
		want := sent.Copy()
		p.send(topic, sent)
		got := in.receive()
		requireSame(h, got, want)
		h.ack(got)
	}
}

// messagesWith returns messages with those payloads.
func messagesWith(h *harness, payloads ...string) (msgs []*message.Message) {
	for i, text := range payloads {
		msgs = append(msgs, message.NewMessage(fmt.Sprint(h.id, "-", i), []byte(text)))
	}
	return msgs
}

func anyBytes(h *harness) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	requireArrival(h, messagesWith(h, string(all), "\x00", "\xff\xfe", "text", `\u0000`, "ü 語 😀")...)
}

func noBytes(h *harness) {
	msgs := messagesWith(h, "", "")
	msgs[1].Payload = nil
	requireArrival(h, msgs...)
}

func jsonIsKept(h *harness) {
	requireArrival(h, messagesWith(h, `{ "b":1, "a" : 2,"a":3 }`, `12345678901234567890.10`, `null`, `"\u0041\u0000"`, " [1 ]\n", `{"a":`)...)
}

func largePayload(h *harness) {
	requireArrival(h, messagesWith(h, string(bytes.Repeat([]byte("\x00\xff0123456789abcd"), 32<<10)))...)
}

func anyMetadata(h *harness) {
	msg := h.message("a")
	for _, text := range []string{"Grüße", "語", "😀", `a "quoted" one`, "it's", `{"a":1}`, "two\nlines\r\n", `back\slash`, "null", " spaces ", "a=b&c;d,e"} {
		msg.Metadata.Set("k"+text, text)
	}
	requireArrival(h, msg)
}

func manyMetadata(h *harness) {
	msg := h.message("a")
	for i := range 100 {
		msg.Metadata.Set(fmt.Sprintf("key_%d", i), strings.Repeat(fmt.Sprint(i%10), 500))
	}
	requireArrival(h, msg)
}

func idIsKept(h *harness) {
	msgs := messagesWith(h, "0", "1", "2", "3")
	for i, id := range []string{"same", "same", "Not-A-UUID/ü", strings.Repeat("x", 200)} {
		msgs[i].UUID = id
	}
	requireArrival(h, msgs...)

	p, topic := connect(h, PeerConfig{}), h.topic()
	in := p.subscribe(topic)
	anonymous := h.message("a")
	anonymous.UUID = ""
	p.send(topic, anonymous)
	h.ack(in.expect("a")) // under an id that the backend may choose
}
