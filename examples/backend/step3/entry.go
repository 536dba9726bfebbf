package step3

import (
	"maps"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

// entry is a message as it is stored.
type entry struct {
	place    int
	visible  time.Time // not before
	stored   time.Time
	number   int // of the last delivery
	record   backend.Redelivery
	id       string
	payload  []byte
	metadata map[string]string
}

// newEntry copies a message.
func newEntry(msg *message.Message) (*entry, error) {
	delay, visible, err := backend.DelayOf(msg)
	if err != nil {
		return nil, err
	}
	if delay > 0 {
		visible = time.Now().Add(delay)
	}
	e := &entry{
		visible: visible, stored: time.Now(),
		id: msg.UUID, payload: slices.Clone(msg.Payload), metadata: maps.Clone(msg.Metadata),
	}
	backend.ClearDelay(e.metadata) // it must not delay what is published with them again
	return e, nil
}

// deadLetter returns the entry as it arrives at target: its failures start anew.
func (e *entry) deadLetter(target *backend.DeadLetterTarget) *entry {
	metadata := maps.Clone(e.metadata)
	if metadata == nil {
		metadata = map[string]string{}
	}
	maps.Copy(metadata, target.Metadata)
	return &entry{stored: time.Now(), id: e.id, payload: e.payload, metadata: metadata}
}
