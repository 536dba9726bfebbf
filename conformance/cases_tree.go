package conformance

import (
	"errors"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/ezq"
)

// caused is a message of a correlation, which says what has caused it.
func caused(h *harness, label, correlation, cause string) *message.Message {
	msg := h.message(label)
	msg.Metadata = message.Metadata{"name": label}
	for header, of := range map[string]string{"correlation_id": correlation, "causation_id": cause} {
		if of != "" {
			msg.Metadata.Set(header, h.message(of).UUID)
		}
	}
	return msg
}

func correlationIsATree(h *harness) {
	p, topic, other := connect(h, PeerConfig{}), h.topic(), h.topic()
	in := p.subscribe(topic)
	p.initialize(topic + backend.DeadLetterSuffix)
	p.initialize(other)
	p.send(topic, caused(h, "dead", "order", "order"))
	dead := in.expect("dead")
	h.require(backend.DeadLetter(dead, backend.DeadLetterTarget{
		Topic: topic + backend.DeadLetterSuffix, Metadata: backend.DeadLetterMetadata(topic, "mail", 1, errors.New("no such user")),
	}), "DeadLetter returned false for a message that was not settled")
	for _, msg := range []*message.Message{
		caused(h, "order", "", ""), caused(h, "child", "order", "dead"), caused(h, "orphan", "order", "gone"),
		caused(h, "one", "order", "two"), caused(h, "two", "order", "one"), caused(h, "self", "order", "self"), caused(h, "beside", "another", "order"),
	} {
		backend.SetDelay(msg, time.Hour)
		p.send(other, msg)
	}
	want := []string{
		"order: delayed", "  dead: dead (no such user)", "    child: delayed", "orphan: delayed; its cause gone is gone",
		"one: delayed; its cause two leads back to it", "  two: delayed", "self: delayed; its cause self leads back to it",
	}
	labels := strings.NewReplacer(h.id+"-", "", " on "+topic, "", " on "+other, "")
	for deadline := time.Now().Add(h.timeout); ; time.Sleep(10 * time.Millisecond) {
		var tree *ezq.Tree
		h.must("Find", func() (err error) {
			tree, err = ezq.FindTree(h.ctx, selectionOf(p), h.message("child").UUID, topic, other)
			return err
		})
		var got []string
		for line := range strings.Lines(labels.Replace(tree.String())) {
			indent := line[:len(line)-len(strings.TrimLeft(line, " "))]
			_, told, _ := strings.Cut(strings.TrimSpace(line), " ") // after its name
			got = append(got, indent+told)
		}
		if strings.Join(got, "\n") == strings.Join(want, "\n") {
			return
		}
		h.require(time.Now().Before(deadline), "the tree is %q instead of %q", got, want)
	}
}
