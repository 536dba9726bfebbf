package conformance

import (
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

// jsonMessage returns a message with a body of JSON.
func jsonMessage(h *harness, label, body string) *message.Message {
	msg := h.message(label)
	msg.Payload, msg.Metadata = []byte(body), message.Metadata{"content-type": "application/json"}
	return msg
}

// fieldTest is what a path and a value choose of bodies.
type fieldTest struct {
	field  string
	equals any
	want   []string // labels, which are sorted
}

// bodies returns bodies by their labels, and what is chosen of them.
func bodies() (byLabel map[string]string, tests []fieldTest) {
	byLabel = map[string]string{
		"number":  `{"_type":"Paid","order":{"id":7,"paid":true,"no.":"A"}}`,
		"text":    `{"_type":"Paid","order":{"id":"7","paid":"true"}}`,
		"decimal": `{"order":{"id":7.00,"paid":false}}`,
		"other":   `{"order":{"id":70},"id":7}`,
		"list":    `{"order":[{"id":7}]}`,
		"no body": `["order","id",7]`,
		"plain":   `{"order":7}`,
		"null":    `{"order":{"id":null}}`,
		"last":    `{"order":{"id":7},"order":{"id":8}}`,
		"escaped": `{"\u006frder":{"id":"\u00e4\u2028"}}`,
	}
	tests = []fieldTest{
		{"order.id", 7, []string{"decimal", "number"}},
		{"order.id", 7.5, nil},
		{"order.id", "7", []string{"text"}},
		{"order.paid", true, []string{"number"}},
		{"order.id", "\u00e4\u2028", []string{"escaped"}},
		{"_type", "Paid", []string{"number", "text"}},
		{"order", 7, []string{"plain"}},
		{"id", 7, []string{"other"}},
		{"Order.id", 7, nil},
		{"order.0.id", 7, nil},
	}
	return byLabel, tests
}

func fieldIsFound(h *harness) {
	one, two, topic := connect(h, PeerConfig{}), connect(h, PeerConfig{}), h.topic()
	one.initialize(topic)
	all, tests := bodies()
	labels := map[string]string{}
	for label, body := range all {
		msg := jsonMessage(h, label, body)
		backend.SetDelay(msg, time.Hour)
		one.send(topic, msg)
		labels[msg.UUID] = label
	}
	for _, test := range tests {
		var got []string
		for _, f := range find(two, topic, backend.Selection{Field: test.field, Equals: test.equals}) {
			got = append(got, labels[f.ID])
		}
		slices.Sort(got)
		h.require(slices.Equal(got, test.want), "by the field %s with the value %#v these are found: %q instead of %q", test.field, test.equals, got, test.want)
	}
	found := find(two, topic, backend.Selection{Field: "order.id", Equals: 7, Event: "Paid"})
	h.require(len(found) == 1, "by a field and an event %d messages are found instead of one", len(found))
	for _, s := range []backend.Selection{
		{Field: "order"}, {Equals: 7}, {Field: "order..id", Equals: 7}, {Field: "order.", Equals: 7}, {Field: "order\x00", Equals: 7}, {Field: "order", Equals: "\x00"}, {Field: "order", Equals: []int{7}},
	} {
		err := h.call("Find", func() error { _, err := selectionOf(two).Find(h.ctx, topic, s); return err })
		h.requireRefusal(err)
		h.require(err != nil, "Find accepted the field %q with the value %#v", s.Field, s.Equals)
	}
}

func fieldChoosesDeadLetters(h *harness) {
	g := newDeadLetterCase(h)
	labels := map[string]string{}
	all, tests := bodies()
	for _, label := range []string{"number", "text", "list", "no body"} {
		msg := jsonMessage(h, label, all[label])
		labels[msg.UUID] = label
		g.deadLetter(msg, "mail", "r")
	}
	requireListed := func(s backend.DeadLetterSelection, want ...string) {
		var got []string
		for _, letter := range g.list(s) {
			got = append(got, labels[letter.ID])
		}
		h.require(slices.Equal(got, want), "by the field %q with the value %#v these dead letters are listed: %q instead of %q", s.Field, s.Equals, got, want)
	}
	for _, test := range tests[:4] {
		want := slices.DeleteFunc(slices.Clone(test.want), func(label string) bool { return label == "decimal" })
		requireListed(backend.DeadLetterSelection{Field: test.field, Equals: test.equals}, want...)
	}
	done := g.redrive(backend.DeadLetterSelection{Field: "order.id", Equals: "7"})
	requireChanged(h, "moved", done.Moved, done.Busy, 1, 0)
	back := g.in.receive()
	h.require(labels[back.UUID] == "text", "the message %q came back", labels[back.UUID])
	h.ack(back)
	purged := g.purge(backend.DeadLetterSelection{Field: "order.id", Equals: 7})
	requireChanged(h, "deleted", purged.Removed, purged.Busy, 1, 0)
	requireListed(backend.DeadLetterSelection{}, "list", "no body")
	err := h.call("Redrive", func() error {
		_, err := g.store().Redrive(h.ctx, g.dead, backend.DeadLetterSelection{Field: "order"})
		return err
	})
	h.requireRefusal(err)
	h.require(err != nil, "Redrive accepted a field without a value")
}
