package conformance

import (
	"strconv"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

// numbered returns the labels 0 to n-1.
func numbered(n int) (labels []string) {
	for i := range n {
		labels = append(labels, strconv.Itoa(i))
	}
	return labels
}

// setOf returns the labels as a set.
func setOf(labels []string) map[string]bool {
	set := map[string]bool{}
	for _, label := range labels {
		set[label] = true
	}
	return set
}

// anyOf returns the least label of a set.
func anyOf(set map[string]bool) string {
	least := ""
	for label := range set {
		if least == "" || label < least {
			least = label
		}
	}
	return least
}

// requireSame ends the case unless got is what was sent.
func requireSame(h *harness, got, sent *message.Message) {
	h.require(got.UUID == sent.UUID, "the id %q arrived as %q", sent.UUID, got.UUID)
	h.require(string(got.Payload) == string(sent.Payload), "the payload %.100q arrived as %.100q", sent.Payload, got.Payload)
	for key, value := range sent.Metadata {
		arrived, there := got.Metadata[key]
		h.require(there, "the metadata %.40q did not arrive (its key has %d bytes)", key, len(key))
		h.require(arrived == value, "the metadata %.40q arrived with the value %.40q instead of %.40q", key, arrived, value)
	}
	for key := range got.Metadata {
		_, there := sent.Metadata[key]
		h.require(there, "a message arrived with the metadata %.40q, which was not published", key)
	}
}

// deliveryOf returns what the backend knows about the delivery of msg.
func deliveryOf(h *harness, msg *message.Message) *backend.Delivery {
	d := backend.DeliveryFromContext(msg.Context())
	h.require(d != nil, "there is no backend.Delivery in the context of a message")
	return d
}

// awaitContextEnd waits for the context of a message to end.
func awaitContextEnd(h *harness, msg *message.Message, why string) {
	h.require(closedWithin(msg.Context().Done(), h.timeout),
		"the context of a message had not ended %v later, although %s", h.timeout, why)
}
